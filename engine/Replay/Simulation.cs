using System.Runtime.CompilerServices;
using Testbed.Core;
using Testbed.Policies;

namespace Testbed.Replay;

/// <summary>What a replay varies.</summary>
/// <param name="Policy">The policy.</param>
/// <param name="Link">The link, as numbers.</param>
/// <param name="LinkName">And as typed.</param>
public sealed record ReplayOptions(PolicySpec Policy, LinkParameters Link, string LinkName)
{
    /// <summary>How requests are carried; null: as belongs to the policy.</summary>
    public TransferOptions? Transfer { get; init; }

    /// <summary>What the host charges.</summary>
    public HostCosts Costs { get; init; } = new();

    /// <summary>For policies with randomness.</summary>
    public ulong Seed { get; init; } = 1;

    /// <summary>What record-and-prefetch policies know; null: the workload's own first touches.</summary>
    public IReadOnlyList<PageNumber>? Recording { get; init; }

    /// <summary>What no policy can beat (<see cref="LowerBound"/>), to be put into the result; the simulation does not look at it.</summary>
    public LinkBound? Bound { get; init; }
}

/// <summary>
/// What-if replay: a discrete-event simulation of threads, daemon, page server and link in closed loop, around the
/// same <see cref="FaultService"/> and policy as live. A thread that waits goes on when its page is in, thinks as long as it did
/// when it was recorded, and touches its next page. The daemon and each lane's server do one thing at a time. A range
/// that is being installed is there for other threads from the beginning of its install.
/// </summary>
public sealed class Simulation : IServiceObserver
{
    private readonly ReplayWorkload _workload;
    private readonly ReplayOptions _options;
    private readonly HostCosts _costs;
    private readonly long _thinkSaved, _bulkThink;
    private readonly FaultService _service;
    private readonly PageMap _map;
    private readonly RunMetrics _metrics;
    private readonly EventQueue _events;
    private readonly LinkScheduler _link;
    private readonly Queue<(SimEventKind Kind, int A, int Pages)> _daemonQueue = new();
    private readonly ThreadState[] _threads;
    private readonly long _shaperDelay;
    private readonly DelaySample _delays;
    private readonly long _delayInterval, _delivery, _longestExposed;
    private ulong _random;
    private long _lastDeparture, _lastArrival;
    private readonly long[] _serverFree;

    // A bit for each page that was asked for as prefetch and not touched since; none before the first.
    private ulong[] _prefetched = [];

    // A large memory's page states are not in the cache when a touch asks for them, unless its thread looks ahead.
    private const int Ahead = 32;
    private readonly bool _looksAhead, _adapts;
    private ulong _seenAhead;
    private OpenRequest[] _open = new OpenRequest[64];
    private readonly List<ServiceCommand> _todo = [];
    private bool _daemonBusy;
    private long _daemonTime;

    // One event of each kind, changed from use to use: see ServiceEvent.
    private ServiceEvent _fault = new(ServiceEventKind.Fault, Instant.Zero, 0, default);
    private ServiceEvent _arrived = new(ServiceEventKind.Arrived, Instant.Zero, 0, default);
    private ServiceEvent _outcome = new(ServiceEventKind.InstallOutcome, Instant.Zero, 0, default);
    private ServiceEvent _idle = new(ServiceEventKind.Idle, Instant.Zero, 0, default);
    private long _workloadEnd;
    private long _sumOfEnds, _thinking;

    // Pages on their way that nobody waited for when they were asked for.
    private long _bulk;
    private long _firstResponseEnd;
    private long _useful, _latePrefetch;

