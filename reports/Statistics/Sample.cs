using MathNet.Numerics.Statistics;
using Testbed.Core;

namespace Testbed.Reports.Statistics;

/// <summary>
/// A sample of numbers, sorted once. Quantiles are by nearest rank (the inverse of the ECDF: type 1 of Hyndman and Fan,
/// "Sample Quantiles in Statistical Packages", 1996), so that each is a value that was really observed.
/// </summary>
public sealed class Sample
{
    private readonly double[] _sorted;

    /// <summary>Takes the values in any order.</summary>
    public Sample(IEnumerable<double> values)
    {
        _sorted = [.. values];
        Array.Sort(_sorted);
    }

    /// <summary>Latencies, in nanoseconds.</summary>
    public static Sample Of(IReadOnlyList<Duration> latencies)
    {
        var values = new double[latencies.Count];
        for (int i = 0; i < values.Length; i++)
            values[i] = latencies[i].Nanoseconds;
        return new Sample(values);
    }

    /// <summary>The values, in ascending order.</summary>
    public IReadOnlyList<double> Sorted => _sorted;

    /// <summary>How many values there are.</summary>
    public int Count => _sorted.Length;

    /// <summary>The q-quantile (0 to 1) by nearest rank; NaN when the sample is empty.</summary>
    public double Quantile(double q) => SortedArrayStatistics.QuantileCustom(_sorted, q, QuantileDefinition.R1);

    /// <summary>The share (0 to 1) of values that are not greater than <paramref name="x"/>.</summary>
    public double Ecdf(double x) => SortedArrayStatistics.EmpiricalCDF(_sorted, x);

    /// <summary>
    /// The vertices of the ECDF's steps, thinned to what a picture can show: a step is left out when it lies less than
    /// <paramref name="minX"/> and <paramref name="minY"/> from the last one kept. First and last are always kept.
    /// </summary>
    /// <param name="x">From a value to its place on the axis (a logarithm, say); must not decrease.</param>
    /// <param name="y">From a share of values not greater (0 to 1) to its place; must be monotonic.</param>
    /// <param name="minX">The smallest visible distance along x.</param>
    /// <param name="minY">The smallest visible distance along y.</param>
    public List<(double X, double Y)> Steps(Func<double, double> x, Func<double, double> y, double minX, double minY)
    {
        var steps = new List<(double X, double Y)>();
        for (int i = 0; i < _sorted.Length; i++)
        {
            // Of equal values only the last tells how many are not greater.
            bool last = i == _sorted.Length - 1;
            if (!last && _sorted[i + 1] == _sorted[i])
                continue;
            (double px, double py) = (x(_sorted[i]), y((i + 1.0) / _sorted.Length));
            if (last || steps.Count == 0 || px - steps[^1].X >= minX || Math.Abs(py - steps[^1].Y) >= minY)
                steps.Add((px, py));
        }
        return steps;
    }
}
