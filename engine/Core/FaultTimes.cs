using System.Collections;

namespace Testbed.Core;

/// <summary>
/// For each fault that waited how long it did, and when it was answered: 8 bytes. It grows by parts, not by copies. A time is
/// kept as the distance from the first of its part; what does not fit into 4 bytes, 4 seconds of waiting or an hour in one part,
/// is kept apart.
/// </summary>
internal sealed class FaultTimes
{
    // Times of answers are for pictures: units of 1,024 ns are enough.
    private const int TimeShift = 10;
    private const int Shift = 13, PartLength = 1 << Shift;

    private const uint Apart = uint.MaxValue;

    // Of each fault the latency in the lower half, the time in the upper one.
    private readonly List<ulong[]> _parts = [];
    private readonly List<long> _starts = [];
    private readonly List<(int Index, long Latency, long Time)> _apart = [];
    private ulong[] _last = [];
    private long _start;
    private int _used = PartLength;

    /// <summary>How many faults.</summary>
    public int Count => (_parts.Count << Shift) + _used - PartLength;

    /// <summary>How long they waited.</summary>
    public IReadOnlyList<Duration> Latencies => new View<Duration>(this, index => new Duration(At(index).Latency));

    /// <summary>When they were answered.</summary>
    public IReadOnlyList<Instant> ResolvedAt => new View<Instant>(this, index => new Instant(At(index).Time << TimeShift));

    /// <summary>Appends.</summary>
    public void Add(Duration latency, Instant resolved)
    {
        if (_used == PartLength)
            AddPart(resolved);
        (long wait, long time) = (latency.Nanoseconds, (resolved.Nanoseconds >> TimeShift) - _start);
        if ((ulong)wait >= Apart || (ulong)time > uint.MaxValue)
        {
            _apart.Add((Count, wait, time + _start));
            wait = Apart;
        }
        _last[_used++] = (ulong)wait | ((ulong)time << 32);
    }

    private void AddPart(Instant first)
    {
        _last = new ulong[PartLength];
        _start = first.Nanoseconds >> TimeShift;
        _parts.Add(_last);
        _starts.Add(_start);
        _used = 0;
    }

    private (long Latency, long Time) At(int index)
    {
        if ((uint)index >= (uint)Count)
            throw new ArgumentOutOfRangeException(nameof(index));
        ulong both = _parts[index >> Shift][index & (PartLength - 1)];
        if ((uint)both != Apart)
            return ((uint)both, _starts[index >> Shift] + (long)(both >> 32));
        int at = _apart.BinarySearch((index, long.MinValue, 0));
        return (_apart[~at].Latency, _apart[~at].Time);
    }

    /// <summary>One of the two.</summary>
    private sealed class View<T>(FaultTimes times, Func<int, T> at) : IReadOnlyList<T>
    {
        public int Count => times.Count;

        public T this[int index] => at(index);

        public IEnumerator<T> GetEnumerator()
        {
            int count = Count;
            for (int i = 0; i < count; i++)
                yield return at(i);
        }

        IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();
    }
}
