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

/// <summary>A heap in the order of (time, sequence), so that equal times keep their order.</summary>
internal sealed class EventQueue
{
    private SimEvent[] _heap = new SimEvent[64];
    private int _count;
    private long _sequence;

    public bool IsEmpty => _count == 0;

    /// <summary>The time of the next event; the largest there is when none waits.</summary>
    public long NextTime => _count == 0 ? long.MaxValue : _heap[0].Time;

    public void Push(long time, SimEventKind kind, int a, int pages = 0)
    {
        if (_count == _heap.Length)
            Array.Resize(ref _heap, _count * 2);
        SimEvent[] heap = _heap;
        int i = _count++;
        long order = (_sequence++ << 3) | (long)kind;
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

    public SimEvent Pop()
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
