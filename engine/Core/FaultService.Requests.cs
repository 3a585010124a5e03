namespace Testbed.Core;

/// <content>Requests: asking, arriving, installing.</content>
public sealed partial class FaultService
{
    private RequestSlot[] _slots = new RequestSlot[64];
    private int[] _freeSlots = [.. Enumerable.Range(0, 64).Reverse()];
    private int _freeCount = 64;
    private int _openRequests;
    private int _delayedRequests;

    // Behind the last slot that was ever used: the lowest that is free is taken, so only few are.
    private int _slotEnd;
    private (int Slot, PageRange Dump)[] _retries = new (int, PageRange)[8];
    private int _retryCount;

    // What was needed when it was asked for, to be asked for again when a lane is lost. Few, and only at the beginning.
    private readonly List<(AddressSpace Space, long Index)> _needed = [];
    private readonly long[] _inFlightPages = new long[3];
    private bool _backgroundMayAsk;
    private bool _backgroundWaits;
    private int _backgroundTurn;

    private void RequestDemand(AddressSpace space, long index, PageNumber page)
    {
        int lane = LaneUp(Cause.Demand);
        // With no lane the page stays lazy, and is asked for when a lane comes up.
        if (lane < 0)
            return;
        if (SharesLane && _hasBackground)
            RequestWithNeighbours(space, index, lane);
        else
            Ask(space, index, PageRange.Single(page), Cause.Demand, lane, index);
    }

    private void Ask(AddressSpace space, long index, PageRange range, Cause cause, int lane, long demanded = -1)
    {
        long count = range.Count;
        space.Map.SetInFlight(index, count);
        int id = TakeSlot();
        ref RequestSlot slot = ref _slots[id];
        // Slots keep their space when they are free: a reference that is stored is one that the garbage collector must be told of.
        if (slot.Space != space)
            slot.Space = space;
        slot.Range = range;
        slot.Index = index;
        slot.Demanded = demanded;
        slot.Cause = cause;
        slot.Lane = lane;
        slot.Open = count;
        slot.IsDelayed = false;
        slot.Requested = _now;
        if (_sharedLane && cause != Cause.Prefetch)
            GoAlong(cause, count);
        if (_adapts)
            _flight.OnRequested(_now, _inFlightPages[0] + _inFlightPages[1] + _inFlightPages[2]);
        _inFlightPages[(int)cause] += count;
        _openRequests++;
        Emit(CommandKind.Request, space, id, range, range.Start, lane, cause);
        if (count == 1 || cause != Cause.Demand)
            _observer.OnRequested(_now, space.Id, range, cause);
        else
            TellRequested(slot);
    }

    /// <summary>Asks for what the plan proposes, clipped to lazy pages, areas, budget and request size.</summary>
    /// <returns>Pages asked for.</returns>
    private long CarryOut(AddressSpace space)
    {
        long asked = 0;
        long maxRequest = GoesAlong ? _flight.Largest : _flight.RequestPages;
        foreach (Plan.Entry entry in _plan.Entries)
        {
            // A policy cannot raise anything to demand: that would let it overtake threads that wait.
            Cause cause = entry.Cause == Cause.Prefetch ? Cause.Prefetch : Cause.Background;
            int lane = LaneUp(cause);
            if (lane < 0)
                return asked;
            long end = Math.Min(entry.Index + entry.Count, space.Map.Count);
            long at = space.Map.NextLazy(Math.Max(0, entry.Index), end);
            while (at >= 0)
            {
                long allowed = Math.Min(Allowance(cause), maxRequest);
                if (allowed <= 0)
                    break;
                long areaEnd = Math.Min(end, space.Map.AreaBounds(at).End);
                long count = space.Map.LazyRun(at, Math.Min(areaEnd, at + allowed));
                Ask(space, at, new PageRange(space.Map.PageAt(at), count), cause, lane);
                asked += count;
                at = space.Map.NextLazy(at + count, end);
            }
        }
        return asked;
    }

    /// <summary>
    /// Idle, little room is no room: else each page that arrives is answered by a request for one page, whose arrival makes room for one
    /// page again, and what could be carried by one request costs a wake-up of five threads a page (TCP's silly window; Clark, RFC 813).
    /// </summary>
    private long IdleAllowance(Cause cause)
    {
        const int Share = 8;
        long room = Allowance(cause);
        return room < Math.Min(_flight.LeastRoom, Limit(cause) / Share) ? 0 : room;
    }

    private long Allowance(Cause cause)
    {
        if (cause == Cause.Background && IsExcluded)
            return 0;
        long room = Limit(cause) - _inFlightPages[(int)cause];
        // What is adapted to the link is for both together, and prefetch comes first.
        return _adapts && cause == Cause.Background ? room - _inFlightPages[(int)Cause.Prefetch] : room;
    }

