using System.Numerics;
using System.Runtime.CompilerServices;

namespace Testbed.Replay;

/// <summary>What the simulation does next.</summary>
internal enum SimEventKind : byte
{
    /// <summary>Thread A goes on to its next touch.</summary>
    Thread,

    /// <summary>The fault of thread A reaches the daemon.</summary>
    Fault,

    /// <summary>The next pages of request A reach the daemon.</summary>
    Arrival,

    /// <summary>The link may be free.</summary>
    Link,

    /// <summary>The daemon is done with what it did.</summary>
    DaemonFree,

    /// <summary>Nothing: the run is over.</summary>
    None,
}

/// <summary>
/// Events in the order of (time, sequence), so that equal times keep their order. What is known of them makes it cheap:
/// a thread waits for one moment at a time, arrivals come in the order in which they left (a ring), link and daemon wait for
/// one moment each. The thread that is next stands apart, for mostly it is the only one that does not wait for a page. Which of
/// several is next is as good as random, so it is found without branches: of each four times the least is kept, of each four of
/// these again, and so on.
/// </summary>
internal sealed class EventQueue
{
    private const long Never = long.MaxValue;

    // The thread that is next: when, in which order, and which.
    private long _thread = Never;
    private long _threadOrder;
    private int _firstThread;

    // The other threads' times, then the least of each four of them, and so on up to a level of four; filled up with Never.
    private readonly long[][] _levels;
    private readonly long[] _threadOrders;
    private int _otherThreads;
    private Entry[] _ring = new Entry[64];
    private int _ringHead, _ringCount;
    private long _arrival = Never, _link = Never, _daemon = Never;
    private long _linkOrder, _daemonOrder;
    private long _sequence;

    public EventQueue(int threads)
    {
        var levels = new List<long[]>();
        for (int fours = (Math.Max(1, threads) + 3) / 4; levels.Count == 0 || levels[^1].Length > 4; fours = (fours + 3) / 4)
        {
            levels.Add(new long[fours * 4]);
            Array.Fill(levels[^1], Never);
        }
        _levels = [.. levels];
        _threadOrders = new long[_levels[0].Length];
    }

    /// <summary>The time of the next event; the largest there is when none waits.</summary>
    public long NextTime => Math.Min(Math.Min(_link, _daemon), Math.Min(_thread, _arrival));

    /// <summary>The link may be free then, or earlier if that was said before.</summary>
    public void SetLink(long time)
    {
        if (time < _link)
            (_link, _linkOrder) = (time, Order(SimEventKind.Link));
    }

    /// <summary>The daemon is done then, or has something to do again.</summary>
    public void SetDaemonFree(long time) => (_daemon, _daemonOrder) = (time, Order(SimEventKind.DaemonFree));

    /// <summary>Pages of a request reach the daemon then: never before those that were told of earlier.</summary>
    public void PushArrival(long time, int request, int pages)
    {
        Entry[] ring = _ringCount == _ring.Length ? GrowRing() : _ring;
        ref Entry entry = ref ring[(_ringHead + _ringCount) & (ring.Length - 1)];
        entry.Time = time;
        entry.Order = Order(SimEventKind.Arrival);
        entry.A = request;
        entry.Pages = pages;
        if (_ringCount++ == 0)
            _arrival = time;
    }

    /// <summary>A thread's next moment, or its fault's.</summary>
    public void PushThread(long time, SimEventKind kind, int thread)
    {
        long order = Order(kind);
        if (time >= _thread)
        {
            AddOther(time, order, thread);
            return;
        }
        if (_thread != Never)
            AddOther(_thread, _threadOrder, _firstThread);
        (_thread, _threadOrder, _firstThread) = (time, order, thread);
    }

    /// <summary>Takes the link's moment, if that is before all others.</summary>
    public bool TryTakeLink(out long time)
    {
        time = _link;
        if (time >= _thread || time >= _arrival || time >= _daemon)
            return false;
        _link = Never;
        return true;
    }

