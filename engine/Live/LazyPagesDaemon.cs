using System.Net;
using System.Runtime;
using Testbed.Core;
using Testbed.PageXfer.Images;
using Testbed.PageXfer.Xfer;
using Testbed.Policies;
using Testbed.Traces;
using Testbed.Uffd;

namespace Testbed.Live;

/// <summary>
/// What <c>criu lazy-pages</c> is: takes the userfaultfds of a process tree from <c>criu restore --lazy-pages</c>, and serves its faults from
/// images on this machine or from a page server, until every page is in.
/// </summary>
public sealed class LazyPagesDaemon : IDisposable
{
    private static readonly Duration ConnectPatience = Duration.FromSeconds(10);
    private static readonly Duration ClosePatience = Duration.FromSeconds(5);
    private static readonly TimeSpan RetryPause = TimeSpan.FromSeconds(5);
    private static readonly Duration ProbePatience = Duration.FromSeconds(1);

    private readonly LazyPagesOptions _options;
    private readonly ImageDirectory _images;
    private readonly RestoreSocket _socket;
    private readonly List<(uint Pid, MemoryImage Image)> _memory = [];
    private readonly List<ServedProcess> _processes = [];
    private TraceWriter? _trace;
    private LiveRecorder? _recorder;
    private LiveService? _live;
    private MonotonicClock _clock;
    private Guard? _guard;
    private ChangeJournal? _journal;
    private ExitPages? _needed;
    private bool _saidNeeded;

    // The processes run, and memory of theirs may be away.
    private bool _owes;

    private LazyPagesDaemon(LazyPagesOptions options, ImageDirectory images, RestoreSocket socket) =>
        (_options, _images, _socket) = (options, images, socket);

    /// <summary>Pages that were away.</summary>
    public long TotalPages { get; private set; }

    /// <summary>Pages that are in.</summary>
    public long ResidentPages => _recorder?.Resident ?? 0;

    /// <summary>Listens for the restorer and reads the images.</summary>
    /// <exception cref="BadInputException">The images are not sound, or pages are in none of them and there is no server.</exception>
    public static LazyPagesDaemon Listen(LazyPagesOptions options)
    {
        // Listen first: a restore that starts right behind us connects and waits. Without a socket it would fail.
        RestoreSocket socket = RestoreSocket.Listen(options.WorkPath);
        Guard? guard = null;
        ImageDirectory? images = null;
        try
        {
            // It comes up while the images are read, and takes no processor from the restorer later.
            guard = LaunchGuard(options);
            images = ImageDirectory.Open(options.ImagesPath);
            var memory = images.Processes.Where(p => images.HasMemory(p.Pid)).Select(p => (p.Pid, Image: images.LazyMemory(p.Pid))).ToList();
            if (options.Connect is null)
                EnsureHere(images, memory);
            var daemon = new LazyPagesDaemon(options, images, socket) { _guard = guard };
            daemon._memory.AddRange(memory);
            return daemon;
        }
        catch
        {
            socket.Dispose();
            guard?.Release();
            guard?.Dispose();
            images?.Dispose();
            throw;
        }
    }

    /// <summary>Waits for the restorer, then serves until every page of every process is in.</summary>
    /// <param name="onTick">Called now and then; or null.</param>
    /// <param name="cancel">Before the processes run: ends it. Afterwards everything that is away is brought in first.</param>
    /// <exception cref="BadInputException">The restore failed, or the page server cannot be reached.</exception>
    /// <exception cref="InvalidOperationException">The service failed.</exception>
    /// <exception cref="OperationCanceledException">Cancelled before the processes ran.</exception>
    public void Run(Action? onTick, CancellationToken cancel)
    {
        Log(3, $"waiting for the restorer on {Path.Combine(_options.WorkPath, RestoreSocket.FileName)}");
        StartJournal();
        _socket.Accept(cancel);
        foreach (PstreeEntry _ in _images.Processes)
            Take(_socket.ReceiveProcess(cancel));
        if (_memory.Find(m => !_processes.Exists(p => p.SourcePid == m.Pid)) is { Pid: not 0 } missing)
            throw new BadInputException($"the restorer did not hand process {missing.Pid} over; expected all of {string.Join(", ", _memory.Select(m => m.Pid))}");
        _processes.Sort((a, b) => a.Space.CompareTo(b.Space));
        AwaitGuard();
        Start(cancel);
        AwaitFinished(cancel);
        Log(3, $"restore finished after {_clock.Now - Instant.Zero}; {ResidentPages} of {TotalPages} pages are in");
        SayNeeded();
        if (!_live!.NeededIsIn)
        {
            Log(2, $"not all of the {_needed!.Count} pages that the kernel itself needs when a thread ends are in: "
                + "who waits for a thread that ends before they are may wait for ever");
        }
        _owes = true;
        if (_journal is not null)
            _journal.Phase = CapturePhase.Serving;
        _live!.Release();
        // Not before: it would hold the connection to the restorer, who is to see when nobody listens any more.
        _guard?.Keep();
        try
        {
            AwaitAll(_live, _options, onTick, cancel);
        }
        catch (InvalidOperationException e) when (_guard is null)
        {
            HoldOn(e);
            throw;
        }
        _live.Stop();
        _owes = false;
        SayThatAllIsWell();
        End();
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        // What it owes when it fails is brought in by the guard.
        if (!_owes)
        {
            SayThatAllIsWell();
            _guard?.Release();
        }
        _live?.Dispose();
        _journal?.Dispose();
        _guard?.Dispose();
        _trace?.Dispose();
        foreach (ServedProcess process in _processes)
            process.Fd.Dispose();
        _socket.Dispose();
        _images.Dispose();
    }

