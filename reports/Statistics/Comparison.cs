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
    /// Two-sided p value of a permutation test of the difference of medians (nearest rank), by random permutations; the
    /// observed one counts among them, so that p is never zero (Phipson and Smyth, 2010).
    /// </summary>
    /// <param name="a">One number per run.</param>
    /// <param name="b">One number per run.</param>
    /// <param name="seed">Same values and seed, same p.</param>
    /// <param name="permutations">How many are drawn.</param>
    /// <exception cref="ArgumentException">A sample is empty.</exception>
    public static double Permutation(IReadOnlyList<double> a, IReadOnlyList<double> b, ulong seed, int permutations = 9_999)
    {
        RequireValues(a, b);
        // Sorted once: a permutation then only moves the labels, and a walk along them finds both medians.
        (double Value, bool OfA)[] all = [.. a.Select(v => (v, true)), .. b.Select(v => (v, false))];
        Array.Sort(all, (x, y) => x.Value.CompareTo(y.Value));
        double[] values = [.. all.Select(v => v.Value)];
        bool[] ofA = [.. all.Select(v => v.OfA)];
        double observed = Difference(values, ofA, a.Count);
        var random = new Xoshiro256StarStar(unchecked((int)(seed ^ (seed >> 32))), threadSafe: false);
        int asFar = 1;
        for (int p = 0; p < permutations; p++)
        {
            for (int i = ofA.Length - 1; i > 0; i--)
            {
                int other = random.Next(i + 1);
                (ofA[i], ofA[other]) = (ofA[other], ofA[i]);
            }
            if (Difference(values, ofA, a.Count) >= observed)
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

    /// <summary>How far the medians lie apart: of the values with the label, <paramref name="countA"/> of them, and of those without.</summary>
    private static double Difference(double[] sorted, bool[] ofA, int countA)
    {
        int toA = (countA + 1) / 2, toB = (sorted.Length - countA + 1) / 2;
        (double medianA, double medianB) = (0, 0);
        for (int i = 0; toA > 0 || toB > 0; i++)
        {
            if (ofA[i] && --toA == 0)
                medianA = sorted[i];
            else if (!ofA[i] && --toB == 0)
                medianB = sorted[i];
        }
        return Math.Abs(medianA - medianB);
    }

    private static void RequireValues(IReadOnlyList<double> a, IReadOnlyList<double> b)
    {
        if (a.Count == 0 || b.Count == 0)
            throw new ArgumentException("a sample is empty; expected at least one value on each side");
    }
}
