using System.Runtime.CompilerServices;

namespace Testbed.Core;

/// <summary>
/// The state machine of lazy restore, the same live and in replay. <see cref="Handle"/> is the only way in; it has no
/// clock, socket, thread or lock, and in steady state allocates nothing. See ARCHITECTURE.md for the flow of events.
/// </summary>
public sealed partial class FaultService
{
    private readonly TransferOptions _transfer;
    private readonly bool _adapts;
    private readonly Func<PageMap, IPolicy> _newPolicy;
    private readonly IServiceObserver _observer;
    private readonly List<AddressSpace> _spaces = [];

    // The space of the last event: most processes never fork.
    private AddressSpace? _recent;
    private readonly Plan _plan = new();
    private readonly bool[] _laneUp;

    // For each cause the lane that is up, the preferred one if possible; -1 when none is.
    private readonly int[] _laneFor = [-1, -1, -1];
    private ServiceCommand[] _commands = new ServiceCommand[64];
    private int _commandCount;

    // Those that wait, and behind them the ones that are free: the records do not move.
    private PendingFault[] _pending = [.. Enumerable.Range(0, 16).Select(i => new PendingFault { Record = i })];
    private FaultRecord[] _records = new FaultRecord[16];
    private int _pendingCount;
    private readonly FlightControl _flight;
    private bool _held;
    private Instant _released;
    private bool _draining;

    // Whether there is anything to move that nobody waits for: by a policy, or because all is to be moved.
    private bool _hasBackground;
    private Instant _now;

    /// <summary>A service without memory yet: add the first address space.</summary>
    /// <param name="transfer">How requests are carried.</param>
    /// <param name="newPolicy">Makes the policy of an address space; called for the first one and for each fork.</param>
    /// <param name="observer">Is told what happens.</param>
    /// <param name="held">Whether only demand is moved until <see cref="ServiceEventKind.Released"/>: while a restorer is at work, pages may
    /// not be where they belong yet.</param>
    public FaultService(TransferOptions transfer, Func<PageMap, IPolicy> newPolicy, IServiceObserver observer, bool held = false)
    {
        if (transfer.Lanes < 1 || transfer.MaxRequest < PageNumber.Size || transfer.MaxInFlight < PageNumber.Size)
            throw new BadInputException($"transfer: lanes={transfer.Lanes}, maxRequest={transfer.MaxRequest}, maxInFlight={transfer.MaxInFlight}; expected at least 1 lane and 4096 bytes each");
        (_transfer, _newPolicy, _observer, _held) = (transfer, newPolicy, observer, held);
        _adapts = transfer.AdaptFlight;
        _flight = new FlightControl(transfer);
        _laneUp = new bool[transfer.Lanes];
    }

    /// <summary>A hash over all commands so far, in order.</summary>
    public ulong CommandHash { get; private set; } = 14695981039346656037;

    /// <summary>Whether nothing is away any more, in any address space.</summary>
    public bool IsComplete
    {
        get
        {
            foreach (AddressSpace space in _spaces)
            {
                if (space.IsAlive && !space.IsServed)
                    return false;
            }
            return _openRequests == 0;
        }
    }

    /// <summary>Whether only what is waited for is moved, until <see cref="ServiceEventKind.Released"/>.</summary>
    public bool IsHeld => _held;

    /// <summary>Faults that wait for an answer.</summary>
    public int PendingFaults => _pendingCount;

    /// <summary>The state of an address space's pages; null when there is no such address space.</summary>
    public PageMap? MapOf(int space) => Find(space)?.Map;

    /// <summary>Whether an Idle event could have any effect now.</summary>
    public bool WantsIdle => !_held && (_retryCount > 0 || (_backgroundMayAsk && !IsExcluded));

    /// <summary>Whether pages wait for their areas to be registered: an Idle event tries again, and should come every
    /// millisecond or so.</summary>
    public bool WaitsForAreas => _held && _retryCount > 0;

    /// <summary>Whether the background has to wait until nothing is in flight.</summary>
    private bool IsExcluded => _openRequests > _delayedRequests && _transfer.ExclusiveBackground;