    /// <summary>Takes the next event.</summary>
    /// <param name="time">When, in nanoseconds.</param>
    /// <param name="a">The thread, or the request.</param>
    /// <param name="pages">Arrival: how many, from where the last arrival of the request ended.</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public SimEventKind Next(out long time, out int a, out int pages)
    {
        pages = 0;
        SimEventKind source = NextSource(out time);
        if (source == SimEventKind.Arrival)
        {
            ref readonly Entry entry = ref _ring[_ringHead];
            (a, pages) = (entry.A, entry.Pages);
            _ringHead = (_ringHead + 1) & (_ring.Length - 1);
            _arrival = --_ringCount == 0 ? Never : _ring[_ringHead].Time;
            return SimEventKind.Arrival;
        }
        a = 0;
        if (source == SimEventKind.Thread)
        {
            a = _firstThread;
            var kind = (SimEventKind)(_threadOrder & 7);
            if (_otherThreads == 0)
                _thread = Never;
            else
                TakeOther();
            return kind;
        }
        if (source == SimEventKind.Link)
            _link = Never;
        else
            _daemon = Never;
        return source;
    }

    /// <summary>Whose event is next: a thread's (of either kind), an arrival, the link's, the daemon's.</summary>
    private SimEventKind NextSource(out long time)
    {
        (time, SimEventKind source) = _thread < _arrival ? (_thread, SimEventKind.Thread) : (_arrival, SimEventKind.Arrival);
        return time < Math.Min(_link, _daemon) && _thread != _arrival ? source : NextOfAll(out time);
    }

    /// <summary>The same, where several may have the same time: the one that was told of first.</summary>
    private SimEventKind NextOfAll(out long time)
    {
        time = NextTime;
        if (time == Never)
            return SimEventKind.None;
        (SimEventKind first, long order) = (SimEventKind.None, Never);
        if (_link == time)
            (first, order) = (SimEventKind.Link, _linkOrder);
        if (_daemon == time && _daemonOrder < order)
            (first, order) = (SimEventKind.DaemonFree, _daemonOrder);
        if (_arrival == time && _ring[_ringHead].Order < order)
            (first, order) = (SimEventKind.Arrival, _ring[_ringHead].Order);
        return _thread == time && _threadOrder < order ? SimEventKind.Thread : first;
    }

    private long Order(SimEventKind kind) => (_sequence++ << 3) | (long)kind;

    private void AddOther(long time, long order, int thread)
    {
        _otherThreads++;
        _threadOrders[thread] = order;
        int at = thread;
        foreach (long[] level in _levels)
        {
            level[at] = Math.Min(level[at], time);
            at >>= 2;
        }
    }

    /// <summary>The first of the others is next now.</summary>
    private void TakeOther()
    {
        _otherThreads--;
        _thread = Least(_levels[^1], 0);
        _firstThread = FirstOther();
        _threadOrder = _threadOrders[_firstThread];
        long least = Never;
        int at = _firstThread;
        foreach (long[] level in _levels)
        {
            level[at] = least;
            at >>= 2;
            least = Least(level, at * 4);
        }
    }

    /// <summary>Of the others whose time is <see cref="_thread"/> the one that was told of first.</summary>
    private int FirstOther()
    {
        int first = 0;
        for (int level = _levels.Length - 1; level >= 0; level--)
        {
            uint equal = Equal(_levels[level], first * 4, _thread);
            if ((equal & (equal - 1)) != 0)
                return FirstOfEqual();
            first = (first * 4) + BitOperations.TrailingZeroCount(equal);
        }
        return first;
    }

    private int FirstOfEqual()
    {
        (int first, long order) = (-1, Never);
        for (int thread = 0; thread < _threadOrders.Length; thread++)
        {
            if (_levels[0][thread] == _thread && _threadOrders[thread] < order)
                (first, order) = (thread, _threadOrders[thread]);
        }
        return first;
    }

    private static long Least(long[] times, int first)
    {
        ReadOnlySpan<long> four = times.AsSpan(first, 4);
        return Math.Min(Math.Min(four[0], four[1]), Math.Min(four[2], four[3]));
    }

    /// <summary>A bit for each of four times that is the one given.</summary>
    private static uint Equal(long[] times, int first, long time)
    {
        ReadOnlySpan<long> four = times.AsSpan(first, 4);
        return (four[0] == time ? 1u : 0) | (four[1] == time ? 2u : 0) | (four[2] == time ? 4u : 0) | (four[3] == time ? 8u : 0);
    }

    private Entry[] GrowRing()
    {
        var larger = new Entry[_ring.Length * 2];
        for (int i = 0; i < _ringCount; i++)
            larger[i] = _ring[(_ringHead + i) & (_ring.Length - 1)];
        (_ring, _ringHead) = (larger, 0);
        return larger;
    }

    private struct Entry
    {
        public long Time;

        /// <summary>Among equal times: in the order of pushing. The kind is in the lowest bits.</summary>
        public long Order;

        public int A, Pages;
    }
}
