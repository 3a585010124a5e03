using System.Collections;

namespace Testbed.Core;

/// <summary>A list of what a number stands for. It takes 4 bytes for each as long as all numbers are below 2^32, and 8 from the first that is not.</summary>
/// <param name="read">What a number stands for.</param>
internal sealed class CompactList<T>(Func<long, T> read) : IReadOnlyList<T>
{
    private readonly PartList<uint> _narrow = new();
    private PartList<long>? _wide;

    /// <inheritdoc/>
    public int Count => _narrow.Count + (_wide?.Count ?? 0);

    /// <inheritdoc/>
    public T this[int index] => read(_wide is null || index < _narrow.Count ? _narrow[index] : _wide[index - _narrow.Count]);

    /// <summary>Appends.</summary>
    public void Add(long number)
    {
        if (_wide is null && (ulong)number <= uint.MaxValue)
            _narrow.Add((uint)number);
        else
            (_wide ??= new()).Add(number);
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
