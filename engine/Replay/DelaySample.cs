using Testbed.Core;

namespace Testbed.Replay;

/// <summary>
/// How far single round trips lay from their median, as measured: sorted, evenly thinned. A replay draws from it for each
/// arrival, so that its tail is that of the host: late timers, threads that wait for a CPU.
/// </summary>
/// <param name="nanoseconds">Deviations from the median, in ascending order; empty: none, every round trip takes the median.</param>
public sealed class DelaySample(IReadOnlyList<int> nanoseconds)
{
    private readonly int[] _values = [.. nanoseconds];

    /// <summary>No deviation at all.</summary>
    public static DelaySample None { get; } = new([]);

    /// <summary>The values, in ascending order.</summary>
    public IReadOnlyList<int> Nanoseconds => _values;

    /// <summary>Makes a sample of so many values out of many: their quantiles, at even distances.</summary>
    public static DelaySample Of(IEnumerable<double> nanoseconds, int size = 1000)
    {
        double[] sorted = [.. nanoseconds.Order()];
        if (sorted.Length == 0)
            return None;
        double median = sorted[sorted.Length / 2];
        return new DelaySample([.. Enumerable.Range(0, size).Select(i =>
            (int)Math.Clamp(sorted[(int)((i + 0.5) / size * sorted.Length)] - median, int.MinValue, int.MaxValue))]);
    }

    /// <summary>The q-quantile (0 to 1), by nearest rank; zero when there are none.</summary>
    public Duration Quantile(double q) =>
        _values.Length == 0 ? default : new Duration(_values[Math.Clamp((int)Math.Ceiling(q * _values.Length) - 1, 0, _values.Length - 1)]);

    /// <summary>
    /// A value at random, by a generator whose state the caller keeps (SplitMix64). A tenth of them, the longest, are taken for
    /// hitches of the machine, which come by the clock: the longer an arrival can meet one, the more do.
    /// </summary>
    /// <param name="state">Of the generator.</param>
    /// <param name="exposed">How long it could meet one, in nanoseconds: since the arrival before, and while it was on its way.</param>
    /// <param name="interval">How long those could that were measured.</param>
    internal long Draw(ref ulong state, long exposed, long interval)
    {
        if (_values.Length == 0)
            return 0;
        ulong z = state += 0x9E3779B97F4A7C15;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        z ^= z >> 31;
        int hitches = _values.Length / 10, others = _values.Length - hitches;
        bool isHitch = hitches > 0 && (uint)z * (10.0 * interval) < exposed * 4294967296.0;
        (int first, int count) = isHitch ? (others, hitches) : (0, others);
        return _values[first + (int)((z >> 32) * (ulong)count >> 32)];
    }

    /// <summary>Its size and tail.</summary>
    public override string ToString() => _values.Length == 0 ? "none" : $"{_values.Length} values, p90 {Quantile(0.9)}, p99 {Quantile(0.99)}";
}
