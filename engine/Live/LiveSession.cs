using System.Runtime;
using Testbed.Core;
using Testbed.PageXfer.Images;
using Testbed.PageXfer.Server;
using Testbed.PageXfer.Xfer;
using Testbed.Traces;
using Testbed.Uffd;

namespace Testbed.Live;

/// <summary>How a live session ended.</summary>
/// <param name="Result">What was measured.</param>
/// <param name="End">What became of the target.</param>
/// <param name="Image">The memory that was away.</param>
/// <param name="Recorded">From the resume of the process to the moment when its end was asked for.</param>
/// <param name="Restoring">How long it then took to give the rest of the memory back and to let go of the process.</param>
/// <param name="RestoredPages">How many pages that were.</param>
public sealed record LiveEnd(
    RunResult Result, FinishOutcome End, MemoryImage Image, Duration Recorded, Duration Restoring, long RestoredPages);

/// <summary>
/// A migration of a running process to where it is: stop, dump into images, evict, resume, and serve its faults from
/// our page server. <see cref="Begin"/> returns with the process running on memory that is away; <see cref="End"/>
/// brings everything back. Whatever goes wrong, the process gets its memory back before the error is told; should this
/// program be killed, a guard brings it back (<see cref="GuardProcess"/>).
/// </summary>
public sealed class LiveSession : IDisposable
{
    /// <summary>A page server that was away for so long is given up, and the images are read without it.</summary>
    private static readonly Duration ServerPatience = Duration.FromSeconds(5);

    private readonly LiveOptions _options;
    private readonly InPlaceTarget _target;
    private readonly string _directory;
    private readonly Guard _guard;
    private readonly ChangeJournal _journal;
    private readonly SourceWatch _watch;
    private ImageDirectory? _images;
    private TraceWriter? _trace;
    private LiveRecorder? _recorder;
    private FaultService? _service;
    private LiveService? _live;
    private MonotonicClock _clock;
    private Duration _workloadTime;
    private volatile string? _serverTrouble;
    private bool _away;

    private LiveSession(LiveOptions options, InPlaceTarget target, string directory, Guard guard, ChangeJournal journal)
    {
        (_options, _target, _directory, _guard, _journal) = (options, target, directory, guard, journal);
        _watch = new SourceWatch((_, line) => options.Log($"process {target.Info.Pid}: {line}"));
    }

    /// <summary>Serves the images to us alone, over an emulated link; null where they are read without one. Tests end it.</summary>
    internal PageServer? Server { get; set; }

    /// <summary>The memory that is away.</summary>
    public MemoryImage Image { get; private set; } = new([], []);

    /// <summary>Areas that were left alone, and why.</summary>
    public IReadOnlyList<SkippedMapping> Skipped => _target.Skipped;

    /// <summary>How much of the process's memory was not taken, and why.</summary>
    public LeftInPlace Left { get; private set; } = LeftInPlace.Nothing;

    /// <summary>Time since the process was resumed.</summary>
    public Duration Elapsed => _clock.Now - Instant.Zero;

    /// <summary>Pages of the image that are in.</summary>
    public long ResidentPages => _recorder!.Resident;

    /// <summary>Whether nothing is away any more: every page is in, or was given up by the process.</summary>
    public bool IsComplete => _live!.WaitUntilComplete(TimeSpan.Zero);

    /// <summary>Pages that were touched so far.</summary>
    public long TouchedPages => _recorder!.Touched;

    /// <summary>Whether the process is gone, or its old program is.</summary>
    public bool TargetGone => _live!.TargetGone || _target.HasExited;

    /// <summary>Set by the caller when the workload gave its first answer.</summary>
    public Duration? TimeToFirstResponse { get; set; }

