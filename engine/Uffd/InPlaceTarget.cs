using Testbed.Core;
using Testbed.Uffd.Interop;
using static Testbed.Uffd.Interop.Native.Nr;

namespace Testbed.Uffd;

/// <summary>What eviction left.</summary>
/// <param name="Image">The registered areas, and in them the pages that are away and have content.</param>
/// <param name="Resident">Pages of those areas that stayed: what the kernel itself needs, and what could not be dropped.</param>
public readonly record struct EvictedMemory(MemoryImage Image, IReadOnlyList<PageRange> Resident);

/// <summary>How a capture ended.</summary>
public enum FinishOutcome
{
    /// <summary>The process runs on as if nothing had been.</summary>
    Detached,

    /// <summary>The process had exited.</summary>
    Exited,

    /// <summary>The process had called exec, and its old memory was gone with all that was registered.</summary>
    Executed,
}

/// <summary>
/// A process whose memory is taken away from it and served back: a migration whose destination is the same process. The order is
/// <see cref="Attach"/>, <see cref="Dump"/>, <see cref="Evict"/>, <see cref="Resume"/>; then its faults are served from
/// <see cref="Fd"/> until every page is in; then <see cref="Finish"/>. Until <see cref="Evict"/> nothing in the process has changed, and
/// <see cref="Dispose"/> lets it run on.
/// <para>
/// While it is served, nobody traces it, and the userfaultfd stays open inside it: another daemon can take over by pidfd_getfd.
/// </para>
/// </summary>
public sealed class InPlaceTarget : IDisposable
{
    private readonly PidFd _pidFd;
    private readonly IReadOnlyList<Mapping> _mappings;
    private readonly List<Mapping> _chosen;
    private readonly List<SkippedMapping> _skipped = [];
    private readonly List<PageRange> _present = [];
    private TracedProcess? _stopped;
    private MemoryDump? _dump;
    private UserFaultFd? _fd;
    private int _fdInTarget = -1;

    /// <summary>The process as it was found.</summary>
    public ProcessInfo Info { get; }

    /// <summary>Its threads when it was stopped; later ones appear in fault messages first.</summary>
    public IReadOnlyList<ThreadInfo> Threads { get; }

    /// <summary>All its mappings when it was stopped, captured or not.</summary>
    public IReadOnlyList<Mapping> Mappings => _mappings;

    /// <summary>The areas that are captured.</summary>
    public IReadOnlyList<MemoryArea> Areas => [.. _chosen.Select(m => new MemoryArea(m.Range, m.Name, m.Protection))];

    /// <summary>Mappings of the selection that are left alone, and why.</summary>
    public IReadOnlyList<SkippedMapping> Skipped => _skipped;

    /// <summary>How many bytes a dump takes at most: what the caller must have room for before it goes on.</summary>
    public long EstimatedDumpBytes => _present.Sum(range => range.Bytes);

    /// <summary>The userfaultfd, once <see cref="Evict"/> was called.</summary>
    public UserFaultFd Fd => _fd ?? throw new InvalidOperationException("there is no userfaultfd before Evict");

    /// <summary>
    /// Told once when <see cref="Finish"/> waits until the process can run, with the reason; or null.
    /// </summary>
    public Action<string>? OnWaiting { get; init; }

    /// <summary>Whether memory of the process may be missing.</summary>
    public bool HasUserFaultFd => _fd is not null;

    /// <summary>A descriptor that polls readable when the process has exited.</summary>
    public int ExitFd => _pidFd.Fd;

    private InPlaceTarget(TracedProcess stopped, ProcessInfo info, PidFd pidFd, RegionSelection selection)
    {
        (_stopped, Info, _pidFd) = (stopped, info, pidFd);
        Threads = ProcessInfo.ReadThreads(info.Pid);
        _mappings = ProcMaps.Read(info.Pid);
        _chosen = [.. ProcMaps.Select(_mappings, selection, _skipped)];
        using Pagemap pagemap = new(info.Pid);
        foreach (Mapping mapping in _chosen)
        {
            // Runs of neighbouring areas must not grow together.
            List<PageRange> present = [];
            pagemap.Scan(mapping.Range, present);
            _present.AddRange(present);
        }
        if (_chosen.Count == 0 && ProcMaps.IsTakenByAnother(_skipped))
        {
            throw new BadInputException(
                $"process {info.Pid} ({info.Name}): all its memory of the selected kind is registered with another "
                + "userfaultfd (another recorder's, or the program's own); a process that nobody records is expected");
        }
    }

