using Testbed.Core;
using Testbed.PageXfer.Images;
using Testbed.PageXfer.Server;
using Testbed.PageXfer.Xfer;
using Testbed.Policies;
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
    public static FinishOutcome Run(string directory, int pid, IReadOnlyDictionary<int, UserFaultFd> saved)
    {
        using ChangeJournal journal = ChangeJournal.Open(directory);
        if (journal.Pid != pid)
            throw new BadInputException($"{directory}: is about process {journal.Pid}; expected {pid}");
        saved.TryGetValue(0, out UserFaultFd? fd);
        using InPlaceTarget? target = ProcessInfo.IsRunning(pid, journal.StartTime) ? InPlaceTarget.Adopt(pid, journal.TargetFd, fd) : null;
        return Run(target, saved.Where(s => s.Key != 0).Select(s => (s.Key, s.Value)), directory, journal);
    }

    /// <summary>The same, with what the caller has of it already.</summary>
    internal static FinishOutcome Run(
        InPlaceTarget? target, IEnumerable<(int Space, UserFaultFd Fd)> children, string directory, ChangeJournal journal)
    {
        // Killed while finishing: every page is in, and pages that are missing now are ones that the program dropped.
        if (journal.Phase != CapturePhase.Finishing)
            BringBack(target, [.. children], directory, journal);
        return target?.Finish() ?? FinishOutcome.Exited;
    }

    private static void BringBack(
        InPlaceTarget? target, List<(int Space, UserFaultFd Fd)> children, string directory, ChangeJournal journal)
    {
        if (journal.Phase == CapturePhase.Evicting)
            target?.SettleEviction(journal);
        if (journal.HasOverflown)
            throw new BadInputException($"{directory}: the journal is incomplete, for its disk was full; which pages the program dropped meanwhile is not known");
        using ImageDirectory images = ImageDirectory.Open(directory);
        using var server = new PageServer(new PageServerOptions { Source = images });
        uint pid = (uint)journal.Pid;
        PolicySpec policy = PolicyCatalog.Parse("demand");
        var transfer = new TransferOptions { Lanes = 1, MaxInFlight = 4 << 20, MaxRequest = 1 << 20 };
        var service = new FaultService(transfer, map => policy.Create(new PolicyEnvironment(map, [], 0)), new Nobody());
        service.AddSpace(0, images.LazyMemory(pid));
        int spaces = Replay(journal, service);
        foreach (PageRange present in target?.PresentRegistered() ?? [])
            service.Handle(new ServiceEvent(ServiceEventKind.Unmapped, default, 0, present));
        if (target is not null)
            children.Insert(0, (0, target.Fd));
        foreach (int lost in Enumerable.Range(0, spaces).Except(children.Select(c => c.Space)))
            service.Handle(new ServiceEvent(ServiceEventKind.Exited, default, lost, default));
        using var live = new LiveService(
            service, transfer.Lanes, _ => PageLane.Connect(server.EndPoint), null, new Nobody(), MonotonicClock.Start(), journal);
        journal.Phase = CapturePhase.Serving;
        live.Continue(children.Select(c => new ServedProcess(c.Space, pid, c.Fd)), spaces);
        live.Drain();
        live.WaitUntilComplete(Timeout.InfiniteTimeSpan);
        live.Stop();
        if (live.Failure is { } failure)
            throw new InvalidOperationException($"the memory of process {pid} could not be brought back: {failure.Message}", failure);
        journal.Phase = CapturePhase.Finishing;
    }

    /// <summary>Tells a fresh service what became of the address spaces.</summary>
    /// <returns>How many there were, living or not.</returns>
    private static int Replay(ChangeJournal journal, FaultService service)
    {
        int spaces = 1;
        foreach ((int space, UffdMessage message) in journal.ReadChanges())
            service.Handle(LiveService.ChangeOf(message, space, message.Event == UffdEvent.Fork ? spaces++ : 0, default));
        return spaces;
    }

    private sealed class Nobody : IServiceObserver, ILiveLog
    {
        public void OnRequested(Instant time, int space, PageRange range, Cause cause) { }

        public void OnInstalled(in InstallRecord install) { }

        public void OnResolved(in FaultRecord fault) { }

        public void OnEvent(in ServiceEvent e) { }

        public int OnNewThread(int tid) => tid;
    }
}