    private Simulation(ReplayWorkload workload, ReplayOptions options)
    {
        (_workload, _options, _costs) = (workload, options, options.Costs);
        _thinkSaved = (_costs.FaultDelivery + _costs.ThreadWake).Nanoseconds;
        _bulkThink = _costs.BulkThink.Nanoseconds;
        TransferOptions transfer = options.Transfer ?? options.Policy.DefaultTransfer;
        IReadOnlyList<PageNumber> recording = options.Recording ?? workload.Recording;
        _service = new FaultService(
            transfer, map => options.Policy.Create(new PolicyEnvironment(map, recording, options.Seed)), this);
        _metrics = new RunMetrics(workload.Image.PresentPages);
        _map = _service.AddSpace(0, workload.Image);
        // The shaper sends a quantum at a time; without one, the server writes what fits into its buffer.
        _link = options.Link.IsUnshaped ? new LinkScheduler(options.Link, transfer.Lanes, quantum: 64 * 1024) : new LinkScheduler(options.Link, transfer.Lanes);
        _threads = [.. workload.Threads.Select(t => new ThreadState(t))];
        _events = new EventQueue(_threads.Length);
        _shaperDelay = options.Link.IsUnshaped ? 0 : _costs.ShaperDelay.Nanoseconds;
        _delays = options.Link.IsUnshaped ? _costs.LocalDelays : _costs.ShapedDelays;
        _delayInterval = (options.Link.IsUnshaped ? _costs.LocalInterval : _costs.ShapedInterval).Nanoseconds;
        _delivery = (_costs.FaultDelivery + (options.Link.IsUnshaped ? Duration.Zero : _costs.IdleWake)).Nanoseconds;
        _longestExposed = Math.Max(_delayInterval, (options.Link.RoundTrip + options.Link.Rate.TimeFor(PageNumber.Size)).Nanoseconds);
        _random = options.Seed;
        _serverFree = new long[transfer.Lanes];
        _looksAhead = _map.Count >= 1 << 20;
        _adapts = transfer.AdaptFlight;
    }

    /// <summary>Runs the workload to its end, and the background transfer to its own.</summary>
    public static RunResult Run(ReplayWorkload workload, ReplayOptions options) => new Simulation(workload, options).Run();

    private RunResult Run()
    {
        for (int lane = 0; lane < _serverFree.Length; lane++)
            _ = _service.Handle(new ServiceEvent(ServiceEventKind.LaneUp, Instant.Zero, 0, default) { Lane = lane });
        for (int thread = 0; thread < _threads.Length; thread++)
        {
            if (_threads[thread].Pages.Length > 0)
                _events.PushThread(ThinkBefore(_threads[thread]), SimEventKind.Thread, thread);
        }
        Daemon(_idle);
        FreeDaemon();
        while (RunEvents())
        {
        }
        if (_service.PendingFaults > 0)
            throw new InvalidOperationException($"replay of {_workload.Name} ended with {_service.PendingFaults} faults unanswered");
        var prefetch = new PrefetchCounts(_metrics.PrefetchedPages, _useful, _latePrefetch, _metrics.PrefetchedPages - _useful - _latePrefetch);
        Duration? first = _workload.FirstResponseTail is { } tail ? new Duration(_firstResponseEnd) + tail : null;
        return _metrics.ToResult(
            _workload.Name, _options.Policy.Text, _options.LinkName, RunMode.Replay,
            new Duration(_workloadEnd), prefetch, _service.CommandHash, first, new Duration(_sumOfEnds - _thinking), _options.Bound);
    }

    /// <summary>The next thousand events; false when there are no more. Not all: a method that is called again is compiled again, with
    /// what was learnt meanwhile.</summary>
    private bool RunEvents()
    {
        for (int i = 0; i < 1000; i++)
        {
            SimEventKind kind = _events.Next(out long time, out int a, out int pages);
            if (kind == SimEventKind.Arrival)
                ToDaemon(SimEventKind.Arrival, time, a, pages);
            else if (kind == SimEventKind.Thread)
                RunThread(a, time);
            else if (!RunOther(kind, time, a))
                return false;
        }
        return true;
    }

    private bool RunOther(SimEventKind kind, long time, int a)
    {
        switch (kind)
        {
            case SimEventKind.Fault: ToDaemon(SimEventKind.Fault, time, a, 0); return true;
            case SimEventKind.Link: RunLink(time); return true;
            case SimEventKind.DaemonFree: _daemonTime = time; FreeDaemon(); return true;
            default: return false;
        }
    }

    private void ToDaemon(SimEventKind kind, long time, int a, int pages)
    {
        if (_daemonBusy)
        {
            _daemonQueue.Enqueue((kind, a, pages));
            return;
        }
        _daemonTime = time;
        Receive(kind, a, pages);
        FreeDaemon();
    }

