using MathNet.Numerics.Distributions;
using MathNet.Numerics.Random;
using MathNet.Numerics.Statistics;

namespace Testbed.Reports.Statistics;

/// <summary>Whether two samples differ, and by how much.</summary>
public static class Comparison
{
    /// <summary>
    /// Two-sided p value of the Mann-Whitney U test, by the normal approximation with correction for ties and continuity;
    /// good from about eight values a side.
    /// </summary>
    /// <exception cref="ArgumentException">A sample is empty.</exception>
    public static double MannWhitney(IReadOnlyList<double> a, IReadOnlyList<double> b)
    {
        RequireValues(a, b);
        double[] all = [.. a, .. b];
        double[] ranks = ArrayStatistics.RanksInplace([.. all], RankDefinition.Average);
        double n = a.Count, m = b.Count, total = n + m;
        double u = ranks.Take(a.Count).Sum() - (n * (n + 1) / 2);
        double ties = all.GroupBy(v => v).Sum(g => Math.Pow(g.Count(), 3) - g.Count());
        double variance = n * m / 12 * (total + 1 - (ties / (total * (total - 1))));
        if (variance <= 0)
            return 1;
        double z = Math.Max(0, Math.Abs(u - (n * m / 2)) - 0.5) / Math.Sqrt(variance);
        return 2 * Normal.CDF(0, 1, -z);
    }

    /// <summary>
    /// Two-sided p value of a permutation test of the rank sums (Mann-Whitney's statistic without its approximation, so that it holds for a
    /// few values a side), by random permutations; the observed one counts among them, so that p is never zero (Phipson and Smyth, 2010).
    /// Ranks rather than medians: five values a side that do not overlap are enough to tell, where medians need ten.
    /// </summary>
    /// <param name="a">One number per run.</param>
    /// <param name="b">One number per run.</param>
    /// <param name="seed">Same values and seed, same p.</param>
    /// <param name="permutations">How many are drawn.</param>
    /// <exception cref="ArgumentException">A sample is empty.</exception>
    public static double Permutation(IReadOnlyList<double> a, IReadOnlyList<double> b, ulong seed, int permutations = 9_999)
    {
        RequireValues(a, b);
        // Twice the rank, for ties have halves: whole numbers, whose sums are exact in any order.
        long[] ranks = [.. ArrayStatistics.RanksInplace([.. a, .. b], RankDefinition.Average).Select(r => (long)(2 * r))];
        long expected = (long)a.Count * (ranks.Length + 1);
        long observed = Math.Abs(ranks.Take(a.Count).Sum() - expected);
        var random = new Xoshiro256StarStar(unchecked((int)(seed ^ (seed >> 32))), threadSafe: false);
        int asFar = 1;
        for (int p = 0; p < permutations; p++)
        {
            long sum = 0;
            for (int i = 0; i < a.Count; i++)
            {
                int other = random.Next(i, ranks.Length);
                (ranks[i], ranks[other]) = (ranks[other], ranks[i]);
                sum += ranks[i];
            }
            if (Math.Abs(sum - expected) >= observed)
                asFar++;
        }
        return (double)asFar / (permutations + 1);
    }

    /// <summary>Cliff's delta: how much more often a value of <paramref name="a"/> is the greater one than the smaller one,
    /// -1 to 1; 0 when neither tends to be greater.</summary>
    /// <exception cref="ArgumentException">A sample is empty.</exception>
    public static double CliffsDelta(IReadOnlyList<double> a, IReadOnlyList<double> b)
    {
        RequireValues(a, b);
        var sample = new Sample(b);
        double sum = 0;
        foreach (double value in a)
        {
            double notGreater = sample.Ecdf(value), smaller = sample.Ecdf(Math.BitDecrement(value));
            sum += smaller - (1 - notGreater);
        }
        return sum / a.Count;
    }

    /// <summary>p values corrected for as many comparisons as there are (Holm, 1979), in the order given.</summary>
    public static IReadOnlyList<double> Holm(IReadOnlyList<double> p)
    {
        var corrected = new double[p.Count];
        double highest = 0;
        int rank = 0;
        foreach (int i in Enumerable.Range(0, p.Count).OrderBy(i => p[i]))
        {
            highest = Math.Max(highest, Math.Min(1, p[i] * (p.Count - rank++)));
            corrected[i] = highest;
        }
        return corrected;
    }

    private static void RequireValues(IReadOnlyList<double> a, IReadOnlyList<double> b)
    {
        if (a.Count == 0 || b.Count == 0)
            throw new ArgumentException("a sample is empty; expected at least one value on each side");
    }
}
