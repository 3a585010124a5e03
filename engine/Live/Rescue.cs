using Testbed.Core;
using Testbed.PageXfer.Images;
using Testbed.Uffd;

namespace Testbed.Live;

/// <summary>
/// Brings memory back when the service that was to do so is gone: failed, or killed with its whole process. A second service
/// takes over, with what the images, the journal and the kernel know, and moves everything that is away.
/// </summary>
public static class Rescue
{
    private static readonly TimeSpan Pause = TimeSpan.FromSeconds(5);

    /// <summary>Whether a directory holds the journal of a capture that did not end well.</summary>
    public static bool IsNeeded(string directory)
    {
        if (!ChangeJournal.Exists(directory))
            return false;
        using ChangeJournal journal = ChangeJournal.Open(directory);
        return journal.Phase is not (CapturePhase.Prepared or CapturePhase.Ended);
    }

    /// <summary>Brings back the memory of a process whose daemon and guard are dead, and lets it go.</summary>
    /// <param name="directory">The images and the journal of its capture; the journal is removed when all is well.</param>
    /// <param name="pid">The process, to be sure that it is the right one.</param>
    /// <param name="log">Is told in a line what is waited for, if anything is.</param>
    /// <exception cref="BadInputException">It is another process, somebody else serves it, or something in the directory is missing.</exception>
    public static FinishOutcome Run(string directory, int pid, Action<string> log)
    {
        using ChangeJournal journal = ChangeJournal.OpenToRescue(directory);
        using ImageDirectory images = ImageDirectory.Open(directory);
        using var nothing = new SavedDescriptors();
        FinishOutcome outcome = HowItIsWell(journal, pid) ?? RunOnce();
        journal.Phase = CapturePhase.Ended;
        journal.Remove();
        return outcome;

        FinishOutcome RunOnce()
        {
            using InPlaceTarget? target = Find(journal, pid, nothing, log);
            return Run(target, new Dictionary<int, UserFaultFd>(), images, journal, log);
        }
    }

    /// <summary>
    /// Whether all memory is where it belongs: the recorder was killed before it had made a userfaultfd, or after it had
    /// closed it inside the process.
    /// </summary>
    private static FinishOutcome? HowItIsWell(ChangeJournal journal, int pid)
    {
        bool mayBe = journal is { Phase: CapturePhase.Evicting, TargetFd: < 0 } or { Phase: CapturePhase.Finishing };
        if (!mayBe || journal.Pid != pid || InPlaceTarget.HasUserFaultFdIn(pid))
            return null;
        return ProcessInfo.IsRunning(pid, journal.StartTime) ? FinishOutcome.Detached : FinishOutcome.Exited;
    }

    /// <summary>
    /// Brings back the memory of a process whose daemon is dead, and lets it go: as long as it lives, nothing makes this give up. What fails is told
    /// and tried again.
    /// </summary>
    /// <param name="images">Its images, open.</param>
    /// <param name="journal">Its journal.</param>
    /// <param name="pid">The process.</param>
    /// <param name="saved">Descriptors that somebody saved: of the process (0), and of children that it forked meanwhile.</param>
    /// <param name="log">Is told what is waited for.</param>
    internal static FinishOutcome Run(ImageDirectory images, ChangeJournal journal, int pid, SavedDescriptors saved, Action<string> log)
    {
        saved.Complete(journal.ReadChanges(), children: 1);
        Dictionary<int, UserFaultFd> children = saved.All.Where(s => s.Key != 0).ToDictionary();
        if (!saved.All.ContainsKey(0) && HowItIsWell(journal, pid) is { } well)
            return well;
        InPlaceTarget? target = null;
        for (string? told = null; ; Thread.Sleep(Pause))
        {
            try
            {
                target ??= Find(journal, pid, saved, log);
                FinishOutcome outcome = Run(target, children, images, journal, log);
                target?.Dispose();
                return outcome;
            }
            catch (Exception e) when (e is BadInputException or InvalidOperationException or IOException or UnauthorizedAccessException)
            {
                if (told != e.Message)
                    log($"the memory of process {pid} cannot be brought back: {e.Message}; the process waits, and this is tried again every {Pause.TotalSeconds:0} s; to give up, kill process {pid}");
                told = e.Message;
            }
        }
    }

    /// <summary>The same, with what the caller has of it already.</summary>
    internal static FinishOutcome Run(
        InPlaceTarget? target, Dictionary<int, UserFaultFd> children, ImageDirectory images, ChangeJournal journal, Action<string> log)
    {
        // Killed while finishing: every page is in, and pages that are missing now are ones that the program dropped.
        if (journal.Phase != CapturePhase.Finishing)
            BringBack(target, children, images, journal, log);
        return target?.Finish(journal.Staging) ?? FinishOutcome.Exited;
    }

    private static InPlaceTarget? Find(ChangeJournal journal, int pid, SavedDescriptors saved, Action<string> log)
    {
        if (journal.Pid != pid)
            throw new BadInputException($"the journal is about process {journal.Pid}; expected {pid}");
        saved.All.TryGetValue(0, out UserFaultFd? fd);
        return ProcessInfo.IsRunning(pid, journal.StartTime) ? InPlaceTarget.Adopt(pid, journal.TargetFd, fd, log) : null;
    }

    private static void BringBack(
        InPlaceTarget? target, Dictionary<int, UserFaultFd> children, ImageDirectory images, ChangeJournal journal, Action<string> log)
    {
        if (journal.Phase == CapturePhase.Evicting && target is not null)
            InterruptedEviction.Settle(target.Fd, target.Info.Pid, journal);
        uint pid = (uint)journal.Pid;
        var second = new SecondService([(pid, images.LazyMemory(pid))], journal, namesThreads: true);
        foreach (PageRange present in target?.PresentRegistered() ?? [])
            second.Service.Handle(new ServiceEvent(ServiceEventKind.Unmapped, default, 0, present));
        var all = new Dictionary<int, UserFaultFd>(children);
        if (target is not null)
            all[0] = target.Fd;
        using var live = new LiveService(
            second.Service, SecondService.Transfer.Lanes, static _ => null, images, SecondService.Silent, MonotonicClock.Start())
        { Journal = journal };
        journal.Phase = CapturePhase.Serving;
        live.Continue(second.Served(all), second.Spaces);
        live.Drain();
        var watch = new SourceWatch((_, line) => log($"process {pid}: {line}"));
        while (!live.WaitUntilComplete(TimeSpan.FromMilliseconds(100)))
            watch.Look(live);
        live.Stop();
        if (live.Failure is { } failure)
        {
            // Whoever tries again needs them open, and more than these can have been forked meanwhile.
            foreach (ServedProcess process in live.StopAndRelease().Where(p => p.Space != 0))
                children[process.Space] = process.Fd;
            throw new InvalidOperationException($"the memory of process {pid} could not be brought back: {failure.Message}", failure);
        }
        watch.Look(live);
        journal.Phase = CapturePhase.Finishing;
    }
}
