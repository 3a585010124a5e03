namespace Testbed.Core;

/// <content>
/// Bulk, where it has to share demand's lane: a server that takes one connection and answers in order, as CRIU's. Each page that is waited for queues up
/// behind bulk there, and a request of the program that needs several waits several times. So while faults come, bulk goes along with them: with each
/// page, as much as the lane carries while the program runs on with it. Where none comes for a while, bulk has the lane to itself.
/// </content>
public sealed partial class FaultService
{
    /// <summary>Where no fault has come for so long, nothing is gained by leaving the lane to demand.</summary>
    private static readonly Duration Lull = Duration.FromMicroseconds(700);

    private bool _sharedLane;
    private Instant _faulted = new(-Lull.Nanoseconds);

    // Pages of bulk that may still be asked for behind the last fault.
    private long _along;

    // Whether the last Idle event found bulk going along. It must not be told by the time: an event between the lull and the next Idle would hide it.
    private bool _heldBack;

    /// <summary>When bulk has the lane to itself again: then an Idle event has an effect that <see cref="WantsIdle"/> does not tell of. Null when it
    /// has it already.</summary>
    public Instant? BulkResumes => _heldBack ? _faulted + Lull : null;

    /// <summary>Whether bulk cares for the page that is waited for next: not at the start, in which the way is measured; and not where that takes
    /// longer by itself than bulk may delay a page.</summary>
    private bool SharesLane => _sharedLane && !_held && _now - _released >= _transfer.HeadStart && _flight.RoundTrip < _transfer.QueueBound;

    private bool GoesAlong => SharesLane && _now - _faulted < Lull;

    /// <summary>
    /// The page that is waited for, and the pages around it in the same request: what a program needs together mostly lies together (two thirds of a
    /// redis' faults are spared), and one request more costs a server that answers in order more than the pages do.
    /// </summary>
    private void RequestWithNeighbours(AddressSpace space, long index, int lane)
    {
        PageMap map = space.Map;
        (long from, long to) = map.AreaBounds(index);
        from = Math.Max(from, index - _flight.PagesAhead);
        to = Math.Min(to, index + Math.Max(1, _flight.PagesBehind - _flight.PagesAhead));
        long first = index;
        while (first > from && map[first - 1] == PageState.Lazy)
            first--;
        Ask(space, first, new PageRange(map.PageAt(first), map.LazyRun(first, to)), Cause.Demand, lane, index);
    }

    private void TellRequested(in RequestSlot slot)
    {
        for (PageRange rest = slot.Range; !rest.IsEmpty;)
            _observer.OnRequested(_now, slot.Space!.Id, slot.TakeSame(ref rest, out Cause why), why);
    }

    private void TellInstalled(in RequestSlot slot, PageRange rest)
    {
        while (!rest.IsEmpty)
        {
            PageRange same = slot.TakeSame(ref rest, out Cause why);
            _observer.OnInstalled(new InstallRecord(_now, slot.Space!.Id, same, why));
        }
    }

    /// <summary>Pages were asked for: what comes with one that is waited for counts as bulk that goes along.</summary>
    private void GoAlong(Cause cause, long pages)
    {
        if (cause == Cause.Demand)
            (_faulted, _along) = (_now, _flight.PagesBehind);
        _along -= pages;
    }

    /// <summary>How much of a cause may be in flight, in pages: what is left of what goes along, and in a lull so much that the lane is kept busy. A
    /// policy may fetch a little besides.</summary>
    private long LimitOfShared(Cause cause)
    {
        if (!GoesAlong)
            return _flight.PagesInLull;
        return cause == Cause.Prefetch
            ? Math.Min(_flight.Pages, FlightControl.LittlePages)
            : _inFlightPages[(int)Cause.Background] + _inFlightPages[(int)Cause.Prefetch] + (_along < FlightControl.LittlePages ? 0 : _along);
    }
}
