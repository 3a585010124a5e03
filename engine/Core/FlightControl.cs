namespace Testbed.Core;

/// <summary>
/// How many bytes of prefetch and background may be in flight, adapted to what the way to the source carries: the
/// bandwidth-delay product, measured from requests and arrivals, and what may queue up beyond it. A fault behind that queue on
/// the same lane then waits for <see cref="TransferOptions.QueueBound"/> at most. The estimators are BBR's (Cardwell et al.,
/// CACM 2017): the highest rate of the last rounds, and the least round trip of the last seconds; so is the start, in which
/// twice as much as was measured may be in flight until the rate stops growing.
/// </summary>
internal sealed class FlightControl
{
    /// <summary>The smallest amount that is worth a request, 64 KiB.</summary>
    public const long LittlePages = 16;

    private const long MostAhead = 12;
    private const long MostBehind = 64;
    private const int Rounds = 8;
    private const int StaleRounds = 3;
    private const double Growth = 1.25;
    private static readonly Duration ShortestRound = Duration.FromMicroseconds(500);
    private static readonly Duration AtOnce = Duration.FromMicroseconds(100);
    private static readonly Duration RoundTripLife = Duration.FromSeconds(10);

    private readonly TransferOptions _transfer;

    // Bytes per nanosecond, of the last rounds in which something was in flight all the time, or asked for at once.
    private readonly double[] _rates = new double[Rounds];
    private int _round;
    private double _rate;
    private Instant _roundBegan;
    private long _roundBytes;
    private bool _inRound;
    private Instant _arrived;

    // The rate when it last grew (or less, where it fell since), and for how many rounds it has not: the way is full after some.
    private double _grown;
    private int _stale;
    private long _ceiling;
    private long _window;
    private Duration _roundTrip;
    private Instant _roundTripSeen;

    public FlightControl(TransferOptions transfer)
    {
        _transfer = transfer;
        _ceiling = _window = Pages = _transfer.AdaptFlight ? Floor : _transfer.MaxInFlight >> PageNumber.Shift;
        RequestPages = RequestSize();
    }

    /// <summary>The limit now, in pages.</summary>
    public long Pages { get; private set; }

    /// <summary>The largest single request, in pages: so small that a few are in flight together.</summary>
    public long RequestPages { get; private set; }

    /// <summary>The least round trip of the last seconds; zero before the first.</summary>
    public Duration RoundTrip => _roundTrip;

    /// <summary>The limit where the next page that is waited for comes behind bulk: what the way holds by itself, and a little, so that it is kept busy.</summary>
    public long PagesInLull => Math.Min(Pages, Math.Max(Floor, Carried(_roundTrip) + (2 * PagesBehind)));

    /// <summary>So many pages, asked for before one that is waited for, delay it by a round trip at most.</summary>
    public long PagesAhead => Math.Min(Math.Min(MostAhead, Largest - 1), Carried(_roundTrip < _transfer.QueueBound ? _roundTrip : _transfer.QueueBound));

    /// <summary>So many with it and behind it come in while the program runs on, mostly, and delay the next one by half of what bulk may at most.</summary>
    public long PagesBehind => Math.Min(Math.Min(MostBehind, Largest), Carried(_transfer.QueueBound) / 2);

    /// <summary>Less room than this, in pages, is not worth a request: half of what may queue up, or else the way would run empty meanwhile.</summary>
    public long LeastRoom => _rate > 0 ? Math.Min(RequestPages, Math.Max(1, Carried(_transfer.QueueBound) / 2)) : RequestPages;

    private long Carried(Duration time) => _rate > 0 ? (long)(_rate * time.Nanoseconds) >> PageNumber.Shift : LittlePages;

    /// <summary>The largest request that the options allow, in pages.</summary>
    public long Largest => _transfer.MaxRequest >> PageNumber.Shift;

    private long Floor => Math.Min(_transfer.MinInFlight, _transfer.MaxInFlight) >> PageNumber.Shift;

    /// <summary>A thread waits: bulk makes way, and comes back as pages arrive without one, twice as much with every round.</summary>
    public void OnFault()
    {
        if (!_transfer.AdaptFlight)
            return;
        _window = Floor;
        _stale = 0;
        Apply();
    }

    /// <summary>A request goes out while <paramref name="inFlight"/> pages are on their way.</summary>
    public void OnRequested(Instant now, long inFlight)
    {
        if (!_transfer.AdaptFlight || (_inRound && (inFlight > 0 || now - _arrived < AtOnce)))
            return;
        // The way was idle for want of wishes: what it carries is measured from here on. Not so when everything came in together and the next goes
        // out at once: where the floor is that little, no round would ever end, and never would more be allowed.
        (_inRound, _roundBegan, _roundBytes) = (true, now, 0);
    }

    /// <summary>Pages came of a request that went out at <paramref name="requested"/>; <paramref name="first"/> when they are its first,
    /// <paramref name="waiting"/> while threads wait that bulk makes way for: the window does not grow then.</summary>
    public void OnArrived(Instant now, Instant requested, long pages, bool first, bool waiting)
    {
        if (!_transfer.AdaptFlight)
            return;
        _arrived = now;
        if (first)
            Measured(now, now - requested);
        _roundBytes += pages << PageNumber.Shift;
        if (!waiting)
            _window = Math.Min(_window + pages, _ceiling);
        Apply();
        Duration round = now - _roundBegan;
        if (!_inRound || round < (_roundTrip > ShortestRound ? _roundTrip : ShortestRound))
            return;
        _rates[_round++ % Rounds] = (double)_roundBytes / round.Nanoseconds;
        (_roundBegan, _roundBytes) = (now, 0);
        _rate = 0;
        foreach (double rate in _rates)
            _rate = Math.Max(_rate, rate);
        Adapt();
    }

    private void Measured(Instant now, Duration roundTrip)
    {
        // What waits that long in a queue says that the way is full, before the rate does.
        if (roundTrip.Nanoseconds > (_roundTrip.Nanoseconds * 5 / 4) + _transfer.QueueBound.Nanoseconds)
            _stale = StaleRounds;
        if (_roundTrip > Duration.Zero && roundTrip > _roundTrip && now - _roundTripSeen < RoundTripLife)
            return;
        (_roundTrip, _roundTripSeen) = (roundTrip, now);
    }

    private void Adapt()
    {
        (_grown, _stale) = _rate > _grown * Growth ? (_rate, 0) : (Math.Min(_rate, _grown), _stale + 1);
        // As long as the rate grows, twice as much as it needs: by less it would grow by a few per cent a round where round trips are long.
        Duration queue = _stale < StaleRounds && _roundTrip > _transfer.QueueBound ? _roundTrip : _transfer.QueueBound;
        long bytes = (long)(_rate * (_roundTrip + queue).Nanoseconds);
        _ceiling = Math.Clamp(bytes >> PageNumber.Shift, Floor, _transfer.MaxInFlight >> PageNumber.Shift);
    }

    private void Apply()
    {
        Pages = Math.Clamp(_window, Floor, _ceiling);
        RequestPages = RequestSize();
    }

    private long RequestSize()
    {
        const int Together = 2;
        return _transfer.AdaptFlight ? Math.Clamp(Pages / Together, Math.Min(LittlePages, Largest), Largest) : Largest;
    }
}
