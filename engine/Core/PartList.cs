using System.Collections;

namespace Testbed.Core;

/// <summary>A list that grows by parts, not by copies: a large one never needs twice its room.</summary>
internal sealed class PartList<T> : IReadOnlyList<T>
{
    private const int Shift = 15, PartLength = 1 << Shift;
    private readonly List<T[]> _parts = [];
    private T[] _last = [];
    private int _used;

    /// <inheritdoc/>
    public int Count => _parts.Count == 0 ? 0 : ((_parts.Count - 1) << Shift) + _used;

    /// <inheritdoc/>
    public T this[int index] =>
        (uint)index < (uint)Count ? _parts[index >> Shift][index & (PartLength - 1)] : throw new ArgumentOutOfRangeException(nameof(index));

    /// <summary>Appends.</summary>
    public void Add(T value)
    {
        if (_used == _last.Length)
        {
            // The first part is small: most runs of a test are.
            if (_last.Length is 0 or PartLength)
            {
                _parts.Add(_last = new T[_parts.Count == 0 ? 256 : PartLength]);
                _used = 0;
            }
            else
            {
                Array.Resize(ref _last, _last.Length * 2);
                _parts[^1] = _last;
            }
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