    /// <summary>Stops a process and looks at its memory.</summary>
    /// <param name="pid">The process.</param>
    /// <param name="selection">Which of its areas.</param>
    /// <param name="onWaiting">
    /// Told once when something waits until the process can run, with the reason; or null.
    /// </param>
    /// <exception cref="BadInputException">It cannot be captured, and why not; it runs on as before.</exception>
    public static InPlaceTarget Attach(int pid, RegionSelection selection, Action<string>? onWaiting = null)
    {
        ProcessInfo info = ProcessInfo.Read(pid);
        PidFd pidFd = new(pid);
        TracedProcess? stopped = null;
        try
        {
            stopped = TracedProcess.SeizeAlone(pid, onWaiting);
            stopped.EnsureCallable();
            return new InPlaceTarget(stopped, info, pidFd, selection) { OnWaiting = onWaiting };
        }
        catch (Exception e)
        {
            stopped?.Dispose();
            pidFd.Dispose();
            if (e is TargetGoneException)
                throw Exited(info);
            throw;
        }
    }

    /// <summary>
    /// Takes over a process whose memory another daemon took away, when that daemon is dead. It runs; serve it, and then
    /// <see cref="Finish"/>.
    /// </summary>
    /// <param name="pid">The process.</param>
    /// <param name="fdInTarget">The number of its userfaultfd, or -1 to look for it.</param>
    /// <param name="fd">A copy of it that was saved, or null to get it from the process.</param>
    /// <param name="onWaiting">
    /// Told once when <see cref="Finish"/> waits until the process can run, with the reason; or null.
    /// </param>
    /// <exception cref="BadInputException">The process is gone, or has no userfaultfd.</exception>
    public static InPlaceTarget Adopt(int pid, int fdInTarget, UserFaultFd? fd, Action<string>? onWaiting = null)
    {
        ProcessInfo info = ProcessInfo.Read(pid);
        if (!info.HasMemory)
            throw Exited(info);
        var pidFd = new PidFd(pid);
        if (fdInTarget < 0 || !IsUserFaultFd(pid, fdInTarget))
            fdInTarget = FindUserFaultFd(pid);
        if (fd is null)
        {
            int copy = fdInTarget < 0 ? -Native.E.ENOENT : pidFd.Get(fdInTarget);
            if (copy < 0)
            {
                pidFd.Dispose();
                throw new BadInputException($"process {pid} ({info.Name}): has no userfaultfd that can be taken ({Native.Describe(-copy)}); a process whose memory was taken away is expected");
            }
            fd = new UserFaultFd(copy);
        }
        return new InPlaceTarget(info, pidFd, fd, fdInTarget) { OnWaiting = onWaiting };
    }

    private InPlaceTarget(ProcessInfo info, PidFd pidFd, UserFaultFd fd, int fdInTarget)
    {
        (Info, _pidFd, _fd, _fdInTarget) = (info, pidFd, fd, fdInTarget);
        (Threads, _mappings, _chosen) = ([], [], []);
    }

    /// <summary>Whether a process has a userfaultfd, of whomever.</summary>
    public static bool HasUserFaultFdIn(int pid) => FindUserFaultFd(pid) >= 0;

    private static int FindUserFaultFd(int pid)
    {
        try
        {
            return Directory.EnumerateFileSystemEntries($"/proc/{pid}/fd").Select(path => int.Parse(Path.GetFileName(path)))
                .Where(fd => IsUserFaultFd(pid, fd)).DefaultIfEmpty(-1).Max();
        }
        catch (IOException)
        {
            return -1;
        }
    }

