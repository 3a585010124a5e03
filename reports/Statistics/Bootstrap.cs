using MathNet.Numerics.Random;

namespace Testbed.Reports.Statistics;

/// <summary>An interval that holds the true value with a stated confidence.</summary>
/// <param name="Low">Its lower end.</param>
/// <param name="High">Its upper end.</param>
public readonly record struct Interval(double Low, double High);

/// <summary>Confidence intervals by resampling (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993).</summary>
public static class Bootstrap
{
    /// <summary>Resamples drawn when nothing else is said.</summary>
    public const int Resamples = 2000;

    /// <summary>
    /// The percentile interval of the median over runs. Null with fewer than three values: resampling one or two
    /// numbers gives an interval that looks tight and says nothing.
    /// </summary>
    /// <param name="values">One number per run.</param>
    /// <param name="seed">Same values and seed, same interval.</param>
    /// <param name="confidence">0 to 1.</param>
    public static Interval? OfMedian(IReadOnlyList<double> values, ulong seed, double confidence = 0.95)
    {
        if (values.Count < 3)
            return null;
        var random = new Xoshiro256StarStar(unchecked((int)(seed ^ (seed >> 32))), threadSafe: false);
        var draw = new double[values.Count];
        var medians = new double[Resamples];
        for (int r = 0; r < medians.Length; r++)
        {
            for (int i = 0; i < draw.Length; i++)
                draw[i] = values[random.Next(values.Count)];
            medians[r] = new Sample(draw).Quantile(0.5);
        }
        var sample = new Sample(medians);
        return new Interval(sample.Quantile((1 - confidence) / 2), sample.Quantile((1 + confidence) / 2));
    }
}
