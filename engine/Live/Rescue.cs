using Testbed.Core;
using Testbed.PageXfer.Images;
using Testbed.PageXfer.Server;
using Testbed.PageXfer.Xfer;
using Testbed.Uffd;

namespace Testbed.Live;

/// <summary>
/// Brings memory back when the service that was to do so is gone: failed, or killed with its whole process. A second service
/// takes over, with what the images, the journal and the kernel know, and moves everything that is away.
/// </summary>
public static class Rescue
{
    /// <summary>Whether a directory holds the journal of a capture that did not end well.</summary>
    public static bool IsNeeded(string directory)
    {
        if (!ChangeJournal.Exists(directory))
            return false;
        using ChangeJournal journal = ChangeJournal.Open(directory);
        return journal.Phase != CapturePhase.Prepared;
    }

    /// <summary>Brings back the memory of a process whose daemon is dead, and lets it go.</summary>
    /// <param name="directory">The images and the journal of its capture.</param>
    /// <param name="pid">The process, to be sure that it is the right one.</param>
    /// <param name="saved">Descriptors that somebody saved: of the process (0), and of children that it forked meanwhile.</param>
    /// <exception cref="BadInputException">It is another process, or something in the directory is missing.</exception>
    public static FinishOutcome Run(string directory, int pid, SavedDescriptors saved)
    {
        using ChangeJournal journal = ChangeJournal.Open(directory);
        if (journal.Pid != pid)
            throw new BadInputException($"{directory}: is about process {journal.Pid}; expected {pid}");
        saved.Complete(journal.ReadChanges(), children: 1);
        saved.All.TryGetValue(0, out UserFaultFd? fd);
        // Killed before it had made a userfaultfd: nothing was taken.
        if (journal is { Phase: CapturePhase.Evicting, TargetFd: < 0 } && fd is null && !InPlaceTarget.HasUserFaultFdIn(pid))
            return ProcessInfo.IsRunning(pid, journal.StartTime) ? FinishOutcome.Detached : FinishOutcome.Exited;
        using InPlaceTarget? target = ProcessInfo.IsRunning(pid, journal.StartTime) ? InPlaceTarget.Adopt(pid, journal.TargetFd, fd) : null;
        return Run(target, saved.All.Where(s => s.Key != 0).Select(s => (s.Key, s.Value)), directory, journal);
    }

    /// <summary>The same, with what the caller has of it already.</summary>
    internal static FinishOutcome Run(
        InPlaceTarget? target, IEnumerable<(int Space, UserFaultFd Fd)> children, string directory, ChangeJournal journal)
    {
        // Killed while finishing: every page is in, and pages that are missing now are ones that the program dropped.
        if (journal.Phase != CapturePhase.Finishing)
            BringBack(target, [.. children], directory, journal);
        return target?.Finish(journal.Staging) ?? FinishOutcome.Exited;
    }

    private static void BringBack(
        InPlaceTarget? target, List<(int Space, UserFaultFd Fd)> children, string directory, ChangeJournal journal)
    {
        if (journal.Phase == CapturePhase.Evicting)
            target?.SettleEviction(journal);
        using ImageDirectory images = ImageDirectory.Open(directory);
        using var server = new PageServer(new PageServerOptions { Source = images });
        uint pid = (uint)journal.Pid;
        var second = new SecondService([(pid, images.LazyMemory(pid))], journal, namesThreads: true);
        foreach (PageRange present in target?.PresentRegistered() ?? [])
            second.Service.Handle(new ServiceEvent(ServiceEventKind.Unmapped, default, 0, present));
        Dictionary<int, UserFaultFd> all = children.ToDictionary(c => c.Space, c => c.Fd);
        if (target is not null)
            all[0] = target.Fd;
        using var live = new LiveService(
            second.Service, SecondService.Transfer.Lanes, _ => PageLane.Connect(server.EndPoint), null, SecondService.Silent, MonotonicClock.Start())
        { Journal = journal };
        journal.Phase = CapturePhase.Serving;
        live.Continue(second.Served(all), second.Spaces);
        live.Drain();
        live.WaitUntilComplete(Timeout.InfiniteTimeSpan);
        live.Stop();
        if (live.Failure is { } failure)
            throw new InvalidOperationException($"the memory of process {pid} could not be brought back: {failure.Message}", failure);
        journal.Phase = CapturePhase.Finishing;
    }
}
