using System.Diagnostics;
using System.Runtime.InteropServices;
using Testbed.Core;
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

    internal const char Ready = 'R', Keep = 'K', Keeper = 'P', Done = 'D';

    /// <summary>Stands guard. Standard input is the channel to the recorder.</summary>
    /// <param name="pid">The target.</param>
    /// <param name="recorder">The process whose death is waited for.</param>
    /// <param name="directory">The images and the journal.</param>
    /// <param name="deleteImages">Whether they were temporary.</param>
    /// <returns>The exit code: 0 when the target has all its memory.</returns>
    public static int Run(int pid, int recorder, string directory, bool deleteImages) =>
        Stand(recorder, saved => BringBack(pid, recorder, directory, deleteImages, saved));

    /// <summary>Stands guard over any service. Standard input is the channel to it.</summary>
    /// <param name="over">The process whose death is waited for.</param>
    /// <param name="takeOver">Called when it died without saying that all is well, with the descriptors that it entrusted; gives the exit code.</param>
    public static int Stand(int over, Func<SavedDescriptors, int> takeOver)
    {
        PosixSignalRegistration[] ignored =
        [
            .. ((PosixSignal[])[PosixSignal.SIGINT, PosixSignal.SIGTERM, PosixSignal.SIGHUP, PosixSignal.SIGQUIT])
                .Select(signal => PosixSignalRegistration.Create(signal, context => context.Cancel = true)),
        ];
        using var channel = new DescriptorChannel(0);
        using var saved = new SavedDescriptors();
        using PidFd? service = Find(over);
        channel.Send(Ready);
        // The channel is not closed with the service: its keeper holds the other end.
        while (channel.Receive(service is null ? TimeSpan.Zero : Timeout.InfiniteTimeSpan, service) is { } message && message.Kind != 0)
        {
            if (message.Kind == Done)
                return 0;
            saved.Take(message);
        }
        // A dying process closes its descriptors first, and lets its tracees go last.
        _ = service?.WaitForExit(TimeSpan.FromSeconds(30));
        Guard.SetPriority(Environment.ProcessId, ProcessPriorityClass.Normal);
        int exitCode = takeOver(saved);
        GC.KeepAlive(ignored);
        return exitCode;
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

    private static int BringBack(int pid, int recorder, string directory, bool deleteImages, SavedDescriptors saved)
    {
        string what;
        bool well = true;
        try
        {
            what = !Rescue.IsNeeded(directory)
                ? "before any memory was taken; the process runs on as it was"
                : Rescue.Run(directory, pid, saved, line => Log($"{DateTimeOffset.Now:u} {line}")) switch
                {
                    FinishOutcome.Detached => "and the process has all its memory back",
                    FinishOutcome.Executed => "and the process runs another program now (exec)",
                    _ => "and the process has exited",
                };
        }
        catch (Exception e) when (e is BadInputException or InvalidOperationException or IOException or UnauthorizedAccessException)
        {
            what = $"and the memory could not be brought back: {e.Message.ReplaceLineEndings(" ")}";
            well = false;
        }
        bool keep = !deleteImages || !well;
        if (!keep && Directory.Exists(directory))
            Directory.Delete(directory, recursive: true);
        else if (well)
            ChangeJournal.Delete(directory);
        string advice = well ? "" : $"; try: testbed rescue --pid {pid} --images {directory}";
        Log($"{DateTimeOffset.Now:u} testbed {recorder} was killed while it recorded process {pid}, {what}{advice}");
        return well ? 0 : 1;
    }

    /// <summary>The terminal went with the recorder: what is to be known is in a file.</summary>
    private static void Log(string line)
    {
        try
        {
            File.AppendAllText(Path.Combine(Path.GetTempPath(), "testbed-guard.log"), line + "\n");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // There is nobody left to tell.
        }
    }
}
