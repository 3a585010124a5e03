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
    private readonly long _thinkSaved;
    private readonly FaultService _service;
    private readonly PageMap _map;
    private readonly RunMetrics _metrics;
    private readonly EventQueue _events = new();
    private readonly LinkScheduler _link;
    private readonly Queue<SimEvent> _daemonQueue = new();
    private readonly int[] _cursor;
    private readonly PageNumber[] _waiting;
    private readonly long _shaperDelay;
    private readonly long[] _serverFree;
    private readonly ulong[] _touched;
    private readonly ulong[] _prefetched;
    private PageRange[] _arriving = new PageRange[64];
    private ServiceCommand[] _todo = new ServiceCommand[64];
    private int _todoCount;
    private bool _daemonBusy;
    private long _daemonTime;
    private long _workloadEnd;
    private long _sumOfEnds;
    private long _firstResponseEnd;
    private long _useful, _latePrefetch;

    private Simulation(ReplayWorkload workload, ReplayOptions options)
    {
        (_workload, _options, _costs) = (workload, options, options.Costs);
        _thinkSaved = (_costs.FaultDelivery + _costs.ThreadWake).Nanoseconds;
        TransferOptions transfer = options.Transfer ?? options.Policy.DefaultTransfer;
        IReadOnlyList<PageNumber> recording = options.Recording ?? workload.Recording;
        _service = new FaultService(
            transfer, map => options.Policy.Create(new PolicyEnvironment(map, recording, options.Seed)), this);
        _metrics = new RunMetrics(workload.Image.PresentPages);
        _map = _service.AddSpace(0, workload.Image);
        _link = new LinkScheduler(options.Link, transfer.Lanes);
        _cursor = new int[workload.Threads.Count];
        _waiting = new PageNumber[workload.Threads.Count];
        _shaperDelay = options.Link.IsUnshaped ? 0 : _costs.ShaperDelay.Nanoseconds;
        _serverFree = new long[transfer.Lanes];
        _touched = new ulong[(_map.Count + 63) / 64];
        _prefetched = new ulong[_touched.Length];
    }

    /// <summary>Runs the workload to its end, and the background transfer to its own.</summary>
    public static RunResult Run(ReplayWorkload workload, ReplayOptions options) => new Simulation(workload, options).Run();

    private RunResult Run()
    {
        for (int lane = 0; lane < _serverFree.Length; lane++)
            _ = _service.Handle(new ServiceEvent(ServiceEventKind.LaneUp, Instant.Zero, 0, default) { Lane = lane });
        for (int thread = 0; thread < _cursor.Length; thread++)
        {
            if (_workload.Threads[thread].Pages.Length > 0)
                _events.Push(ThinkBefore(_workload.Threads[thread], 0), SimEventKind.Thread, thread);
        }
        Daemon(new ServiceEvent(ServiceEventKind.Idle, Instant.Zero, 0, default));
        FreeDaemon();
        while (_events.TryPop(out SimEvent e))
            Step(e);
        if (_service.PendingFaults > 0)
            throw new InvalidOperationException($"replay of {_workload.Name} ended with {_service.PendingFaults} faults unanswered");
        var prefetch = new PrefetchCounts(_metrics.PrefetchedPages, _useful, _latePrefetch, _metrics.PrefetchedPages - _useful - _latePrefetch);
        Duration? first = _workload.FirstResponseTail is { } tail ? new Duration(_firstResponseEnd) + tail : null;
        return _metrics.ToResult(
            _workload.Name, _options.Policy.Text, _options.LinkName, RunMode.Replay,
            new Duration(_workloadEnd), prefetch, _service.CommandHash, first, Waiting(), _options.Bound);
    }

    /// <summary>A thread waits when it does not think.</summary>
    private Duration Waiting()
    {
        long thinking = 0;
        foreach (TouchSequence touches in _workload.Threads)
        {
            foreach (long think in touches.Think)
                thinking += Math.Max(0, think - _thinkSaved);
        }
        return new Duration(_sumOfEnds - thinking);
    }

    private void Step(in SimEvent e)
    {
        switch (e.Kind)
        {
            case SimEventKind.Thread:
                RunThread(e.A, e.Time);
                break;
            case SimEventKind.Link:
                RunLink(e.Time);
                break;
            case SimEventKind.DaemonFree:
                FreeDaemon();
                break;
            default:
                if (_daemonBusy)
                {
                    _daemonQueue.Enqueue(e);
                    break;
                }
                _daemonTime = e.Time;
                Daemon(ToServiceEvent(e));
                FreeDaemon();
                break;
        }
    }

    /// <summary>Goes from touch to touch until one has to wait, or something else happens first.</summary>
    private void RunThread(int thread, long time)
    {
        TouchSequence touches = _workload.Threads[thread];
        int cursor = _cursor[thread];
        while (true)
        {
            long page = touches.Pages[cursor];
            bool resident = _map[page] == PageState.Resident;
            CountTouch(page, resident);
            if (!resident)
            {
                _cursor[thread] = cursor;
                time += _costs.FaultDelivery.Nanoseconds;
                // Where nothing comes before it, the queue is a detour.
                if (!_daemonBusy && time < _events.NextTime)
                    Step(new SimEvent(time, (long)SimEventKind.Fault, thread, 0));
                else
                    _events.Push(time, SimEventKind.Fault, thread);
                return;
            }
            if (!Advance(thread, ref cursor, time))
                return;
            time += ThinkBefore(touches, cursor);
            if (time >= _events.NextTime)
            {
                _cursor[thread] = cursor;
                _events.Push(time, SimEventKind.Thread, thread);
                return;
            }
        }
    }

    /// <summary>The first touch of a prefetched page decides whether it came in time.</summary>
    private void CountTouch(long page, bool resident)
    {
        ulong bit = 1ul << (int)(page & 63);
        _touched[page >> 6] |= bit;
        if ((_prefetched[page >> 6] & bit) == 0)
            return;
        _prefetched[page >> 6] &= ~bit;
        if (resident)
            _useful++;
        else
            _latePrefetch++;
    }

    /// <summary>The touch at the cursor is done; false when it was the last.</summary>
    private bool Advance(int thread, ref int cursor, long time)
    {
        TouchSequence touches = _workload.Threads[thread];
        if (++cursor == touches.BeforeFirstResponse)
            _firstResponseEnd = Math.Max(_firstResponseEnd, time);
        if (cursor < touches.Pages.Length)
            return true;
        _cursor[thread] = cursor;
        _workloadEnd = Math.Max(_workloadEnd, time);
        _sumOfEnds += time;
        return false;
    }

    private long ThinkBefore(TouchSequence touches, int cursor) => Math.Max(0, touches.Think[cursor] - _thinkSaved);

    /// <summary>The first pages, and leaves the rest.</summary>
    private static PageRange Cut(ref PageRange rest, int pages)
    {
        var first = new PageRange(rest.Start, pages);
        rest = new PageRange(rest.Start + pages, rest.Count - pages);
        return first;
    }

    private ServiceEvent ToServiceEvent(in SimEvent e)
    {
        if (e.Kind == SimEventKind.Arrival)
        {
            PageRange range = Cut(ref _arriving[e.A], e.Pages);
            _daemonTime += _costs.ReceivePerCall.Nanoseconds + range.Count * _costs.ReceivePerPage.Nanoseconds;
            return new ServiceEvent(ServiceEventKind.Arrived, new Instant(_daemonTime), 0, range) { Request = e.A };
        }
        var now = new Instant(_daemonTime);
        TouchSequence touches = _workload.Threads[e.A];
        int cursor = _cursor[e.A];
        _waiting[e.A] = _map.PageAt(touches.Pages[cursor]);
        return new ServiceEvent(ServiceEventKind.Fault, now, 0, PageRange.Single(_waiting[e.A]))
        {
            Thread = e.A,
            Access = touches.Writes[cursor] ? Access.Write : Access.Read,
            Woken = now,
        };
    }

    /// <summary>The daemon is free again, unless something came while it worked: that comes first.</summary>
    private void FreeDaemon()
    {
        while (true)
        {
            if (_events.NextTime <= _daemonTime)
            {
                _daemonBusy = true;
                _events.SetDaemonFree(_daemonTime);
                return;
            }
            if (_daemonQueue.TryDequeue(out SimEvent next))
                Daemon(ToServiceEvent(next));
            else if (_service.WantsIdle)
                Daemon(new ServiceEvent(ServiceEventKind.Idle, new Instant(_daemonTime), 0, default));
            else
                break;
        }
        _daemonBusy = false;
    }

    /// <summary>One event through the service, with all that follows from it; the daemon's time goes on meanwhile.</summary>
    private void Daemon(in ServiceEvent e)
    {
        _todoCount = 0;
        Take(_service.Handle(e));
        for (int i = 0; i < _todoCount; i++)
        {
            ref readonly ServiceCommand command = ref _todo[i];
            if (command.Kind == CommandKind.Request)
            {
                Send(command);
                continue;
            }
            _daemonTime += _costs.InstallPerCall.Nanoseconds + command.Range.Count * _costs.InstallPerPage.Nanoseconds
                + (SomebodyWaits(command.Range) ? _costs.InstallWake.Nanoseconds : 0);
            Take(_service.Handle(Outcome(command)));
        }
    }

    /// <summary>Keeps what takes time, and sends at once what nothing is to be done before. There is no buffer to release
    /// and no kernel to wake anybody: woken threads are told through OnResolved.</summary>
    private void Take(ReadOnlySpan<ServiceCommand> commands)
    {
        foreach (ref readonly ServiceCommand command in commands)
        {
            if (command.Kind is not (CommandKind.Request or CommandKind.Install or CommandKind.Zero))
                continue;
            if (command.Kind == CommandKind.Request && _todoCount == 0)
            {
                Send(command);
                continue;
            }
            if (_todoCount == _todo.Length)
                Array.Resize(ref _todo, _todoCount * 2);
            _todo[_todoCount++] = command;
        }
    }

    /// <summary>Run-time and dump addresses are one here: nothing is remapped.</summary>
    private bool SomebodyWaits(PageRange range)
    {
        if (_service.PendingFaults == 0)
            return false;
        foreach (PageNumber page in _waiting)
        {
            if (range.Contains(page))
                return true;
        }
        return false;
    }

    private ServiceEvent Outcome(in ServiceCommand command)
    {
        // A zero page for a page that came in since the fault was queued: the kernel says that it is there.
        bool present = command.Kind == CommandKind.Zero
            && _map.TryIndex(command.Range.Start, out long index) && _map[index] == PageState.Resident;
        return new ServiceEvent(ServiceEventKind.InstallOutcome, new Instant(_daemonTime), 0, command.Range)
        {
            Request = command.Kind == CommandKind.Zero ? -1 : command.Request,
            Outcome = present ? InstallOutcome.AlreadyPresent : InstallOutcome.Installed,
        };
    }

    private void Send(in ServiceCommand command)
    {
        _daemonTime += _costs.RequestSend.Nanoseconds;
        if (command.Request >= _arriving.Length)
            Array.Resize(ref _arriving, command.Request * 2);
        _arriving[command.Request] = command.Range;
        long ready = Math.Max(_daemonTime + _costs.HostDelay.Nanoseconds, _serverFree[command.Lane])
            + _costs.ServerPerRequest.Nanoseconds + command.Range.Count * _costs.ServerPerPage.Nanoseconds;
        _serverFree[command.Lane] = ready;
        _link.Enqueue(command.Lane, command.Request, command.Range.Bytes, new Instant(ready));
        _events.SetLink(_link.NextStart.Nanoseconds);
    }

    private void RunLink(long now)
    {
        while (_link.TryDepart(new Instant(now), out Departure d))
        {
            _events.Push(d.Due.Nanoseconds + _shaperDelay, SimEventKind.Arrival, d.Tag, (int)(d.Bytes / PageNumber.Size));
        }
        _events.SetLink(_link.NextStart.Nanoseconds);
    }

    /// <inheritdoc/>
    void IServiceObserver.OnRequested(Instant time, int space, PageRange range, Cause cause)
    {
        _metrics.OnRequested(time, space, range, cause);
        if (cause != Cause.Prefetch || !_map.TryIndex(range.Start, out long index))
            return;
        for (long i = index; i < index + range.Count; i++)
        {
            ulong bit = 1ul << (int)(i & 63);
            // Already touched: the fault is on its way to the daemon.
            if ((_touched[i >> 6] & bit) != 0)
                _latePrefetch++;
            else
                _prefetched[i >> 6] |= bit;
        }
    }

    /// <inheritdoc/>
    void IServiceObserver.OnInstalled(in InstallRecord install) => _metrics.OnInstalled(install);

    /// <inheritdoc/>
    void IServiceObserver.OnResolved(in FaultRecord fault)
    {
        _metrics.OnResolved(fault);
        _waiting[fault.Thread] = default;
        TouchSequence touches = _workload.Threads[fault.Thread];
        int cursor = _cursor[fault.Thread];
        long running = fault.Resolved.Nanoseconds + _costs.ThreadWake.Nanoseconds;
        if (!Advance(fault.Thread, ref cursor, running))
            return;
        _cursor[fault.Thread] = cursor;
        _events.Push(running + ThinkBefore(touches, cursor), SimEventKind.Thread, fault.Thread);
    }
}
