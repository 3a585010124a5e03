namespace Testbed.Replay;

/// <summary>What the simulation does next.</summary>
/// <param name="Time">When, in nanoseconds.</param>
/// <param name="Order">Among equal times: in the order of pushing. The kind is in the lowest bits.</param>
/// <param name="A">The thread, or the request.</param>
/// <param name="Pages">Arrival: how many, from where the last arrival of the request ended.</param>
internal readonly record struct SimEvent(long Time, long Order, int A, int Pages)
{
    public SimEventKind Kind => (SimEventKind)(Order & 7);
}

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
}

/// <summary>
/// Events in the order of (time, sequence), so that equal times keep their order: a heap, and beside it one place each
/// for the link and the daemon, which wait for one moment at a time and come by more often than all others.
/// </summary>
internal sealed class EventQueue
{
    private SimEvent[] _heap = new SimEvent[64];
    private SimEvent _link = Nothing;
    private SimEvent _daemon = Nothing;
    private int _count;
    private long _sequence;

    private static SimEvent Nothing => new(long.MaxValue, long.MaxValue, 0, 0);

    /// <summary>The time of the next event; the largest there is when none waits.</summary>
    public long NextTime => Math.Min(Math.Min(_link.Time, _daemon.Time), _count == 0 ? long.MaxValue : _heap[0].Time);

    /// <summary>The link may be free then, or earlier if that was said before.</summary>
    public void SetLink(long time)
    {
        if (time < _link.Time)
            _link = new SimEvent(time, Order(SimEventKind.Link), 0, 0);
    }

    /// <summary>The daemon is done then.</summary>
    public void SetDaemonFree(long time) => _daemon = new SimEvent(time, Order(SimEventKind.DaemonFree), 0, 0);

    /// <summary>Takes the next event; false when none waits.</summary>
    public bool TryPop(out SimEvent e)
    {
        ref SimEvent single = ref Before(_link, _daemon) ? ref _link : ref _daemon;
        if (_count > 0 && Before(_heap[0], single))
        {
            e = Pop();
            return true;
        }
        e = single;
        single = Nothing;
        return e.Time != long.MaxValue;
    }

    private long Order(SimEventKind kind) => (_sequence++ << 3) | (long)kind;

    public void Push(long time, SimEventKind kind, int a, int pages = 0)
    {
        if (_count == _heap.Length)
            Array.Resize(ref _heap, _count * 2);
        SimEvent[] heap = _heap;
        int i = _count++;
        long order = Order(kind);
        while (i > 0)
        {
            int parent = (i - 1) >> 1;
            // The newest of equal times goes last, so it never passes an equal parent.
            if (heap[parent].Time <= time)
                break;
            heap[i] = heap[parent];
            i = parent;
        }
        heap[i] = new SimEvent(time, order, a, pages);
    }

    private SimEvent Pop()
    {
        SimEvent[] heap = _heap;
        SimEvent top = heap[0];
        int count = --_count;
        if (count > 0)
        {
            SimEvent last = heap[count];
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
        }
        return top;
    }

    private static bool Before(in SimEvent a, in SimEvent b) =>
        a.Time < b.Time || (a.Time == b.Time && a.Order < b.Order);
}
