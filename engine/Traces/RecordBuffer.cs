namespace Testbed.Traces;

/// <summary>
/// A few arrays of records that go round between those who append and the one thread that writes. All members are
/// called under the writer's lock.
/// </summary>
internal sealed class RecordBuffer<T> where T : struct
{
    private const int Arrays = 4;
    private readonly Stack<T[]> _free = new(Arrays);
    private readonly Queue<(T[] Records, int Count)> _full = new(Arrays);
    private T[]? _active;

    public RecordBuffer(int capacity)
    {
        for (int i = 0; i < Arrays; i++)
        {
            T[] records = new T[capacity];
            // Writing to them now takes the page faults of our own before the run, not in it.
            Array.Clear(records);
            _free.Push(records);
        }
    }

    public int Count { get; private set; }

    public bool HasFull => _full.Count > 0;

    /// <summary>Makes sure that there is room for one more; false when every array waits to be written.</summary>
    public bool TryReserve() => _active != null || _free.TryPop(out _active);

    /// <summary>Adds after TryReserve; true when the array went to be written.</summary>
    public bool Add(in T record)
    {
        _active![Count++] = record;
        if (Count < _active.Length)
            return false;
        Seal();
        return true;
    }

    /// <summary>Hands over what there is, a full array or not.</summary>
    public void Seal()
    {
        if (Count == 0)
            return;
        _full.Enqueue((_active!, Count));
        _active = null;
        Count = 0;
    }

    public (T[] Records, int Count) TakeFull() => _full.Dequeue();

    public void Return(T[] records) => _free.Push(records);
}