    /// <summary>The pages of registered areas that are in, by present address. The process may run.</summary>
    public IReadOnlyList<PageRange> PresentRegistered()
    {
        List<PageRange> present = [];
        try
        {
            using Pagemap pagemap = new(Info.Pid);
            foreach (Mapping mapping in ProcMaps.Read(Info.Pid).Where(m => m.IsUffdRegistered))
                pagemap.Scan(mapping.Range, present);
        }
        catch (TargetGoneException)
        {
            // Then whatever is installed will find that out.
        }
        return present;
    }

    /// <summary>Reads the memory into <paramref name="sink"/>.</summary>
    /// <param name="sink">Who takes it.</param>
    /// <param name="onBytes">Called with the bytes read so far, of <see cref="EstimatedDumpBytes"/>; or null.</param>
    /// <param name="cancel">Ends it early; nothing in the process has changed.</param>
    /// <exception cref="BadInputException">The process is gone.</exception>
    public void Dump(IMemoryDumpSink sink, Action<long>? onBytes = null, CancellationToken cancel = default)
    {
        MemoryDump dump = new();
        try
        {
            using TargetMemory memory = new(Info.Pid);
            dump.Run(memory, Areas, _present, sink, onBytes, cancel);
            // Killed meanwhile, its memory would have read as unreadable.
            if (HasExited || !ProcessInfo.Read(Info.Pid).HasMemory)
                throw Exited(Info);
        }
        catch (TargetGoneException)
        {
            throw Exited(Info);
        }
        _dump = dump;
    }

    /// <summary>
    /// Creates the userfaultfd, registers the areas and drops their pages. From here on the process depends on
    /// <see cref="Fd"/> being served.
    /// </summary>
    /// <param name="journal">Is told each step, so that somebody else can undo it should this program be killed; or null.</param>
    /// <returns>What is away. After the first page was dropped this never fails: what could not be dropped is reported as resident.</returns>
    /// <exception cref="BadInputException">The kernel refuses, or the process is gone. No page was dropped.</exception>
    public EvictedMemory Evict(ChangeJournal? journal = null)
    {
        TracedProcess stopped = _stopped ?? throw new InvalidOperationException("the process is not stopped");
        MemoryDump dump = _dump ?? throw new InvalidOperationException("Dump comes before Evict");
        try
        {
            stopped.Inject(_mappings, calls =>
            {
                List<PageRange> keep = [.. dump.Unreadable, .. LockedZeroPages(dump), calls.HomePages];
                foreach (StoppedThread thread in stopped.StoppedThreads)
                    keep.AddRange(KernelPages.Of(thread, calls.Memory));
                KernelPages.AddExitWords(keep, calls, stopped.StoppedThreads);
                return CreateAndEvict(calls, PageRanges.Normalize(keep), dump, journal);
            });
        }
        catch (TargetGoneException)
        {
            throw Exited(Info);
        }
        // What the kernel says now, not what was asked for, decides what has to be served.
        List<PageRange> resident = [];
        try
        {
            using Pagemap pagemap = new(Info.Pid);
            foreach (Mapping mapping in _chosen)
                pagemap.Scan(mapping.Range, resident);
        }
        catch (TargetGoneException)
        {
            throw Exited(Info);
        }
        List<PageRange> inAreas = PageRanges.Intersect(dump.Content, [.. _chosen.Select(m => m.Range)]);
        return new EvictedMemory(new MemoryImage(Areas, PageRanges.Subtract(inAreas, resident)), resident);
    }

    /// <summary>
    /// Existing pages of locked memory that are zero. Pages of that kind are nowhere in the images, so if they were dropped, nothing would lock
    /// a page in their place until it is touched.
    /// </summary>
    private List<PageRange> LockedZeroPages(MemoryDump dump)
    {
        List<PageRange> existing = [];
        using Pagemap pagemap = new(Info.Pid);
        foreach (Mapping mapping in _chosen.Where(m => m.IsLocked))
            pagemap.Scan(mapping.Range, existing, zeroPages: true);
        return PageRanges.Subtract(existing, dump.Content);
    }

