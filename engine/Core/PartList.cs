using System.Collections;

namespace Testbed.Core;

/// <summary>A list that grows by parts, not by copies: a large one never needs more than its room.</summary>
internal sealed class PartList<T> : IReadOnlyList<T>
{
    private const int Shift = 13, PartLength = 1 << Shift;
    private readonly List<T[]> _parts = [];
    private T[] _last = [];
    private int _used = PartLength;

    /// <inheritdoc/>
    public int Count => (_parts.Count << Shift) + _used - PartLength;

    /// <inheritdoc/>
    public T this[int index] =>
        (uint)index < (uint)Count ? _parts[index >> Shift][index & (PartLength - 1)] : throw new ArgumentOutOfRangeException(nameof(index));

    /// <summary>Appends.</summary>
    public void Add(T value)
    {
        if (_used == PartLength)
        {
            _parts.Add(_last = new T[PartLength]);
            _used = 0;
        }
        _last[_used++] = value;
    }

    /// <inheritdoc/>
    public IEnumerator<T> GetEnumerator()
    {
        int count = Count;
        for (int i = 0; i < count; i++)
            yield return this[i];
    }

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();
}