    /// <summary>Takes charge of a process's memory. Before the first event, or between events.</summary>
    /// <param name="id">Its number.</param>
    /// <param name="image">What is away of it.</param>
    /// <param name="namesThreads">Whether its faults say which thread waits. If not, waits are told apart by their page alone.</param>
    public PageMap AddSpace(int id, MemoryImage image, bool namesThreads = true)
    {
        if (Find(id) is not null)
            throw new InvalidOperationException($"address space {id} exists already");
        var map = new PageMap(image);
        Add(new AddressSpace(id, map, new RemapTable(), _newPolicy(map)) { NamesThreads = namesThreads });
        return map;
    }

    private void Add(AddressSpace space)
    {
        _spaces.Add(space);
        _hasBackground |= space.HasProposals;
        _backgroundMayAsk |= _hasBackground;
    }

    /// <summary>The areas are there now: what waited for them goes in first of all.</summary>
    private void OnReleased()
    {
        (_held, _released) = (false, _now);
        Retry();
    }

    /// <summary>All is moved, also where the policy proposes nothing.</summary>
    private void OnDrain() => _draining = _hasBackground = _backgroundMayAsk = true;

    /// <summary>
    /// Takes one event and answers what is to be done, in order. The answer is valid until the next call. All of it is to
    /// be carried out, and the outcomes of installs handled (in any order, with what they answer), before the next
    /// event of another kind.
    /// </summary>
    public ReadOnlySpan<ServiceCommand> Handle(in ServiceEvent e)
    {
        _commandCount = 0;
        _now = e.Time;
        // What comes in is news for the background only when it waits for room.
        if (_hasBackground && e.Kind is not ServiceEventKind.Idle)
            _backgroundMayAsk |= _backgroundWaits || e.Kind is not (ServiceEventKind.Arrived or ServiceEventKind.InstallOutcome);
        switch (e.Kind)
        {
            case ServiceEventKind.Fault: OnFault(e); break;
            case ServiceEventKind.Arrived: OnArrived(e.Request, e.Range); break;
            case ServiceEventKind.InstallOutcome: OnOutcome(e); break;
            case ServiceEventKind.Idle: OnIdle(); break;
            default: OnRare(e); break;
        }
        return new ReadOnlySpan<ServiceCommand>(_commands, 0, _commandCount);
    }

    private void OnRare(in ServiceEvent e)
    {
        switch (e.Kind)
        {
            case ServiceEventKind.Removed: OnRemoved(Space(e.Space), e.Range, PageState.Hole); break;
            case ServiceEventKind.Unmapped: OnRemoved(Space(e.Space), e.Range, PageState.Resident); break;
            case ServiceEventKind.Remapped: OnRemapped(Space(e.Space), e.Range, e.Destination); break;
            case ServiceEventKind.Forked: OnForked(Space(e.Space), e.Other); break;
            case ServiceEventKind.Exited: OnExited(Space(e.Space)); break;
            case ServiceEventKind.LaneUp: OnLaneUp(e.Lane); break;
            case ServiceEventKind.LaneDown: OnLaneDown(e.Lane); break;
            case ServiceEventKind.Drain: OnDrain(); break;
            case ServiceEventKind.Released: OnReleased(); break;
            case ServiceEventKind.Delayed: OnDelayed(e.Request); break;
            case ServiceEventKind.Needed: OnNeeded(Space(e.Space), e.Range); break;
            default: throw new InvalidOperationException($"unknown event {e.Kind}");
        }
    }

    private void OnFault(in ServiceEvent e)
    {
        AddressSpace space = Space(e.Space);
        PageNumber run = e.Range.Start;
        if (!space.IsAlive)
            return;
        if (!space.TryIndex(run, out long index, out PageNumber dump))
        {
            // Registered, but not ours: an area that grew, or was left behind by mremap. It reads as zero.
            ref FaultRecord unknown = ref AddPending(space, e, -1, run, Cause.Zero);
            unknown.Requested = unknown.Arrived = _now;
            Emit(CommandKind.Zero, space, -1, PageRange.Single(run));
            return;
        }
        PageState state = space.Map[index];
        ref FaultRecord fault = ref AddPending(space, e, index, dump, CauseOf(state, space, index));
        switch (state)
        {
            case PageState.Lazy:
                MakeWay();
                // The demand page first; what the policy adds follows behind it.
                fault.Requested = _now;
                RequestDemand(space, index, dump);
                break;
            case PageState.InFlight:
                MakeWay();
                fault.Requested = _now;
                break;
            default:
                // A hole. Or resident: then either somebody else's fault brought it since this one was queued, which
                // the kernel will tell (EEXIST), or it was discarded behind our back, and reads as zero.
                fault.Requested = fault.Arrived = _now;
                Emit(CommandKind.Zero, space, -1, PageRange.Single(run));
                break;
        }
        if (!space.HasProposals || state == PageState.Resident || _draining || _held)
            return;
        _plan.Reset(Allowance(Cause.Prefetch), Allowance(Cause.Background));
        space.Policy.OnFault(new PolicyFault(index, state, e.Thread, e.Access, _now), space.Map, _plan);
        if (!_plan.Entries.IsEmpty)
            CarryOut(space);
    }

