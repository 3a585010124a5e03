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
/// a thread waits for one moment at a time (a heap of as many places as there are threads), arrivals come in the
/// order in which they left (a ring), link and daemon wait for one moment each.
/// </summary>
internal sealed class EventQueue(int threads)
{
    private const long Never = long.MaxValue;
    private readonly Entry[] _heap = new Entry[threads + 1];
    private Entry[] _ring = new Entry[64];
    private int _heapCount, _ringHead, _ringCount;
    private long _thread = Never, _arrival = Never, _link = Never, _daemon = Never;
    private long _linkOrder, _daemonOrder;
    private long _sequence;

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
        (entry.Time, entry.Order, entry.A, entry.Pages) = (time, Order(SimEventKind.Arrival), request, pages);
        if (_ringCount++ == 0)
            _arrival = time;
    }

    /// <summary>A thread's next moment, or its fault's.</summary>
    public void PushThread(long time, SimEventKind kind, int thread)
    {
        Entry[] heap = _heap;
        int i = _heapCount++;
        // The newest of equal times goes last, so it never passes an equal parent.
        for (int parent; i > 0 && heap[parent = (i - 1) >> 1].Time > time; i = parent)
            heap[i] = heap[parent];
        ref Entry entry = ref heap[i];
        (entry.Time, entry.Order, entry.A) = (time, Order(kind), thread);
        if (i == 0)
            _thread = time;
    }

    /// <summary>Takes the next event.</summary>
    /// <param name="time">When, in nanoseconds.</param>
    /// <param name="a">The thread, or the request.</param>
    /// <param name="pages">Arrival: how many, from where the last arrival of the request ended.</param>
    public SimEventKind Next(out long time, out int a, out int pages)
    {
        time = NextTime;
        (a, pages) = (0, 0);
        if (time == Never)
            return SimEventKind.None;
        long order = Never;
        if (_link == time)
            order = _linkOrder;
        if (_daemon == time && _daemonOrder < order)
            order = _daemonOrder;
        if (_arrival == time && _ring[_ringHead].Order < order)
            order = _ring[_ringHead].Order;
        if (_thread == time && _heap[0].Order < order)
        {
            (order, a) = (_heap[0].Order, _heap[0].A);
            RemoveThread();
            return (SimEventKind)(order & 7);
        }
        switch ((SimEventKind)(order & 7))
        {
            case SimEventKind.Arrival:
                (a, pages) = (_ring[_ringHead].A, _ring[_ringHead].Pages);
                _ringHead = (_ringHead + 1) & (_ring.Length - 1);
                _arrival = --_ringCount == 0 ? Never : _ring[_ringHead].Time;
                return SimEventKind.Arrival;
            case SimEventKind.Link:
                _link = Never;
                return SimEventKind.Link;
            default:
                _daemon = Never;
                return SimEventKind.DaemonFree;
        }
    }

    private long Order(SimEventKind kind) => (_sequence++ << 3) | (long)kind;

    private void RemoveThread()
    {
        Entry[] heap = _heap;
        int count = --_heapCount;
        if (count == 0)
        {
            _thread = Never;
            return;
        }
        ref readonly Entry last = ref heap[count];
        int i = 0;
        for (int child; (child = 2 * i + 1) < count; i = child)
        {
            if (child + 1 < count && Before(heap[child + 1], heap[child]))
                child++;
            if (!Before(heap[child], last))
                break;
            heap[i] = heap[child];
        }
        heap[i] = last;
        _thread = heap[0].Time;
    }

    private void GrowRing()
    {
        var larger = new Entry[_ring.Length * 2];
        for (int i = 0; i < _ringCount; i++)
            larger[i] = _ring[(_ringHead + i) & (_ring.Length - 1)];
        (_ring, _ringHead) = (larger, 0);
    }

    private static bool Before(in Entry a, in Entry b) => a.Time < b.Time || (a.Time == b.Time && a.Order < b.Order);

    private struct Entry
    {
        public long Time;

        /// <summary>Among equal times: in the order of pushing. The kind is in the lowest bits.</summary>
        public long Order;

        public int A, Pages;
    }
}
