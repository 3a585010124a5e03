namespace Testbed.Core;

/// <content>
/// Turns, where bulk and demand share a lane: a server that takes one connection and answers in order, as CRIU's. Whatever is asked for first, each
/// page that is waited for queues up behind bulk there, and a request of the program that needs several waits several times. So one of the two has
/// the lane to itself: a few of the program's requests fall into bulk's turn, and are slow; the others are answered as if there were no bulk.
/// </content>
public sealed partial class FaultService
{
    /// <summary>Where nobody has waited for so long, nothing is gained by leaving the lane to demand.</summary>
    private static readonly Duration NobodyWaits = Duration.FromMilliseconds(1);

    private bool _sharedLane;
    private bool _isDemandsTurn;
    private Instant _turnEnds;
    private Duration _demandsTurn;

    // When a thread was last seen waiting.
    private Instant _waited = new(-NobodyWaits.Nanoseconds);
    private long _mostAway;

    /// <summary>When bulk has its turn again: then an Idle event has an effect that <see cref="WantsIdle"/> does not tell of. Null while it has it.</summary>
    public Instant? NextTurn
    {
        get
        {
            if (!_isDemandsTurn)
                return null;
            return _pendingCount > 0 || _waited + NobodyWaits > _turnEnds ? _turnEnds : _waited + NobodyWaits;
        }
    }

    /// <summary>Looks whose turn it is, before an event is handled. Demand's ends with its time, whoever waits: a wait may be open that nobody waits in
    /// any more (a thread that was killed after EAGAIN), and what is away must come in nevertheless.</summary>
    private void TakeTurns()
    {
        if (!_isDemandsTurn)
        {
            if (_pendingCount > 0)
                _waited = _now;
            if (_now >= _turnEnds)
                Turn(toDemand: _now - _waited < NobodyWaits && _flight.RoundTrip < _transfer.QueueBound);
            return;
        }
        // What bulk's turn left on its way is still in front of demand.
        if (_inFlightPages[(int)Cause.Background] > 0)
            (_waited, _turnEnds) = (_now, _now + _demandsTurn);
        else if (_pendingCount > 0)
            _waited = _now;
        if (_now >= _turnEnds || _now - _waited >= NobodyWaits)
            Turn(toDemand: false);
    }

    private void Turn(bool toDemand)
    {
        _isDemandsTurn = toDemand;
        if (toDemand)
            _demandsTurn = DemandsTurn();
        _turnEnds = _now + (toDemand ? _demandsTurn : _transfer.BulkTurn);
        _backgroundMayAsk |= !toDemand && _hasBackground;
    }

    /// <summary>The fewer pages are away, the fewer of them a request of the program meets, and the less bulk there is still to come in.</summary>
    private Duration DemandsTurn()
    {
        long away = 0;
        foreach (AddressSpace space in _spaces)
            away += space.IsAlive ? space.Map.LazyPages : 0;
        _mostAway = Math.Max(_mostAway, away);
        double share = (double)away / Math.Max(1, _mostAway);
        return new Duration((long)(_transfer.DemandTurn.Nanoseconds * share * share));
    }
}
