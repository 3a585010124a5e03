using MathNet.Numerics;
using MathNet.Numerics.Random;

namespace Testbed.Reports.Statistics;

/// <summary>An interval that holds the true value with a stated confidence.</summary>
/// <param name="Low">Its lower end.</param>
/// <param name="High">Its upper end.</param>
public readonly record struct Interval(double Low, double High);

/// <summary>Confidence intervals by the bootstrap (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993), by its
/// percentile method (chapter 13).</summary>
public static class Bootstrap
{
    /// <summary>Resamples drawn where the distribution has no closed form.</summary>
    public const int Resamples = 2000;

    /// <summary>
    /// The percentile interval of a quantile by nearest rank: the limit of ever more resamples, in closed form. The k-th smallest of a
    /// resample is not above the j-th smallest value when at least k of n draws are among the first j: a binomial probability
    /// (Efron, "Bootstrap Methods: Another Look at the Jackknife", 1979, section 3). Null with fewer than three
    /// values: they give an interval that looks tight and says nothing.
    /// </summary>
    /// <param name="sample">Values that are taken to be independent of each other.</param>
    /// <param name="q">The quantile, 0 to 1.</param>
    /// <param name="confidence">0 to 1.</param>
    public static Interval? OfQuantile(Sample sample, double q, double confidence = 0.95)
    {
        int n = sample.Count;
        if (n < 3)
            return null;
        int k = Math.Clamp((int)Math.Ceiling(q * n), 1, n);
        double tail = (1 - confidence) / 2;
        return new Interval(sample.Sorted[FirstRank(n, k, tail)], sample.Sorted[FirstRank(n, k, 1 - tail)]);
    }

    /// <summary>
    /// The percentile interval of the ratio of two medians, median of <paramref name="b"/> over median of <paramref name="a"/>, by
    /// <see cref="Resamples"/> resamples of both; null where a side has fewer than three values.
    /// </summary>
    /// <param name="a">One positive number per run.</param>
    /// <param name="b">One positive number per run.</param>
    /// <param name="seed">Same values and seed, same interval.</param>
    /// <param name="confidence">0 to 1.</param>
    public static Interval? OfMedianRatio(IReadOnlyList<double> a, IReadOnlyList<double> b, ulong seed, double confidence = 0.95)
    {
        if (a.Count < 3 || b.Count < 3)
            return null;
        var random = new Xoshiro256StarStar(unchecked((int)(seed ^ (seed >> 32))), threadSafe: false);
        double[] sortedA = [.. a.Order()], sortedB = [.. b.Order()];
        var ratios = new Sample(Enumerable.Range(0, Resamples).Select(_ => ResampledMedian(sortedB, random) / ResampledMedian(sortedA, random)));
        return new Interval(ratios.Quantile((1 - confidence) / 2), ratios.Quantile((1 + confidence) / 2));
    }

    private static double ResampledMedian(double[] sorted, Xoshiro256StarStar random)
    {
        Span<int> times = stackalloc int[sorted.Length];
        for (int i = 0; i < sorted.Length; i++)
            times[random.Next(sorted.Length)]++;
        int at = -1;
        for (int left = (sorted.Length + 1) / 2; left > 0;)
            left -= times[++at];
        return sorted[at];
    }

    /// <summary>The first rank (from 0) below or at which the k-th smallest of a resample lies with probability <paramref name="p"/>.</summary>
    private static int FirstRank(int n, int k, double p)
    {
        (int low, int high) = (1, n);
        while (low < high)
        {
            int middle = (low + high) / 2;
            // P(at least k of n draws among the first j) is the regularised incomplete beta function I(k, n - k + 1; j / n).
            if (middle == n || SpecialFunctions.BetaRegularized(k, n - k + 1, (double)middle / n) >= p)
                high = middle;
            else
                low = middle + 1;
        }
        return low - 1;
    }
}