    /// <summary>A lane of its own for bulk lets demand pass it by. A thread of its own does not pay on few processors, with the program and its clients
    /// beside it: all in took half as long again (measured).</summary>
    private static bool HasBulkThreads => Environment.ProcessorCount >= 4;

    private void Log(int level, string line) => _options.Log(level, line);

    private static void EnsureHere(ImageDirectory images, List<(uint Pid, MemoryImage Image)> memory)
    {
        foreach ((uint pid, MemoryImage image) in memory)
        {
            foreach (PageRange range in image.Present)
            {
                long here = images.Available(pid, range);
                if (here < range.Count)
                    throw new BadInputException($"{images.Path}: page {range.Start + here} of process {pid} is not in the images; expected --page-server, to fetch it from the source");
            }
        }
    }

    private void Take((int Pid, UserFaultFd? Fd, int PidHere) process)
    {
        if (process.Fd is not { } fd)
        {
            Log(4, $"process {process.Pid} is a zombie");
            return;
        }
        // They come in any order; numbered as in the images, so that a guard knows whose is whose.
        int space = _memory.FindIndex(m => m.Pid == process.Pid);
        IReadOnlyList<PageRange> wiped = space < 0 ? [] : _images.WipedOnFork((uint)process.Pid);
        _processes.Add(new ServedProcess(space, (uint)process.Pid, fd, ProcessView.Open(process.PidHere, wiped)));
        if (space < 0)
            throw new BadInputException($"{_images.Path}: no memory of process {process.Pid}, which the restorer handed over; expected one of {string.Join(", ", _memory.Select(m => m.Pid))}");
        if (_processes.Count(p => p.Space == space) > 1)
            throw new BadInputException($"the restorer handed process {process.Pid} over twice");
        if (_guard?.EntrustProcess(space, fd) == false)
            throw new BadInputException($"the guard does not take the userfaultfd of process {process.Pid}");
        Log(4, $"process {process.Pid}: userfaultfd {fd.Fd}, seen here as {process.PidHere}");
    }

    private void Start(CancellationToken cancel)
    {
        TransferOptions transfer = _options.Transfer ?? (_options.Policy.About.CriuTransfer ? TransferOptions.Criu : TransferOptions.Adaptive);
        MemoryImage ImageOf(ServedProcess process) => _memory.Find(m => m.Pid == process.SourcePid).Image;
        TotalPages = _processes.Sum(p => ImageOf(p).PresentPages);
        _trace = _options.TracePath is { } path && _processes.Count > 0 ? TraceWriter.Create(path, Header(_processes[0], ImageOf(_processes[0]))) : null;
        _recorder = new LiveRecorder((int)(_processes.Count > 0 ? _processes[0].SourcePid : 0), [], TotalPages, _trace, traceEvents: false, _processes.Count);
        var service = new FaultService(
            transfer, map => _options.Policy.Create(new(map, _options.Recording, 1)), _recorder, held: true);
        // CRIU asks for no thread ids.
        foreach (ServedProcess process in _processes)
            service.AddSpace(process.Space, ImageOf(process), namesThreads: false);
        PageLane? first = _options.Connect is not null && TotalPages > 0 ? ConnectFirst(cancel) : null;
        GC.Collect();
        GCSettings.LatencyMode = GCLatencyMode.SustainedLowLatency;
        _clock = MonotonicClock.Start();
        PageLane? ConnectLane(int number)
        {
            if (number == 0)
                return Interlocked.Exchange(ref first, null) ?? _options.Connect!();
            // The others when the first one is up; not on the way of the first faults.
            return Volatile.Read(ref _live) is null ? null : Probed(_options.Connect!());
        }
        _live = new LiveService(
            service, TotalPages > 0 ? transfer.Lanes : 0, ConnectLane, _options.Connect is null ? _images : null, _recorder, _clock, HasBulkThreads)
        {
            Journal = _journal,
            DrainsWithFirst = false,
            OnForked = _guard is { } guard ? guard.Entrust : null,
            Needed = _needed = new ExitPages(_processes.SelectMany(ThreadsOf), ReadHere),
        };
        _live.Start([.. _processes]);
    }