    /// <summary>Takes the memory of process <paramref name="pid"/> away and serves it.</summary>
    /// <param name="pid">The process.</param>
    /// <param name="options">How.</param>
    /// <param name="onDumped">Told the bytes dumped so far, and how many there are; or null.</param>
    /// <param name="cancel">Up to the eviction: the process runs on untouched.</param>
    /// <exception cref="BadInputException">It cannot be done; the process runs on as before.</exception>
    /// <exception cref="OperationCanceledException">Cancelled; the process runs on as before.</exception>
    public static LiveSession Begin(int pid, LiveOptions options, Action<long, long>? onDumped, CancellationToken cancel)
    {
        LiveSession session = Attach(pid, options);
        InPlaceTarget target = session._target;
        string directory = session._directory;
        try
        {
            long total = target.EstimatedDumpBytes;
            ImageDump.Write(target, directory, onDumped is null ? null : bytes => onDumped(bytes, total), cancel);
            session.Prepare();
            cancel.ThrowIfCancellationRequested();
            session.EvictAndServe();
            return session;
        }
        catch
        {
            session.Dispose();
            throw;
        }
    }

    private static LiveSession Attach(int pid, LiveOptions options)
    {
        ProcessInfo.Read(pid).EnsureCapturable();
        if (options.TracePath is { } path)
            EnsureWritable(path);
        bool temporary = options.ImagesPath is null;
        string directory = options.ImagesPath ?? Directory.CreateTempSubdirectory("testbed-images-").FullName;
        Guard? guard = null;
        ChangeJournal? journal = null;
        try
        {
            Directory.CreateDirectory(directory);
            // It becomes ready while the memory is dumped.
            guard = Guard.Start(pid, directory, temporary);
            // After it: killed in between, somebody is there to tidy up.
            journal = ChangeJournal.Create(directory, ProcessInfo.Read(pid));
            if (!guard.Entrust(journal))
                throw new BadInputException("the guard, which gives the process its memory back if this program is killed, ended at once; nothing was taken");
            return new LiveSession(options, InPlaceTarget.Attach(pid, options.Region, options.Log), directory, guard, journal);
        }
        catch
        {
            journal?.Phase = CapturePhase.Ended;
            guard?.Dismiss();
            guard?.Dispose();
            journal?.Remove();
            journal?.Dispose();
            if (temporary && Directory.Exists(directory))
                Directory.Delete(directory, recursive: true);
            throw;
        }
    }

