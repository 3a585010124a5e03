namespace Testbed.Traces;

/// <summary>
/// A few arrays of records that go round between those who append and the one thread that writes. All members are
/// called under the writer's lock.
/// </summary>
internal sealed class RecordBuffer<T> where T : struct
{
    private const int Arrays = 4;
    private readonly int _capacity;
    private readonly Stack<T[]> _free = new(Arrays);
    private readonly Queue<(T[] Records, int Count)> _full = new(Arrays);
    private T[]? _active;
    private bool _made;

    public RecordBuffer(int capacity) => _capacity = capacity;

    public int Count { get; private set; }

    public bool HasFull => _full.Count > 0;

    /// <summary>Makes sure that there is room for one more; false when every array waits to be written.</summary>
    public bool TryReserve()
    {
        if (!_made)
        {
            // All at once, so that nothing is allocated later, in the middle of a run.
            _made = true;
            for (int i = 0; i < Arrays; i++)
                _free.Push(new T[_capacity]);
        }
        return _active != null || _free.TryPop(out _active);
    }

    /// <summary>Adds after TryReserve; true when the array went to be written.</summary>
    public bool Add(in T record)
    {
        _active![Count++] = record;
        if (Count < _capacity)
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
