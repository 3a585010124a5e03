using Testbed.Core;

namespace Testbed.Replay;

/// <summary>What the simulation does next. Which fields count depends on the kind.</summary>
internal readonly record struct SimEvent(long Time, long Sequence, SimEventKind Kind, int A, PageRange Range);

internal enum SimEventKind : byte
{
    /// <summary>Thread A goes on to its next touch.</summary>
    Thread,

    /// <summary>The fault of thread A reaches the daemon.</summary>
    Fault,

    /// <summary>The pages Range of request A reach the daemon.</summary>
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

    public void Push(long time, SimEventKind kind, int a, PageRange range = default)
    {
        if (_count == _heap.Length)
            Array.Resize(ref _heap, _count * 2);
        SimEvent[] heap = _heap;
        int i = _count++;
        long sequence = _sequence++;
        while (i > 0)
        {
            int parent = (i - 1) >> 1;
            // The newest of equal times goes last, so it never passes an equal parent.
            if (heap[parent].Time <= time)
                break;
            heap[i] = heap[parent];
            i = parent;
        }
        heap[i] = new SimEvent(time, sequence, kind, a, range);
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
        a.Time < b.Time || (a.Time == b.Time && a.Sequence < b.Sequence);
}