    private static void EnsureWritable(string path)
    {
        bool existed = File.Exists(path);
        try
        {
            File.OpenHandle(path, FileMode.OpenOrCreate, FileAccess.Write).Dispose();
            if (!existed)
                File.Delete(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new BadInputException($"{path}: cannot write a trace here ({e.Message}); expected a file that can be created or replaced", e);
        }
    }

    /// <summary>Everything that can fail and does not need the eviction comes before it.</summary>
    private void Prepare()
    {
        _guard.OpenImages();
        _images = ImageDirectory.Open(_directory);
        if (_options.ThroughServer || !_options.Link.IsUnshaped)
            Server = PageServer.CreatePrivate(new PageServerOptions { Source = _images, Link = _options.Link, OnSourceFailure = NoteServerTrouble });
        _guard.AwaitImages();
    }

    private void EvictAndServe()
    {
        TransferOptions transfer = _options.EffectiveTransfer;
        PageLane[] lanes = Server is null ? [] : [.. Enumerable.Range(0, transfer.Lanes).Select(_ => Connect())];
        _journal.Phase = CapturePhase.Evicting;
        EvictedMemory evicted;
        try
        {
            evicted = _target.Evict(_journal);
        }
        catch
        {
            // Failed half-way, it has memory that is missing, and gets it back from the images.
            _away = _target.HasUserFaultFd && !_target.HasExited;
            throw;
        }
        _away = true;
        _guard.Entrust(0, _target.Fd);
        _guard.Keep();
        Image = evicted.Image;
        Left = LeftInPlace.Of(_target, evicted, _options.Region);
        _trace = _options.TracePath is { } path ? TraceWriter.Create(path, Header(evicted)) : null;
        _recorder = new LiveRecorder(_target.Info.Pid, _target.Threads, Image.PresentPages, _trace, _options.TraceEvents);
        _service = new FaultService(
            transfer, map => _options.Policy.Create(new(map, _options.Recording, _options.Seed)), _recorder);
        _service.AddSpace(0, Image);
        // What was allocated so far goes now: from here on the fault path allocates nothing.
        GC.Collect();
        GCSettings.LatencyMode = GCLatencyMode.SustainedLowLatency;
        _clock = MonotonicClock.Start();
        int opened = 0;
        _live = new LiveService(
            _service, transfer.Lanes,
            lane => opened < lanes.Length ? lanes[opened++] : Connect(), Server is null ? _images : null, _recorder, _clock)
        { Journal = _journal, OnForked = _guard.Entrust };
        _journal.Phase = CapturePhase.Serving;
        _live.Start(new ServedProcess(0, (uint)_target.Info.Pid, _target.Fd, _target.OpenView()));
        _target.Resume();
    }

    // Reports arrive in the link's quantum, so that a page does not wait for its request's last one.
    private PageLane Connect() => new(Server!.Connect()) { ReportBytes = 16 * 1024 };

    /// <summary>A server that cannot read its images loses its connections, again and again: the images are then read without it.</summary>
    private void NoteServerTrouble(string line) => _serverTrouble ??= line;

    /// <summary>Waits while <paramref name="condition"/> holds and the process is there; looks every 20 ms.</summary>
    /// <param name="condition">When it turns false, the wait is over.</param>
    /// <param name="onTick">Called at each look; or null.</param>
    /// <param name="cancel">Ends the wait.</param>
    public void WaitWhile(Func<bool> condition, Action? onTick, CancellationToken cancel)
    {
        while (!cancel.IsCancellationRequested && !TargetGone && ServiceError is null && condition())
        {
            onTick?.Invoke();
            _watch.Look(_live!);
            cancel.WaitHandle.WaitOne(TimeSpan.FromMilliseconds(20));
        }
        _workloadTime = Elapsed;
    }

    /// <summary>
    /// Waits while a policy that moves pages in the background gets somewhere, so that a run is seen until the process is fully
    /// resident. Returns at once under a policy without background transfer. What the process itself fetches does not prolong it.
    /// </summary>
    /// <param name="atMost">The longest wait.</param>
    /// <param name="onTick">Called now and then with the pages that are resident; or null.</param>
    /// <param name="cancel">Ends the wait.</param>
    public void AwaitBackground(TimeSpan atMost, Action<long>? onTick, CancellationToken cancel)
    {
        if (IsDemandOnly)
            return;
        long end = Environment.TickCount64 + (long)atMost.TotalMilliseconds;
        for (long before = -1; before < _recorder!.BackgroundPages && !IsComplete && !TargetGone && ServiceError is null;)
        {
            before = _recorder.BackgroundPages;
            onTick?.Invoke(_recorder.Resident);
            if (Environment.TickCount64 >= end || cancel.WaitHandle.WaitOne(TimeSpan.FromMilliseconds(200)))
                return;
        }
    }

    /// <summary>
    /// Ends the recording, brings all memory back at once and at full speed, lets go of the process, and completes the trace. What is
    /// touched from now on, and what the drain moves, is neither in the trace nor in the numbers.
    /// </summary>
    /// <param name="state">Why it ends, for the trace; a target that exited is found by itself.</param>
    /// <param name="onTick">Called now and then with the pages that are in; or null.</param>
    public LiveEnd End(EndState state, Action<long>? onTick = null)
    {
        Duration recorded = Elapsed;
        _recorder!.EndAt(Instant.Zero + recorded);
        long resident = _recorder.Resident;
        string? failure = Drain(() => onTick?.Invoke(_recorder.Resident));
        FinishOutcome outcome = Finish();
        Duration restoring = Elapsed - recorded;
        _trace?.Finish(new TraceEnd
        {
            State = failure is not null ? EndState.Failed : outcome == FinishOutcome.Detached ? state : EndState.TargetExited,
            Duration = recorded,
            CommandHash = _options.TraceEvents ? _service!.CommandHash : null,
            TimeToFirstResponse = TimeToFirstResponse,
            Note = failure ?? "",
        });
        if (failure is not null)
            throw new InvalidOperationException($"{failure}; the memory was restored from the images");
        RunResult result = _recorder.Metrics.ToResult(
            _options.Workload, _options.Policy.Text, _options.LinkName, RunMode.Live, _workloadTime,
            new PrefetchCounts(_recorder.Metrics.PrefetchedPages, 0, _recorder.LatePrefetches, 0),
            _service!.CommandHash, TimeToFirstResponse);
        return new LiveEnd(result, outcome, Image, recorded, restoring, _recorder.Resident - resident);
    }

    private bool IsDemandOnly => _options.Policy.Text == "demand";

    /// <summary>Why the service cannot go on; null while it can.</summary>
    private string? ServiceError => _live switch
    {
        null => "the fault service was not started",
        { Failure: { } failure } => $"the fault service failed: {failure.Message}",
        _ when _serverTrouble is { } trouble => $"the page server failed ({trouble})",
        { ServerAway: var away } when Server is not null && away > ServerPatience => $"the page server was away for {away} ({_live.WhyAway})",
        _ => null,
    };

    /// <summary>Lets the service bring in what it can.</summary>
    /// <returns>Why that is not all; null when it is.</returns>
    private string? Drain(Action? onTick)
    {
        // The link is emulated for the recording; nobody waits for it to give memory back.
        Server?.LiftLink();
        _live?.Drain();
        bool told = false;
        while (ServiceError is null && !_live!.WaitUntilComplete(TimeSpan.FromMilliseconds(100)))
        {
            onTick?.Invoke();
            _watch.Look(_live);
            if (!told && _live.SourceTrouble is { } trouble)
            {
                told = true;
                _options.Log($"process {_target.Info.Pid}: its memory cannot be given back yet ({trouble}); waiting for it");
            }
        }
        if (ServiceError is null)
            _watch.Look(_live!);
        return ServiceError;
    }

    /// <summary>What the service did not bring another one does; then the process is let go.</summary>
    private FinishOutcome Finish()
    {
        _live?.Stop();
        FinishOutcome outcome;
        if (ServiceError is null)
        {
            // From here on nobody reads what the program changes, and nothing is missing any more.
            _journal.Phase = CapturePhase.Finishing;
            outcome = _target.Finish();
            foreach (ServedProcess child in _live!.StopAndRelease().Where(t => t.Space != 0))
                child.Fd.Dispose();
        }
        else
        {
            // Opened anew, for the service may have ended between reading a message and keeping it.
            using ChangeJournal journal = _journal.Again();
            Dictionary<int, UserFaultFd> children = _live?.StopAndRelease().Where(t => t.Space != 0).ToDictionary(t => t.Space, t => t.Fd) ?? [];
            outcome = Rescue.Run(_target, children, _images!, journal, _options.Log);
        }
        _away = false;
        _journal.Phase = CapturePhase.Ended;
        // Only when the last copy of a child's descriptor is closed does a page that it never had read as zero unserved.
        _guard.Dismiss();
        return outcome;
    }

    /// <summary>Ends the session if nobody did: memory first, then everything else.</summary>
    public void Dispose()
    {
        if (_away)
        {
            Drain(null);
            Finish();
        }
        _live?.Dispose();
        _trace?.Dispose();
        Server?.Dispose();
        _images?.Dispose();
        _target.Dispose();
        _journal.Phase = CapturePhase.Ended;
        _guard.Dismiss();
        _guard.Dispose();
        _journal.Remove();
        _journal.Dispose();
        if (_options.ImagesPath is null && Directory.Exists(_directory))
            Directory.Delete(_directory, recursive: true);
    }

    private TraceHeader Header(EvictedMemory evicted)
    {
        (string kernel, string cpu) = HostFacts.Read();
        return new TraceHeader
        {
            ToolVersion = HostFacts.ToolVersion,
            ToolCommandLine = _options.ToolCommandLine,
            Workload = _options.Workload,
            TargetCommandLine = string.Join(' ', _target.Info.CommandLine),
            TargetPid = _target.Info.Pid,
            Kernel = kernel,
            CpuModel = cpu,
            CpuCount = Environment.ProcessorCount,
            Recorded = DateTimeOffset.UtcNow,
            Region = _options.Region.ToString().ToLowerInvariant(),
            Kind = IsDemandOnly ? RecordingKind.Capture : RecordingKind.Live,
            Policy = _options.Policy.Text,
            Link = _options.LinkName,
            Transfer = _options.EffectiveTransfer.ToString(),
            Seed = _options.Seed,
            Image = evicted.Image,
            ResidentAtStart = evicted.Resident,
            Properties = new Dictionary<string, string>(_options.TraceProperties.Concat(Left.ToProperties()).Concat(
                _options.DescribeContent ? ContentSample.Of(_images!.Pages((uint)_target.Info.Pid), evicted.Image).ToProperties() : [])),
        };
    }
}