    private bool CreateAndEvict(RemoteCalls calls, List<PageRange> keep, MemoryDump dump, ChangeJournal? journal)
    {
        string? pins = PinSources.Find(Info.Pid, _mappings);
        bool canMove;
        _fdInTarget = RemoteUffd.Create(calls, _pidFd, Info.Pid);
        try
        {
            int fd = _pidFd.Get(_fdInTarget);
            if (fd < 0)
                throw new BadInputException($"process {Info.Pid}: its userfaultfd cannot be shared ({Native.Describe(-fd)}); Linux 5.6 or newer and the right to trace are expected");
            _fd = new UserFaultFd(fd);
            canMove = (_fd.Api(UffdFeatures.Process) & Native.UffdMove.UFFD_FEATURE_MOVE) != 0;
            if (!canMove && pins is not null)
                throw new BadInputException($"process {Info.Pid} ({Info.Name}): has {pins}, which may write to its memory while that is being dropped; Linux 6.8 or newer (UFFDIO_MOVE) is expected");
            Register(_fd);
        }
        catch
        {
            // Nothing is away yet: close it there, and it is as it was.
            _fd?.Dispose();
            _fd = null;
            _ = calls.Call(__NR_close, (ulong)_fdInTarget);
            _fdInTarget = -1;
            throw;
        }
        journal?.TargetFd = _fdInTarget;
        List<Mapping> unmoved = _chosen;
        if (canMove)
        {
            using Pagemap pagemap = new(Info.Pid);
            PageMover mover = new(calls, _fd, _fdInTarget, dump, pagemap, journal);
            unmoved = [.. _chosen.Where(m => !PageMover.CanMove(m))];
            foreach (var kind in _chosen.Where(PageMover.CanMove).GroupBy(m => (m.Protection, m.IsLocked)))
                unmoved.AddRange(mover.Evict([.. kind], keep));
        }
        EventDrain drain = new(_fd);
        if (pins is null)
            Drop(calls, unmoved, keep, drain, journal);
        else
            _skipped.AddRange(unmoved.Select(m => new SkippedMapping(m, $"cannot be moved, and the process has {pins}, which may write to it")));
        drain.WakeFaults();
        return true;
    }

    /// <summary>Drops pages without a look at who may write to them meanwhile: nobody does.</summary>
    private static void Drop(
        RemoteCalls calls, IEnumerable<Mapping> mappings, List<PageRange> keep, EventDrain drain, ChangeJournal? journal)
    {
        foreach (Mapping mapping in mappings)
        {
            int advice = mapping.IsLocked ? Native.Mman.MADV_DONTNEED_LOCKED : Native.Mman.MADV_DONTNEED;
            foreach (PageRange range in PageRanges.Subtract([mapping.Range], keep))
            {
                journal?.Dropping = range;
                _ = calls.Call(__NR_madvise, range.Start.Address, (ulong)range.Bytes, (ulong)advice, whileWaiting: drain.DropMessages);
            }
        }
        journal?.Dropping = default;
    }

    private void Register(UserFaultFd fd)
    {
        for (int i = 0; i < _chosen.Count;)
        {
            int error = fd.Register(_chosen[i].Range);
            if (error == 0)
            {
                i++;
                continue;
            }
            _skipped.Add(new SkippedMapping(_chosen[i], $"userfaultfd refuses it ({Native.Describe(error)})"));
            _chosen.RemoveAt(i);
        }
        if (_chosen.Count == 0)
            throw new BadInputException($"process {Info.Pid} ({Info.Name}): has no memory of the selected kind that can be registered; private anonymous memory is expected");
    }

    /// <summary>What /proc shows of it, for whoever serves it. To be called before <see cref="Resume"/>.</summary>
    public ProcessView OpenView() => ProcessView.Open(Info.Pid, _mappings.Where(m => m.Has("wf")).Select(m => m.Range));

    /// <summary>Lets the process run; nobody traces it any more.</summary>
    public void Resume()
    {
        _stopped?.Detach();
        _stopped = null;
    }