    /// <summary>How much of a cause may be in flight now, in pages.</summary>
    private long Limit(Cause cause) => SharesLane ? LimitOfShared(cause) : _flight.Pages;

    /// <summary>Whether bulk makes way for faults, and comes back little by little: while the program is coming to life, and where it is in their way.</summary>
    private bool IsCourteous => SharesLane || _now - _released < _transfer.Courtesy;

    private void OnIdle()
    {
        Retry();
        if (_held)
            return;
        _backgroundMayAsk = _backgroundWaits = false;
        _heldBack = _hasBackground && GoesAlong;
        for (int served = 0; served < _spaces.Count;)
        {
            AddressSpace space = _spaces[_backgroundTurn < _spaces.Count ? _backgroundTurn : _backgroundTurn = 0];
            if (space.IsAlive && space.Map.LazyPages > 0 && FillBackground(space) > 0)
            {
                served = 0;
                _backgroundWaits = true;
                // Where one request may be open, the next one waits for the next event.
                if (_transfer.ExclusiveBackground)
                    return;
                continue;
            }
            _backgroundTurn++;
            served++;
        }
    }

    private long FillBackground(AddressSpace space)
    {
        (long prefetch, long budget) = (IdleAllowance(Cause.Prefetch), IdleAllowance(Cause.Background));
        _backgroundWaits |= budget <= 0 || _inFlightPages[(int)Cause.Prefetch] + _inFlightPages[(int)Cause.Background] > 0;
        // With no lane a policy would propose in vain, and go on as if it had been asked for.
        if ((budget <= 0 && prefetch <= 0) || LaneUp(Cause.Background) < 0)
            return 0;
        _plan.Reset(prefetch, budget);
        if (space.HasProposals)
            space.Policy.OnIdle(space.Map, _plan);
        _backgroundWaits |= !_plan.Entries.IsEmpty;
        long asked = CarryOut(space);
        if (asked > 0 || !_draining || budget <= 0)
            return asked;
        long from = space.Map.NextLazy(space.DrainCursor, space.Map.Count);
        if (from < 0)
            from = space.Map.NextLazy(0, space.Map.Count);
        if (from < 0)
            return 0;
        space.DrainCursor = from;
        _plan.Reset(0, budget);
        _plan.Add(from, space.Map.Count - from, Cause.Background);
        return CarryOut(space);
    }

    private void OnArrived(int id, PageRange range)
    {
        ref RequestSlot slot = ref Slot(id);
        long index = slot.IndexOf(range);
        if (index < 0)
            throw NotAskedFor(id, slot.Range, range);
        AddressSpace space = slot.Space!;
        if (_adapts && !slot.IsDelayed)
            _flight.OnArrived(_now, slot.Requested, range.Count, range.Start == slot.Range.Start, IsCourteous && _pendingCount > 0);
        slot.Arrived = _now;
        if (range.Count == 1 && space.IsAlive && space.Map[index] == PageState.InFlight)
            Emit(CommandKind.Install, space, id, space.Remaps.ToRun(range), range.Start);
        else
            Install(id, ref slot, index, range);
    }

    /// <summary>Pages that cannot be read must not keep those that can be from being asked for.</summary>
    private void OnDelayed(int id)
    {
        ref RequestSlot slot = ref Slot(id);
        if (slot.IsDelayed)
            return;
        slot.IsDelayed = true;
        _delayedRequests++;
        _inFlightPages[(int)slot.Cause] -= slot.Open;
    }

    /// <summary>Installs what of the range is still wanted, in runs that are together at run time too; drops the rest.</summary>
    private void Install(int id, ref RequestSlot slot, long index, PageRange dump)
    {
        AddressSpace space = slot.Space!;
        long dropped = dump.Count;
        if (space.IsAlive)
        {
            long end = index + dump.Count;
            while (index < end)
            {
                long run = space.Map.Run(index, end, PageState.InFlight);
                if (run == 0)
                {
                    index++;
                    continue;
                }
                PageNumber source = dump.Start + (dump.Count - (end - index));
                PageRange target = space.Remaps.ToRun(new PageRange(source, run));
                Emit(CommandKind.Install, space, id, target, source);
                dropped -= target.Count;
                index += target.Count;
            }
        }
        if (dropped > 0)
            Close(id, ref slot, dropped);
    }

    private void OnOutcome(in ServiceEvent e)
    {
        AddressSpace space = Space(e.Space);
        if (e.Outcome == InstallOutcome.ProcessGone)
        {
            OnExited(space);
            if (e.Request >= 0)
                Close(e.Request, ref _slots[e.Request], e.Range.Count);
            return;
        }
        if (e.Request < 0)
            OnZeroOutcome(space, e);
        else
            OnCopyOutcome(space, e);
    }