    /// <summary>Goes from touch to touch until one has to wait, or something else happens first.</summary>
    private void RunThread(int thread, long time)
    {
        ref ThreadState state = ref _threads[thread];
        while (true)
        {
            if (_looksAhead && state.Cursor % Ahead == 0)
                LookAhead(state);
            long page = state.Pages[state.Cursor];
            bool resident = _map[page] == PageState.Resident;
            if (_prefetched.Length > 0)
                CountTouch(page, resident);
            if (!resident)
            {
                state.Touching = page;
                time += _delivery;
                // Where nothing comes before it, the queue is a detour.
                if (!_daemonBusy && time < _events.NextTime)
                    ToDaemon(SimEventKind.Fault, time, thread, 0);
                else
                    _events.PushThread(time, SimEventKind.Fault, thread);
                return;
            }
            if (!Advance(ref state, time))
                return;
            time += ThinkBefore(state);
            if (time >= _events.NextTime)
            {
                _events.PushThread(time, SimEventKind.Thread, thread);
                return;
            }
        }
    }

    /// <summary>Brings what is known of the next pages into the cache: one by one each would be waited for, together they come at once.</summary>
    private void LookAhead(in ThreadState state)
    {
        ulong sum = 0;
        foreach (uint page in state.Pages.AsSpan(state.Cursor, Math.Min(Ahead, state.Pages.Length - state.Cursor)))
            sum += (ulong)_map[page] + _map.PageAt(page).Value;
        _seenAhead = sum;
    }

    /// <summary>The first touch of a prefetched page decides whether it came in time.</summary>
    private void CountTouch(long page, bool resident)
    {
        ulong bit = 1ul << (int)(page & 63);
        ref ulong word = ref _prefetched[page >> 6];
        if ((word & bit) == 0)
            return;
        word &= ~bit;
        if (resident)
            _useful++;
        else
            _latePrefetch++;
    }

    /// <summary>The touch at the cursor is done; false when it was the last.</summary>
    private bool Advance(ref ThreadState state, long time)
    {
        if (++state.Cursor == state.BeforeFirstResponse)
            _firstResponseEnd = Math.Max(_firstResponseEnd, time);
        if (state.Cursor < state.Pages.Length)
            return true;
        _workloadEnd = Math.Max(_workloadEnd, time);
        _sumOfEnds += time;
        return false;
    }

    /// <summary>How long a thread thinks before the touch at its cursor; asked once for each. When it does not think, it waits.</summary>
    private long ThinkBefore(in ThreadState state)
    {
        long think = state.Think[state.Cursor] - _thinkSaved;
        // At least zero, without a branch that is as good as random.
        think &= ~(think >> 63);
        _thinking += think;
        return _bulk > 0 ? think + think * _bulkThink / 1_000_000 : think;
    }

    /// <summary>The daemon takes in what reached it.</summary>
    private void Receive(SimEventKind kind, int a, int pages)
    {
        if (kind == SimEventKind.Arrival)
            ReceivePages(a, pages);
        else
            ReceiveFault(a);
    }