    /// <summary>
    /// Takes everything back: unregisters, closes the descriptor inside the process and here. Every page must be in by
    /// now, and nobody else may be reading <see cref="Fd"/>. Unregistering comes before closing, and by the areas as they are now:
    /// they may have been split, moved or unmapped.
    /// </summary>
    /// <param name="staging">A mapping of ours that eviction left behind because its program was killed; it is unmapped.</param>
    /// <returns>What had become of the process; all of these are good ends.</returns>
    /// <exception cref="BadInputException">
    /// The descriptor inside the process stays open: somebody else traces it now, or no thread of it can make a call.
    /// The rest was done.
    /// </exception>
    public FinishOutcome Finish(PageRange staging = default)
    {
        Resume();
        try
        {
            if (_fd is null || !_fd.IsAddressSpaceAlive())
                return HowItEnded();
            EventDrain drain = new(_fd);
            UnregisterAll(drain);
            // Frozen in the middle, it is waited for again.
            while (true)
            {
                using TracedProcess stopped = TracedProcess.SeizeToFinish(Info.Pid, drain.AnswerMessages, OnWaiting);
                if (!_fd.IsAddressSpaceAlive())
                    return HowItEnded();
                UnregisterAll(drain);
                // The program may have closed all descriptors that it did not know, and opened others.
                if (!IsUserFaultFd(Info.Pid, _fdInTarget))
                    return FinishOutcome.Detached;
                if (stopped.TryInject(ProcMaps.Read(Info.Pid), calls => CloseInside(calls, staging)) is null)
                    return FinishOutcome.Detached;
            }
        }
        catch (Exception e) when (e is TargetGoneException or BadInputException && HowItEnded() == FinishOutcome.Exited)
        {
            return FinishOutcome.Exited;
        }
        catch (BadInputException e)
        {
            throw new BadInputException(
                $"{e.Message}; its memory is all in, but its userfaultfd {_fdInTarget} stays open", e);
        }
        finally
        {
            _fd?.Dispose();
            _fd = null;
            _fdInTarget = -1;
        }
    }

    private void CloseInside(RemoteCalls calls, PageRange staging)
    {
        _ = calls.Call(__NR_close, (ulong)_fdInTarget);
        if (!staging.IsEmpty)
            _ = calls.Call(__NR_munmap, staging.Start.Address, (ulong)staging.Bytes);
    }

    private void UnregisterAll(EventDrain drain)
    {
        // The program's own userfaultfds, if it had any before, are not ours to touch.
        List<PageRange> foreign = PageRanges.Normalize(_mappings.Where(m => m.IsUffdRegistered).Select(m => m.Range));
        drain.AnswerMessages();
        foreach (Mapping mapping in ProcMaps.Read(Info.Pid).Where(m => m.IsUffdRegistered))
        {
            foreach (PageRange range in PageRanges.Subtract([mapping.Range], foreign))
                _ = Fd.Unregister(range);
        }
    }

    private static bool IsUserFaultFd(int pid, int fd)
    {
        try
        {
            return File.ResolveLinkTarget($"/proc/{pid}/fd/{fd}", false)?.Name.Contains("[userfaultfd]", StringComparison.Ordinal) == true;
        }
        catch (IOException)
        {
            return false;
        }
    }

    // A process that was killed has given up its memory some time before it has exited, if that is large.
    private FinishOutcome HowItEnded() =>
        HasExited || ProcessInfo.IsDying(Info.Pid) ? FinishOutcome.Exited : FinishOutcome.Executed;

    /// <summary>Whether the process is no more; a zombie counts as such.</summary>
    public unsafe bool HasExited
    {
        get
        {
            Native.PollFd poll = new() { fd = _pidFd.Fd, events = Native.PollH.POLLIN };
            return Native.Poll(&poll, 1, 0) > 0;
        }
    }

    private static BadInputException Exited(ProcessInfo info) => new($"process {info.Pid} ({info.Name}): exited while it was being captured; a running process is expected");

    /// <summary>Lets the process run on if it is stopped. After eviction call <see cref="Finish"/> first, with every page in.</summary>
    public void Dispose()
    {
        _stopped?.Dispose();
        _stopped = null;
        _fd?.Dispose();
        _pidFd.Dispose();
    }
}