    /// <summary>What the kernel touches when threads of a process end.</summary>
    private IEnumerable<ThreadExit> ThreadsOf(ServedProcess process)
    {
        // As the kernel has it in a 64-bit process; a 32-bit one has another list.
        const uint RobustListBytes = 24;
        foreach (uint thread in _images.Processes.First(p => p.Pid == process.SourcePid).Threads)
        {
            // Images of ours have it for the first thread only.
            if (!_images.HasCore(thread))
                continue;
            CoreEntry core = _images.Core(thread);
            ThreadCoreEntry? own = core.ThreadCore;
            yield return new ThreadExit(
                process.Space, core.ThreadInfo?.ClearTidAddr ?? 0,
                own?.FutexRlaLen == RobustListBytes ? own.FutexRla : 0,
                own?.RseqEntry?.RseqAbiPointer ?? 0, own?.RseqEntry?.RseqAbiSize ?? 0);
        }
    }

    /// <summary>A page that is not served lazily; null when it is not in the images.</summary>
    private byte[]? ReadHere(int space, PageNumber page)
    {
        uint pid = _memory[space].Pid;
        if (_images.Available(pid, PageRange.Single(page)) == 0)
            return null;
        byte[] content = new byte[PageNumber.Size];
        _images.ReadPages(pid, PageRange.Single(page), content);
        return content;
    }

    /// <summary>A server may come up a little later than the daemon; later there is something to lose, and no limit.</summary>
    private PageLane ConnectFirst(CancellationToken cancel)
    {
        MonotonicClock waiting = MonotonicClock.Start();
        while (true)
        {
            try
            {
                return _options.Connect!();
            }
            catch (BadInputException e) when (waiting.Now - Instant.Zero < ConnectPatience)
            {
                Log(2, $"{e.Message}; trying again");
                cancel.WaitHandle.WaitOne(200);
                cancel.ThrowIfCancellationRequested();
            }
        }
    }

    /// <summary>CRIU's server takes one connection, and lets others hang: a lane counts when a page came over it.</summary>
    private PageLane Probed(PageLane lane)
    {
        try
        {
            (uint pid, MemoryImage image) = _memory.First(m => m.Image.PresentPages > 0);
            lane.Fetch(pid, PageRange.Single(image.Present[0].Start), ProbePatience);
            return lane;
        }
        catch
        {
            lane.Dispose();
            throw;
        }
    }

    /// <summary>As long as the processes do not run, a restore that cannot be served fails, and CRIU takes them away.</summary>
    private void EnsureServing()
    {
        SayNeeded();
        if (_live!.Failure is { } failure)
            throw new InvalidOperationException($"the fault service failed: {failure.Message}", failure);
        if (_live.ServerAway > ConnectPatience)
            throw new BadInputException($"the page server was away for {_live.ServerAway} before the processes ran ({_live.WhyAway})");
        if (_live.SourceTrouble is { } trouble)
            throw new BadInputException($"pages cannot be read before the processes run ({trouble})");
    }

    /// <summary>A restore that cannot be served fails, but not one that CRIU has ended already: its processes run, and depend on us.</summary>
    private void AwaitFinished(CancellationToken cancel)
    {
        try
        {
            _socket.AwaitFinished(EnsureServing, cancel);
        }
        catch (Exception e) when (e is BadInputException or InvalidOperationException or OperationCanceledException)
        {
            if (!_socket.HangUp())
                throw;
            Log(1, $"the processes run already: {e.Message}");
        }
    }

    /// <summary>No process runs before the guard has the images open: afterwards they may be deleted.</summary>
    private void AwaitGuard()
    {
        try
        {
            _guard?.AwaitImages();
        }
        catch (BadInputException e)
        {
            DoWithoutGuard(e);
        }
    }

    private void DoWithoutGuard(BadInputException e)
    {
        Log(2, $"no guard: {e.Message}");
        _guard?.Release();
        _guard?.Dispose();
        _guard = null;
    }

