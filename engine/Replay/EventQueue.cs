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
/// one moment each. Which thread is next is as good as random, so it is found without branches: of each four times the least is
/// kept, of each four of these again, and so on.
/// </summary>
internal sealed class EventQueue
{
    private const long Never = long.MaxValue;

    // Whose event is next: a bit for each.
    private const uint Link = 1, Daemon = 2, Arrival = 4, Thread = 8;

    // The threads' times, then the least of each four of them, and so on up to a level of four; filled up with Never.
    private readonly long[][] _levels;
    private readonly long[] _threadOrders;
    private Entry[] _ring = new Entry[64];
    private int _ringHead, _ringCount;
    private long _thread = Never, _arrival = Never, _link = Never, _daemon = Never;
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

    /// <summary>The daemon is done then.</summary>
    public void SetDaemonFree(long time) => (_daemon, _daemonOrder) = (time, Order(SimEventKind.DaemonFree));

    /// <summary>Pages of a request reach the daemon then: never before those that were told of earlier.</summary>
    public void PushArrival(long time, int request, int pages)
    {
        if (_ringCount == _ring.Length)
            GrowRing();
        ref Entry entry = ref _ring[(_ringHead + _ringCount) & (_ring.Length - 1)];
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
        _threadOrders[thread] = Order(kind);
        int at = thread;
        foreach (long[] level in _levels)
        {
            level[at] = Math.Min(level[at], time);
            at >>= 2;
        }
        _thread = Math.Min(_thread, time);
    }

    /// <summary>Takes the link's moment, if that is before all others.</summary>
    public bool TryTakeLink(out long time)
    {
        time = _link;
        if (time >= Math.Min(_daemon, Math.Min(_thread, _arrival)))
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
        time = NextTime;
        (a, pages) = (0, 0);
        uint first = (_link == time ? Link : 0) | (_daemon == time ? Daemon : 0) | (_arrival == time ? Arrival : 0) | (_thread == time ? Thread : 0);
        // Seldom more than one has its time now.
        if ((first & (first - 1)) != 0)
            first = FirstOf(first);
        switch (first)
        {
            case Thread:
                a = FirstThread();
                RemoveThread(a);
                return (SimEventKind)(_threadOrders[a] & 7);
            case Arrival:
                ref readonly Entry entry = ref _ring[_ringHead];
                (a, pages) = (entry.A, entry.Pages);
                _ringHead = (_ringHead + 1) & (_ring.Length - 1);
                _arrival = --_ringCount == 0 ? Never : _ring[_ringHead].Time;
                return SimEventKind.Arrival;
            case Link:
                _link = Never;
                return SimEventKind.Link;
            case Daemon:
                _daemon = Never;
                return SimEventKind.DaemonFree;
            default:
                return SimEventKind.None;
        }
    }

    /// <summary>Of several that have the same time the one that was told of first; 0 when that time is Never.</summary>
    private uint FirstOf(uint equal)
    {
        (uint first, long order) = (0, Never);
        if (NextTime == Never)
            return first;
        if ((equal & Link) != 0)
            (first, order) = (Link, _linkOrder);
        if ((equal & Daemon) != 0 && _daemonOrder < order)
            (first, order) = (Daemon, _daemonOrder);
        if ((equal & Arrival) != 0 && _ring[_ringHead].Order < order)
            (first, order) = (Arrival, _ring[_ringHead].Order);
        if ((equal & Thread) != 0 && _threadOrders[FirstThread()] < order)
            first = Thread;
        return first;
    }

    private long Order(SimEventKind kind) => (_sequence++ << 3) | (long)kind;

    /// <summary>Of the threads whose time has come the one that was told of first.</summary>
    private int FirstThread()
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

    private void RemoveThread(int thread)
    {
        long least = Never;
        int at = thread;
        foreach (long[] level in _levels)
        {
            level[at] = least;
            at >>= 2;
            least = Least(level, at * 4);
        }
        _thread = least;
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

    private void GrowRing()
    {
        var larger = new Entry[_ring.Length * 2];
        for (int i = 0; i < _ringCount; i++)
            larger[i] = _ring[(_ringHead + i) & (_ring.Length - 1)];
        (_ring, _ringHead) = (larger, 0);
    }

    private struct Entry
    {
        public long Time;

        /// <summary>Among equal times: in the order of pushing. The kind is in the lowest bits.</summary>
        public long Order;

        public int A, Pages;
    }
}