    private void OnZeroOutcome(AddressSpace space, in ServiceEvent e)
    {
        if (e.Outcome != InstallOutcome.Installed)
            Emit(CommandKind.Wake, space, -1, e.Range);
        // After EAGAIN the thread touches again; its wait goes on.
        if (e.Outcome == InstallOutcome.Again)
            return;
        PageNumber page = e.Range.Start;
        if (space.TryIndex(page, out long index, out _) && space.Map[index] == PageState.Hole)
            space.Map.Set(index, PageState.Resident);
        ResolveAt(space, page);
    }

    private void OnCopyOutcome(AddressSpace space, in ServiceEvent e)
    {
        int id = e.Request;
        ref RequestSlot slot = ref Slot(id);
        long index = space.Remaps.TryToDump(e.Range.Start, out PageNumber first) ? slot.IndexOf(PageRange.Single(first)) : -1;
        if (index < 0)
            throw NotAskedFor(id, slot.Range, e.Range);
        var dump = new PageRange(first, e.Range.Count);
        if (e.Outcome == InstallOutcome.Installed)
            FinishInstall(id, ref slot, index, dump);
        else
            OnNotInstalled(id, ref slot, index, dump, e);
    }

    private void OnNotInstalled(int id, ref RequestSlot slot, long index, PageRange dump, in ServiceEvent e)
    {
        // While a restorer is at work, an area that is not there is one that it has not registered yet.
        if (e.Outcome == InstallOutcome.Again || (e.Outcome == InstallOutcome.Gone && _held))
        {
            AddRetry(id, dump);
            return;
        }
        // The area was split (mprotect tells nobody): halves find the border, or the page that is gone.
        bool isSplit = e.Outcome == InstallOutcome.Gone && dump.Count > 1;
        long first = isSplit ? dump.Count / 2 : 1;
        (PageRange head, PageRange rest) = (new(dump.Start, first), new(dump.Start + first, dump.Count - first));
        if (isSplit)
        {
            Install(id, ref slot, index, head);
        }
        else
        {
            Emit(CommandKind.Wake, slot.Space!, -1, PageRange.Single(e.Range.Start));
            FinishInstall(id, ref slot, index, head);
        }
        if (!rest.IsEmpty)
            Install(id, ref slot, index + first, rest);
    }

    private void FinishInstall(int id, ref RequestSlot slot, long index, PageRange dump)
    {
        AddressSpace space = slot.Space!;
        space.Map.Install(index, dump.Count);
        if (slot.Range.Count == 1 || slot.Cause != Cause.Demand)
            _observer.OnInstalled(new InstallRecord(_now, space.Id, dump, slot.Cause));
        else
            TellInstalled(slot, dump);
        if (_pendingCount > 0)
            Resolve(space, index, dump.Count, slot.Arrived);
        Close(id, ref slot, dump.Count);
    }

    private void AddRetry(int id, PageRange dump)
    {
        if (_retryCount == _retries.Length)
            Array.Resize(ref _retries, _retryCount * 2);
        _retries[_retryCount++] = (id, dump);
    }

    /// <summary>EAGAIN meant that an event waited to be read; by now it has been.</summary>
    private void Retry()
    {
        int count = _retryCount;
        _retryCount = 0;
        for (int i = 0; i < count; i++)
        {
            (int id, PageRange dump) = _retries[i];
            ref RequestSlot slot = ref _slots[id];
            Install(id, ref slot, slot.IndexOf(dump), dump);
        }
    }

    private void OnLaneUp(int lane)
    {
        _laneUp[lane] = true;
        ChooseLanes();
        RequestPending();
    }

    private void OnLaneDown(int lane)
    {
        _laneUp[lane] = false;
        ChooseLanes();
        for (int id = 0; id < _slotEnd; id++)
        {
            if (_slots[id].Open > 0 && _slots[id].Lane == lane)
                Abandon(id, _slots[id].Space!);
        }
        RequestPending();
    }

    /// <summary>What the lost lane carried is lazy again, wherever it had come.</summary>
    private void Abandon(int id, AddressSpace space)
    {
        for (int i = _retryCount - 1; i >= 0; i--)
        {
            if (_retries[i].Slot == id)
                _retries[i] = _retries[--_retryCount];
        }
        (long index, long count) = (_slots[id].Index, _slots[id].Range.Count);
        for (long i = index; i < index + count; i++)
        {
            if (space.Map[i] == PageState.InFlight)
                space.Map.Set(i, PageState.Lazy);
        }
        Close(id, ref _slots[id], _slots[id].Open);
    }

    /// <summary>Asks for pages as if a thread waited for each of them.</summary>
    private void OnNeeded(AddressSpace space, PageRange run)
    {
        for (PageNumber page = run.Start; page < run.End; page += 1)
        {
            if (!space.TryIndex(page, out long index, out PageNumber dump) || space.Map[index] != PageState.Lazy)
                continue;
            _needed.Add((space, index));
            RequestDemand(space, index, dump);
        }
    }