    /// <summary>Nobody serves the processes any more, and nobody else can: closing the descriptors would give them zero pages.</summary>
    private void HoldOn(InvalidOperationException e)
    {
        Log(1, $"{e.Message}; the processes wait for pages that do not come; to give up, kill them");
        List<UserFaultFd> held = [.. _live!.StopAndRelease().Select(process => process.Fd)];
        while (held.Exists(fd => fd.IsAddressSpaceAlive()))
            Thread.Sleep(RetryPause);
    }

    private void SayThatAllIsWell()
    {
        if (_journal is not null)
            _journal.Phase = CapturePhase.Ended;
    }

    private void SayNeeded()
    {
        if (_saidNeeded || !_live!.NeededIsIn)
            return;
        _saidNeeded = true;
        Log(4, $"the pages that the kernel itself needs when a thread ends are in ({_needed!.Count})");
    }

    /// <summary>Waits until nothing is away any more; says what keeps pages from coming.</summary>
    internal static void AwaitAll(LiveService live, LazyPagesOptions options, Action? onTick, CancellationToken cancel)
    {
        var watch = new SourceWatch((bad, line) => options.Log(bad ? 1 : 2, line));
        bool draining = false;
        while (!live.WaitUntilComplete(TimeSpan.FromMilliseconds(100)))
        {
            onTick?.Invoke();
            if (cancel.IsCancellationRequested && !draining)
            {
                draining = true;
                options.Log(2, "asked to end: everything that is away is brought in first");
                live.Drain();
            }
            watch.Look(live);
        }
        watch.Look(live);
        if (live.Failure is { } failure)
            throw new InvalidOperationException($"the fault service failed: {failure.Message}", failure);
    }

    /// <summary>Tells the source that all is in.</summary>
    internal static void CloseLanes(LiveService live, LazyPagesOptions options)
    {
        try
        {
            // A server waits for it, even if nothing was fetched, or the connection is lost.
            if (!live.CloseLanes(ClosePatience) && options.Connect is { } connect)
                connect().Close(ClosePatience);
        }
        catch (BadInputException e)
        {
            // The pages are in; whether the source heard of it is its affair.
            options.Log(2, e.Message);
        }
    }

    /// <summary>A guard in the way of nobody: where there can be none, the daemon serves as well.</summary>
    private static Guard? LaunchGuard(LazyPagesOptions options)
    {
        if (options.Guard is null)
            return null;
        try
        {
            Guard guard = Guard.Start(options.Guard);
            guard.OpenImages();
            return guard;
        }
        catch (BadInputException e)
        {
            options.Log(2, $"no guard: {e.Message}");
            return null;
        }
    }

    /// <summary>What the guard goes by.</summary>
    private void StartJournal()
    {
        if (_guard is null)
            return;
        try
        {
            _journal = ChangeJournal.CreateUnnamed();
            if (!_guard.Entrust(_journal))
                throw new BadInputException("the guard does not take the journal");
        }
        catch (BadInputException e)
        {
            DoWithoutGuard(e);
        }
    }

    private void End()
    {
        Duration elapsed = _clock.Now - Instant.Zero;
        CloseLanes(_live!, _options);
        RunResult result = _recorder!.Metrics.ToResult(
            "restore", _options.Policy.Text, "", RunMode.Live, elapsed, new PrefetchCounts(_recorder.Metrics.PrefetchedPages, 0, _recorder.LatePrefetches, 0), 0, null);
        Log(3, $"UFFD transferred pages: ({ResidentPages}/{TotalPages}) in {elapsed}");
        Log(3, $"{result.DemandFaults} demand faults, {result.LateFaults} late, {result.ZeroFaults} zero; latency p50 {result.LatencyQuantile(0.5)}, p99 {result.LatencyQuantile(0.99)}, worst {result.LatencyQuantile(1)}; total stall {result.TotalStall}");
        Log(4, $"the runtime took from the fault service: {_live!.Pauses}");
        _trace?.Finish(new TraceEnd { State = EndState.Drained, Duration = elapsed });
    }

    private TraceHeader Header(ServedProcess process, MemoryImage image)
    {
        (string kernel, string cpu) = HostFacts.Read();
        return new TraceHeader
        {
            ToolVersion = HostFacts.ToolVersion,
            ToolCommandLine = _options.ToolCommandLine,
            Workload = "restore",
            TargetPid = (int)process.SourcePid,
            Kernel = kernel,
            CpuModel = cpu,
            CpuCount = Environment.ProcessorCount,
            Recorded = DateTimeOffset.UtcNow,
            Region = "all",
            Kind = _options.Policy.Text == "demand" ? RecordingKind.Capture : RecordingKind.Live,
            Policy = _options.Policy.Text,
            Transfer = _options.Transfer?.ToString() ?? "",
            Image = image,
        };
    }
}
