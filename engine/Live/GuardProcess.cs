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

    internal const char Ready = 'R', Keep = 'K', Done = 'D';

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
    public static int Stand(int over, Func<IReadOnlyDictionary<int, UserFaultFd>, int> takeOver)
    {
        PosixSignalRegistration[] ignored =
        [
            .. ((PosixSignal[])[PosixSignal.SIGINT, PosixSignal.SIGTERM, PosixSignal.SIGHUP, PosixSignal.SIGQUIT])
                .Select(signal => PosixSignalRegistration.Create(signal, context => context.Cancel = true)),
        ];
        using var channel = new DescriptorChannel(0);
        Dictionary<int, UserFaultFd> saved = [];
        channel.Send(Ready);
        while (channel.Receive(Timeout.InfiniteTimeSpan) is { } message && message.Kind != 0)
        {
            if (message.Kind == Done)
                return 0;
            Save(saved, message);
        }
        AwaitEnd(over);
        Guard.SetPriority(Environment.ProcessId, ProcessPriorityClass.Normal);
        int exitCode = takeOver(saved);
        GC.KeepAlive(ignored);
        return exitCode;
    }

    /// <summary>A dying process closes its descriptors first, and lets its tracees go last.</summary>
    private static void AwaitEnd(int pid)
    {
        try
        {
            using var process = new PidFd(pid);
            process.WaitForExit(TimeSpan.FromSeconds(30));
        }
        catch (BadInputException)
        {
            // It is gone, and even collected.
        }
    }

    private static void Save(Dictionary<int, UserFaultFd> saved, ChannelMessage message)
    {
        // Children come and go; a descriptor of memory that is no more is of no use.
        foreach ((int space, UserFaultFd fd) in saved.Where(s => s.Key != 0 && !s.Value.IsAddressSpaceAlive()).ToList())
        {
            fd.Dispose();
            saved.Remove(space);
        }
        if (message is { Kind: Keep, Descriptor: >= 0 })
            saved[message.Value] = new UserFaultFd(message.Descriptor);
    }

    private static int BringBack(int pid, int recorder, string directory, bool deleteImages, IReadOnlyDictionary<int, UserFaultFd> saved)
    {
        string what;
        bool well = true;
        try
        {
            what = !Rescue.IsNeeded(directory)
                ? "before any memory was taken; the process runs on as it was"
                : Rescue.Run(directory, pid, saved) switch
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
