using System.Collections;

namespace Testbed.Core;

/// <summary>A list that grows by parts, not by copies: 8 bytes an entry and no more, however long it becomes.</summary>
internal sealed class DurationList : IReadOnlyList<Duration>
{
    private const int Shift = 15, PartLength = 1 << Shift;
    private readonly List<Duration[]> _parts = [];
    private Duration[] _last = [];
    private int _used;

    /// <inheritdoc/>
    public int Count => _parts.Count == 0 ? 0 : ((_parts.Count - 1) << Shift) + _used;

    /// <inheritdoc/>
    public Duration this[int index] =>
        (uint)index < (uint)Count ? _parts[index >> Shift][index & (PartLength - 1)] : throw new ArgumentOutOfRangeException(nameof(index));

    /// <summary>Appends.</summary>
    public void Add(Duration value)
    {
        if (_used == _last.Length)
        {
            // The first part is small: most runs of a test are.
            if (_last.Length is 0 or PartLength)
            {
                _parts.Add(_last = new Duration[_parts.Count == 0 ? 256 : PartLength]);
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
    public IEnumerator<Duration> GetEnumerator()
    {
        int count = Count;
        for (int i = 0; i < count; i++)
            yield return this[i];
    }

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();
}