    /// <summary>Whether pages that are needed first are not in yet.</summary>
    public bool LacksNeeded
    {
        get
        {
            _needed.RemoveAll(static needed =>
                !needed.Space.IsAlive || needed.Space.Map[needed.Index] is not (PageState.Lazy or PageState.InFlight));
            return _needed.Count > 0;
        }
    }

    private void RequestPending()
    {
        _ = LacksNeeded;
        foreach ((AddressSpace space, long index) in _needed)
        {
            if (space.Map[index] == PageState.Lazy)
                RequestDemand(space, index, space.Map.PageAt(index));
        }
        for (int i = 0; i < _pendingCount; i++)
        {
            (AddressSpace space, long index) = (Space(_pending[i].Space), AddressSpace.IndexAt(_pending[i].Place));
            if (index >= 0 && space.Map[index] == PageState.Lazy)
                RequestDemand(space, index, _records[_pending[i].Record].Page);
        }
    }

    private int LaneUp(Cause cause) => _laneFor[(int)cause];

    private void ChooseLanes()
    {
        for (int cause = 0; cause < _laneFor.Length; cause++)
        {
            int preferred = _transfer.LaneFor((Cause)cause);
            _laneFor[cause] = _laneUp[preferred] ? preferred : Array.IndexOf(_laneUp, true);
        }
        _sharedLane = _adapts && LaneUp(Cause.Background) >= 0 && LaneUp(Cause.Background) == LaneUp(Cause.Demand);
    }

    /// <summary>Where the first pages of a range (by dump address) of an address space are at run time, as many as
    /// stayed together.</summary>
    public PageRange RunOf(int space, PageRange dump) => Space(space).Remaps.ToRun(dump);

    /// <summary>The request that a page is in flight with, so that it can be hurried when it has come already.</summary>
    /// <param name="spaceId">The address space.</param>
    /// <param name="run">The page, by run-time address.</param>
    /// <param name="lane">The request's lane.</param>
    /// <param name="page">The page, by dump address.</param>
    /// <returns>The request's number; -1 when the page is not in flight.</returns>
    public int RequestInFlight(int spaceId, PageNumber run, out int lane, out PageNumber page)
    {
        (lane, page) = (-1, default);
        if (Find(spaceId) is not { } space || !space.TryIndex(run, out long index, out page) || space.Map[index] != PageState.InFlight)
            return -1;
        int id = OpenFor(space, index);
        lane = id >= 0 ? _slots[id].Lane : -1;
        return id;
    }

    private Cause CauseInFlight(AddressSpace space, long index)
    {
        int id = OpenFor(space, index);
        return id >= 0 ? _slots[id].CauseOf(index) : Cause.Background;
    }

    /// <summary>The open request that covers a page; -1 when there is none.</summary>
    private int OpenFor(AddressSpace space, long index)
    {
        for (int id = 0; id < _slotEnd; id++)
        {
            ref readonly RequestSlot slot = ref _slots[id];
            if (slot.Open > 0 && slot.Space == space && (ulong)(index - slot.Index) < (ulong)slot.Range.Count)
                return id;
        }
        return -1;
    }

    private ref RequestSlot Slot(int id)
    {
        RequestSlot[] slots = _slots;
        if ((uint)id >= (uint)slots.Length || slots[id].Open <= 0)
            throw NotOpen(id);
        return ref slots[id];
    }

    // Apart, so that the text costs nothing where all is well.
    private static InvalidOperationException NotOpen(int id) => new($"no request {id} is open");

    private static InvalidOperationException NotAskedFor(int id, PageRange asked, PageRange came) =>
        new($"request {id} asked for {asked}, and {came} came");

    private int TakeSlot()
    {
        if (_freeCount == 0)
        {
            int old = _slots.Length;
            Array.Resize(ref _slots, old * 2);
            _freeSlots = new int[old * 2];
            for (int id = _slots.Length - 1; id >= old; id--)
                _freeSlots[_freeCount++] = id;
        }
        int slot = _freeSlots[--_freeCount];
        _slotEnd = Math.Max(_slotEnd, slot + 1);
        return slot;
    }

    private void Close(int id, ref RequestSlot slot, long pages)
    {
        if (!slot.IsDelayed)
            _inFlightPages[(int)slot.Cause] -= pages;
        slot.Open -= pages;
        if (slot.Open > 0)
            return;
        if (slot.IsDelayed)
            _delayedRequests--;
        Emit(CommandKind.Release, slot.Space!, id, slot.Range);
        _freeSlots[_freeCount++] = id;
        _openRequests--;
    }
}