    private void MakeWay()
    {
        if (_adapts && IsCourteous)
            _flight.OnFault();
    }

    private Cause CauseOf(PageState state, AddressSpace space, long index) => state switch
    {
        PageState.Lazy => Cause.Demand,
        PageState.InFlight => CauseInFlight(space, index),
        _ => Cause.Zero,
    };

    private ref FaultRecord AddPending(AddressSpace space, in ServiceEvent e, long index, PageNumber page, Cause cause)
    {
        int known = FindPending(space, e, index, page);
        if (known >= 0)
            return ref _records[known];
        if (_pendingCount == _pending.Length)
            GrowPending();
        // Field by field: what was put together on the stack would have to be copied.
        ref PendingFault pending = ref _pending[_pendingCount++];
        pending.Place = space.PlaceOf(index);
        pending.RunPage = e.Range.Start;
        pending.Space = space.Id;
        pending.Thread = e.Thread;
        ref FaultRecord fault = ref _records[pending.Record];
        fault.Space = space.Id;
        fault.Thread = e.Thread;
        fault.Page = page;
        fault.Access = e.Access;
        fault.Cause = cause;
        fault.Woken = e.Woken;
        fault.Read = fault.Requested = fault.Arrived = _now;
        return ref fault;
    }

    /// <summary>One entry per thread: a thread that was woken without its page, or went elsewhere in a signal
    /// handler, faults again; for the same page its wait goes on.</summary>
    /// <returns>The record of a wait that goes on; -1 when there is none.</returns>
    private int FindPending(AddressSpace space, in ServiceEvent e, long index, PageNumber page)
    {
        Span<PendingFault> pending = Pending;
        for (int i = 0; i < pending.Length; i++)
        {
            ref PendingFault p = ref pending[i];
            if (p.Thread != e.Thread || p.Space != space.Id)
                continue;
            if (p.Place == space.PlaceOf(index) && _records[p.Record].Page == page)
            {
                p.RunPage = e.Range.Start;
                return p.Record;
            }
            if (!space.NamesThreads)
                continue;
            RemovePending(i);
            break;
        }
        return -1;
    }

    private void GrowPending()
    {
        Array.Resize(ref _pending, _pendingCount * 2);
        Array.Resize(ref _records, _pendingCount * 2);
        for (int i = _pendingCount; i < _pending.Length; i++)
            _pending[i].Record = i;
    }

    /// <summary>The last takes its place.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void RemovePending(int i)
    {
        if (i == --_pendingCount)
            return;
        (_pending[i], _pending[_pendingCount]) = (_pending[_pendingCount], _pending[i]);
    }

    private Span<PendingFault> Pending => _pending.AsSpan(0, _pendingCount);

    /// <summary>The threads that waited for these pages, which came in at <paramref name="arrived"/>, run again.</summary>
    private void Resolve(AddressSpace space, long index, long count, Instant arrived)
    {
        Span<PendingFault> pending = Pending;
        long place = space.PlaceOf(index);
        // Which one it is, is as good as random: no branch depends on it as long as it is one.
        (int waiting, int which) = (0, 0);
        for (int i = 0; i < pending.Length; i++)
        {
            int one = pending[i].IsFor(place, count) ? 1 : 0;
            waiting += one;
            which |= i & -one;
        }
        if (waiting == 1)
        {
            Resolve(which, arrived);
            return;
        }
        for (int i = pending.Length - 1; i >= 0 && waiting > 0; i--)
        {
            if (pending[i].IsFor(place, count))
                Resolve(i, arrived);
        }
    }

