using Testbed.Core;
using Testbed.PageXfer.Images;
using Testbed.PageXfer.Xfer;
using Testbed.Uffd;

namespace Testbed.Live;

/// <summary>What the guard of a lazy-pages daemon does when the daemon was killed: it brings in what is away.</summary>
public static class LazyPagesRecovery
{
    private static readonly TimeSpan RetryPause = TimeSpan.FromSeconds(5);

    /// <summary>
    /// Brings in what is away. As long as one of the processes lives, nothing makes it give up: with the last descriptor their missing pages would read as zero.
    /// </summary>
    /// <param name="options">As for the daemon.</param>
    /// <param name="images">The images, if they were opened while the daemon lived.</param>
    /// <param name="saved">What the daemon entrusted.</param>
    public static void TakeOver(LazyPagesOptions options, ImageDirectory? images, SavedDescriptors saved)
    {
        using ChangeJournal? journal = saved.TakeJournal(null);
        // Without a journal it had not begun; and an end that it wrote down is one, whatever became of its last word.
        if (journal is null or { Phase: CapturePhase.Ended } || saved.All.Count == 0)
            return;
        // Killed before it heard that the processes run, they may do so. Else CRIU, to which nobody listens any more, takes them away.
        options.Log(1, $"the daemon was killed{(journal.Phase == CapturePhase.Serving ? "" : " before it heard that the processes run")}; its guard brings in what is away");
        MonotonicClock clock = MonotonicClock.Start();
        var descriptors = new Dictionary<int, UserFaultFd>();
        for (string? told = null; ; Thread.Sleep(RetryPause))
        {
            try
            {
                images ??= ImageDirectory.Open(options.ImagesPath);
                BringIn(options, images, journal, saved, descriptors, clock);
                return;
            }
            catch (Exception e) when (e is BadInputException or InvalidOperationException or IOException or UnauthorizedAccessException)
            {
                if (!saved.All.Values.Concat(descriptors.Values).Any(fd => fd.IsAddressSpaceAlive()))
                    return;
                if (told != e.Message)
                    options.Log(1, $"what is away cannot be brought in: {e.Message}; the processes wait, and this is tried again; to give up, kill them");
                told = e.Message;
            }
        }
    }

    private static void BringIn(
        LazyPagesOptions options, ImageDirectory images, ChangeJournal journal, SavedDescriptors saved, Dictionary<int, UserFaultFd> descriptors, MonotonicClock clock)
    {
        var second = new SecondService(images.Processes.Where(p => images.HasMemory(p.Pid)).Select(p => (p.Pid, images.LazyMemory(p.Pid))), journal, namesThreads: false);
        saved.Complete(journal.ReadChanges(), children: second.Processes);
        foreach ((int space, UserFaultFd fd) in saved.All)
            descriptors.TryAdd(space, fd);
        // Not at once: it may take its time, and the processes may end meanwhile.
        bool later = false;
        PageLane? Connect(int lane) => later ? options.Connect!() : null;
        using var live = new LiveService(
            second.Service, SecondService.Transfer.Lanes, Connect, options.Connect is null ? images : null, SecondService.Silent, clock)
        { Journal = journal, DrainsWithFirst = false };
        later = true;
        live.Continue(second.Served(descriptors), second.Spaces);
        live.Drain();
        try
        {
            LazyPagesDaemon.AwaitAll(live, options, null, CancellationToken.None);
        }
        catch
        {
            // For the next attempt they stay open, those of children that were forked meanwhile too.
            foreach (ServedProcess process in live.StopAndRelease())
                descriptors[process.Space] = process.Fd;
            throw;
        }
        live.Stop();
        journal.Phase = CapturePhase.Ended;
        options.Log(1, $"{(live.NobodyLeft ? "the processes have ended" : "all pages are in")}, {clock.Now - Instant.Zero} after the daemon was killed");
        LazyPagesDaemon.CloseLanes(live, options);
    }
}
