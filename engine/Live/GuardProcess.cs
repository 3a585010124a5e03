using System.Diagnostics;
using System.Runtime.InteropServices;
using Testbed.Core;
using Testbed.PageXfer.Images;
using Testbed.Uffd;

namespace Testbed.Live;

/// <summary>
/// The guard itself, a process of its own: it waits, without using a CPU, until the recorder says that all is well or dies.
/// In the second case it brings the target's memory back.
/// </summary>
public static class GuardProcess
{
    /// <summary>The hidden verb that it is started with.</summary>
    public const string Verb = "guard";

    internal const char Images = 'I', Ready = 'R', Unable = 'U', Keep = 'K', Keeper = 'P', Journal = 'J', Done = 'D';

    /// <summary>Stands guard. Standard input is the channel to the recorder.</summary>
    /// <param name="pid">The target.</param>
    /// <param name="recorder">The process whose death is waited for.</param>
    /// <param name="directory">The images and the journal.</param>
    /// <param name="deleteImages">Whether they were temporary.</param>
    /// <returns>The exit code: 0 when the target has all its memory.</returns>
    public static int Run(int pid, int recorder, string directory, bool deleteImages)
    {
        using var duty = new CaptureDuty(pid, recorder, directory, deleteImages);
        return Stand(recorder, duty.OpenImages, duty.TakeOver, () => duty.CleanUp(null));
    }

    /// <summary>Stands guard over any service. Standard input is the channel to it.</summary>
    /// <param name="over">The process whose death is waited for.</param>
    /// <param name="openImages">Called once the images are complete, while the service lives: what it opens nobody can take away later.</param>
    /// <param name="takeOver">Called when it died without saying that all is well, with what it entrusted; gives the exit code.</param>
    /// <param name="onDone">Called when it said so: it may be killed right afterwards, and what is left then is left for ever.</param>
    public static int Stand(int over, Action openImages, Func<SavedDescriptors, int> takeOver, Action onDone)
    {
        PosixSignalRegistration[] ignored =
        [
            .. ((PosixSignal[])[PosixSignal.SIGINT, PosixSignal.SIGTERM, PosixSignal.SIGHUP, PosixSignal.SIGQUIT])
                .Select(signal => PosixSignalRegistration.Create(signal, context => context.Cancel = true)),
        ];
        using var channel = new DescriptorChannel(0);
        using var saved = new SavedDescriptors();
        using PidFd? service = Find(over);
        // The channel is not closed with the service: its keeper holds the other end.
        while (channel.Receive(service is null ? TimeSpan.Zero : Timeout.InfiniteTimeSpan, service) is { } message && message.Kind != 0)
        {
            if (message.Kind == Done)
            {
                onDone();
                return 0;
            }
            if (message.Kind == Images)
                _ = channel.Send(TryOpen(openImages) ? Ready : Unable);
            saved.Take(message);
        }
        // A dying process closes its descriptors first, and lets its tracees go last.
        _ = service?.WaitForExit(TimeSpan.FromSeconds(30));
        Guard.SetPriority(Environment.ProcessId, ProcessPriorityClass.Normal);
        int exitCode = takeOver(saved);
        GC.KeepAlive(ignored);
        return exitCode;
    }

    private static bool TryOpen(Action openImages)
    {
        try
        {
            openImages();
            return true;
        }
        catch (Exception e) when (e is BadInputException or IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }

    private static PidFd? Find(int pid)
    {
        try
        {
            return new PidFd(pid);
        }
        catch (BadInputException)
        {
            // It is gone, and even collected.
            return null;
        }
    }

    /// <summary>What is done for a capture.</summary>
    private sealed class CaptureDuty(int pid, int recorder, string directory, bool deleteImages) : IDisposable
    {
        private ImageDirectory? _images;

        public void OpenImages() => _images = ImageDirectory.Open(directory);

        public void Dispose() => _images?.Dispose();

        public int TakeOver(SavedDescriptors saved)
        {
            using ChangeJournal? journal = saved.TakeJournal(directory);
            if (journal is { Phase: CapturePhase.Ended })
            {
                CleanUp(journal);
                return 0;
            }
            string what = BringBack(journal, saved);
            CleanUp(journal);
            Log($"testbed {recorder} was killed while it recorded process {pid}, {what}");
            return 0;
        }

        private string BringBack(ChangeJournal? journal, SavedDescriptors saved)
        {
            if (journal is null || _images is null || journal.Phase == CapturePhase.Prepared)
                return MemoryCheck.WhatIsMissing(pid) is { } missing ? $"before it took any memory; {missing}" : "before any memory was taken; the process runs on as it was";
            journal.Holder = Environment.ProcessId;
            FinishOutcome outcome = Rescue.Run(_images, journal, pid, saved, Log);
            journal.Phase = CapturePhase.Ended;
            return outcome switch
            {
                FinishOutcome.Detached => MemoryCheck.WhatIsMissing(pid) ?? "and the process has all its memory back",
                FinishOutcome.Executed => "and the process runs another program now (exec)",
                _ => "and the process has exited",
            };
        }

        /// <summary>Removes what is this capture's, and nobody else's.</summary>
        public void CleanUp(ChangeJournal? journal)
        {
            try
            {
                // The directory of a temporary capture has a name that nobody else has.
                if (deleteImages && Directory.Exists(directory))
                    Directory.Delete(directory, recursive: true);
                else
                    journal?.Remove();
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                Log($"{directory}: cannot be removed ({e.Message})");
            }
        }

        /// <summary>The terminal went with the recorder: what is to be known is in a file.</summary>
        private static void Log(string line)
        {
            try
            {
                File.AppendAllText(Path.Combine(Path.GetTempPath(), "testbed-guard.log"), $"{DateTimeOffset.Now:u} {line.ReplaceLineEndings(" ")}\n");
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                // There is nobody left to tell.
            }
        }
    }
}