    /// <summary>The threads that waited at this run-time page run again.</summary>
    private void ResolveAt(AddressSpace space, PageNumber run)
    {
        for (int i = _pendingCount - 1; i >= 0; i--)
        {
            if (_pending[i].Space == space.Id && _pending[i].RunPage == run)
                Resolve(i, Instant.Zero);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void Resolve(int pending, Instant arrived)
    {
        ref FaultRecord fault = ref _records[_pending[pending].Record];
        fault.Arrived = Instant.Max(fault.Requested, arrived);
        fault.Resolved = _now;
        _observer.OnResolved(fault);
        RemovePending(pending);
    }

    /// <summary>Discarded pages read as zero; unmapped ones are nobody's. What is in flight for them is dropped when
    /// it comes.</summary>
    private void OnRemoved(AddressSpace space, PageRange run, PageState state)
    {
        foreach (PageRange dump in space.Remaps.ToDump(run))
            SetAreas(space.Map, dump, state);
        WakeAll(space, run);
    }

    private void OnRemapped(AddressSpace space, PageRange run, PageNumber destination)
    {
        space.Remaps.Move(run, destination);
        WakeAll(space, run);
    }

    /// <summary>The answer to these waits has changed: the threads touch again, and that is a new fault. Perhaps they
    /// do not (nothing is mapped there any more, a signal came), so their wait must not be kept.</summary>
    private void WakeAll(AddressSpace space, PageRange run)
    {
        for (int i = _pendingCount - 1; i >= 0; i--)
        {
            if (_pending[i].Space != space.Id || !run.Contains(_pending[i].RunPage))
                continue;
            Emit(CommandKind.Wake, space, -1, PageRange.Single(_pending[i].RunPage));
            RemovePending(i);
        }
    }

    private void OnForked(AddressSpace parent, int child)
    {
        if (Find(child) is not null)
            throw new InvalidOperationException($"address space {child} exists already");
        PageMap map = parent.Map.Fork();
        Add(new AddressSpace(child, map, parent.Remaps.Fork(), _newPolicy(map))
        {
            IsAlive = parent.IsAlive,
            NamesThreads = parent.NamesThreads,
        });
    }

    private void OnExited(AddressSpace space)
    {
        if (!space.IsAlive)
            return;
        space.IsAlive = false;
        for (int i = _pendingCount - 1; i >= 0; i--)
        {
            if (_pending[i].Space == space.Id)
                RemovePending(i);
        }
        Emit(CommandKind.Unregister, space, -1, default);
    }

    private static void SetAreas(PageMap map, PageRange dump, PageState state)
    {
        PageNumber at = dump.Start;
        while (at < dump.End)
        {
            if (map.TryIndex(at, out long index))
            {
                long count = Math.Min(dump.End - at, map.AreaBounds(index).End - index);
                map.SetRange(index, count, state);
                at += count;
            }
            else if (!map.TryNextArea(at, out at))
            {
                return;
            }
        }
    }

    private AddressSpace? Find(int id)
    {
        foreach (AddressSpace space in _spaces)
        {
            if (space.Id == id)
                return space;
        }
        return null;
    }

    private AddressSpace Space(int id) => _recent is { } recent && recent.Id == id ? recent : _recent = Find(id) ?? throw NoSpace(id);

    private static InvalidOperationException NoSpace(int id) => new($"no address space {id}");

    private void Emit(
        CommandKind kind, AddressSpace space, int request, PageRange range,
        PageNumber source = default, int lane = 0, Cause cause = Cause.Demand)
    {
        (ServiceCommand[] commands, int count, int id) = (_commands, _commandCount, space.Id);
        if (count == commands.Length)
            commands = GrowCommands();
        commands[count] = new ServiceCommand(kind, id, request, range, source, lane, cause);
        _commandCount = count + 1;
        const ulong prime = 0x9E3779B97F4A7C15;
        ulong what = (ulong)kind | ((ulong)cause << 8) | ((ulong)(uint)lane << 16) | ((ulong)(uint)id << 32);
        ulong h = (CommandHash ^ what) * prime;
        h = (h ^ (h >> 29) ^ range.Start.Value ^ ((ulong)range.Count << 40)) * prime;
        CommandHash = (h ^ (h >> 31) ^ source.Value ^ ((ulong)(uint)request << 36)) * prime;
    }

    private ServiceCommand[] GrowCommands()
    {
        Array.Resize(ref _commands, _commandCount * 2);
        return _commands;
    }
}