    private void ReceivePages(int request, int pages)
    {
        _bulk -= _open[request].TakeBulk(pages);
        _daemonTime += _costs.ReceivePerCall.Nanoseconds + pages * _costs.ReceivePerPage.Nanoseconds;
        _arrived.Range = _open[request].Take(pages);
        _arrived.Request = request;
        _arrived.Time = new Instant(_daemonTime);
        Daemon(_arrived);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void ReceiveFault(int thread)
    {
        ref ThreadState state = ref _threads[thread];
        PageNumber page = _map.PageAt(state.Touching);
        state.Waiting = page;
        _fault.Range = PageRange.Single(page);
        _fault.Thread = thread;
        _fault.Access = state.Writes[state.Cursor] ? Access.Write : Access.Read;
        _fault.Time = _fault.Woken = new Instant(_daemonTime);
        Daemon(_fault);
    }

    /// <summary>The daemon is free again, unless something came while it worked: that comes first.</summary>
    private void FreeDaemon()
    {
        while (_events.NextTime > _daemonTime)
        {
            if (_daemonQueue.Count > 0)
            {
                (SimEventKind kind, int a, int pages) = _daemonQueue.Dequeue();
                Receive(kind, a, pages);
            }
            else if (_service.WantsIdle || (_adapts && _service.BulkResumes?.Nanoseconds <= _daemonTime))
            {
                _idle.Time = new Instant(_daemonTime);
                Daemon(_idle);
            }
            else
            {
                _daemonBusy = false;
                if (_adapts && _service.BulkResumes is { } then)
                    _events.SetDaemonFree(then.Nanoseconds);
                if (_events.TryTakeLink(out long start))
                    RunLink(start);
                return;
            }
        }
        _daemonBusy = true;
        _events.SetDaemonFree(_daemonTime);
    }

    /// <summary>One event through the service, with all that follows from it; the daemon's time goes on meanwhile. There is no
    /// buffer to release and no kernel to wake anybody: woken threads are told through OnResolved.</summary>
    private void Daemon(in ServiceEvent e)
    {
        ReadOnlySpan<ServiceCommand> commands = _service.Handle(e);
        for (int i = 0; i < commands.Length; i++)
        {
            ref readonly ServiceCommand command = ref commands[i];
            if (command.Kind == CommandKind.Request)
            {
                Send(command);
            }
            else if (IsInstall(command))
            {
                // What is said to the outcome takes the place of these commands: mostly none of them is needed any more.
                if (i + 1 < commands.Length && MoreBehind(commands[(i + 1)..]))
                {
                    DaemonLong(commands[i..]);
                    return;
                }
                Put(command);
                commands = _service.Handle(_outcome);
                i = -1;
            }
        }
    }

    private static bool IsInstall(in ServiceCommand command) => command.Kind is CommandKind.Install or CommandKind.Zero;

    private static bool MoreBehind(ReadOnlySpan<ServiceCommand> commands)
    {
        foreach (ref readonly ServiceCommand command in commands)
        {
            if (command.Kind == CommandKind.Request || IsInstall(command))
                return true;
        }
        return false;
    }

    /// <summary>Several commands: kept, and carried out in order, with what follows from each behind them.</summary>
    private void DaemonLong(ReadOnlySpan<ServiceCommand> commands)
    {
        _todo.Clear();
        _todo.AddRange(commands);
        for (int i = 0; i < _todo.Count; i++)
        {
            ServiceCommand command = _todo[i];
            if (command.Kind == CommandKind.Request)
                Send(command);
            if (!IsInstall(command))
                continue;
            Put(command);
            _todo.AddRange(_service.Handle(_outcome));
        }
    }

    /// <summary>Installs, or makes zero pages; what came of it, the service is to be told.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void Put(in ServiceCommand command)
    {
        PageRange range = command.Range;
        _daemonTime += _costs.InstallPerCall.Nanoseconds + range.Count * _costs.InstallPerPage.Nanoseconds;
        _outcome.Range = range;
        if (command.Kind == CommandKind.Zero)
        {
            PutZero(range.Start);
            return;
        }
        if (_open[command.Request].IsDemand || SomebodyWaits(range))
            _daemonTime += _costs.InstallWake.Nanoseconds;
        _outcome.Time = new Instant(_daemonTime);
        _outcome.Request = command.Request;
        _outcome.Outcome = InstallOutcome.Installed;
    }

    private void PutZero(PageNumber page)
    {
        _daemonTime += _costs.InstallWake.Nanoseconds;
        // It came in since the fault was queued: the kernel says that it is there.
        bool present = _map.TryIndex(page, out long index) && _map[index] == PageState.Resident;
        _outcome.Time = new Instant(_daemonTime);
        _outcome.Request = -1;
        _outcome.Outcome = present ? InstallOutcome.AlreadyPresent : InstallOutcome.Installed;
    }

    /// <summary>Run-time and dump addresses are one here: nothing is remapped.</summary>
    private bool SomebodyWaits(PageRange range)
    {
        if (_service.PendingFaults == 0)
            return false;
        foreach (ref readonly ThreadState state in _threads.AsSpan())
        {
            if (range.Contains(state.Waiting))
                return true;
        }
        return false;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void Send(in ServiceCommand command)
    {
        (int lane, int request, PageRange range) = (command.Lane, command.Request, command.Range);
        _daemonTime += _costs.RequestSend.Nanoseconds;
        if (request >= _open.Length)
            Array.Resize(ref _open, request * 2);
        _open[request].Rest = range;
        _open[request].IsDemand = command.Cause == Cause.Demand;
        _open[request].Bulk = (int)range.Count - (command.Cause == Cause.Demand ? 1 : 0);
        long ready = Math.Max(_daemonTime + _costs.HostDelay.Nanoseconds, _serverFree[lane])
            + _costs.ServerPerRequest.Nanoseconds + range.Count * _costs.ServerPerPage.Nanoseconds;
        _serverFree[lane] = ready;
        _link.Enqueue(lane, request, range.Bytes, new Instant(ready));
        _events.SetLink(_link.NextStart.Nanoseconds);
    }

    private void RunLink(long now)
    {
        while (_link.TryDepart(new Instant(now), out Departure d))
        {
            // What is late delays what is behind it: one thread sends all, and one takes all in.
            long due = d.Due.Nanoseconds + _shaperDelay + _delays.Draw(ref _random, Math.Min(d.Due.Nanoseconds - _lastDeparture, _longestExposed), _delayInterval);
            _lastDeparture = d.Due.Nanoseconds;
            _lastArrival = Math.Max(Math.Max(_lastArrival, d.Due.Nanoseconds), due);
            _events.PushArrival(_lastArrival, d.Tag, (int)(d.Bytes >> PageNumber.Shift));
            if (_link.IsEmpty)
                return;
        }
        _events.SetLink(_link.NextStart.Nanoseconds);
    }

    /// <inheritdoc/>
    void IServiceObserver.OnRequested(Instant time, int space, PageRange range, Cause cause)
    {
        _metrics.OnRequested(time, space, range, cause);
        if (cause != Cause.Demand)
            _bulk += range.Count;
        if (cause != Cause.Prefetch || !_map.TryIndex(range.Start, out long index))
            return;
        if (_prefetched.Length == 0)
            _prefetched = new ulong[(_map.Count + 63) / 64];
        long end = index + range.Count;
        for (long at = index; at < end; at = (at | 63) + 1)
        {
            ulong upToEnd = end - (at & ~63L) < 64 ? (1ul << (int)(end & 63)) - 1 : ulong.MaxValue;
            _prefetched[at >> 6] |= (ulong.MaxValue << (int)(at & 63)) & upToEnd;
        }
        // Already touched: the fault is on its way to the daemon.
        foreach (ref readonly ThreadState state in _threads.AsSpan())
        {
            if ((ulong)(state.Touching - index) < (ulong)range.Count)
                CountTouch(state.Touching, resident: false);
        }
    }

    /// <inheritdoc/>
    void IServiceObserver.OnInstalled(in InstallRecord install) => _metrics.OnInstalled(install);

    /// <inheritdoc/>
    void IServiceObserver.OnResolved(in FaultRecord fault)
    {
        _metrics.OnResolved(fault);
        ref ThreadState state = ref _threads[fault.Thread];
        state.Waiting = default;
        state.Touching = -1;
        long running = fault.Resolved.Nanoseconds + _costs.ThreadWake.Nanoseconds;
        if (Advance(ref state, running))
            _events.PushThread(running + ThinkBefore(state), SimEventKind.Thread, fault.Thread);
    }

    /// <summary>How far a thread has come.</summary>
    private struct ThreadState(TouchSequence touches)
    {
        public readonly uint[] Pages = touches.Pages;
        public readonly long[] Think = touches.Think;
        public readonly bool[] Writes = touches.Writes;
        public readonly int BeforeFirstResponse = touches.BeforeFirstResponse;

        /// <summary>Its next touch.</summary>
        public int Cursor;

        /// <summary>The page that it touched and waits for; -1 while it waits for none.</summary>
        public long Touching = -1;

        /// <summary>The same, from when the daemon knows of it.</summary>
        public PageNumber Waiting;
    }
}
