using System.Globalization;
using ScottPlot;
using ScottPlot.TickGenerators;

namespace Testbed.Reports.Figures;

/// <summary>Axis scales and their ticks. A logarithmic axis holds log10 of the value, its labels the value itself.</summary>
internal static class Scale
{
    private static readonly double[] s_round = [1, 2, 2.5, 5, 10, 20];
    private static readonly double[] s_digits = [1, 2, 3, 4, 5, 6, 7, 8, 9];
    private static readonly double[][] s_labelled = [[1, 1.5, 2, 3, 4, 5, 6, 8], [1, 2, 5], [1, 3], [1]];

    /// <summary>log10 of nanoseconds, no less than one nanosecond.</summary>
    public static double Log(double nanoseconds) => Math.Log10(Math.Max(1, nanoseconds));

    /// <summary>The range that holds all values with a margin, at least half a decade wide; (0, 1) for none.</summary>
    public static (double Low, double High) LogRange(IEnumerable<double> values, double marginLow = 0.1, double marginHigh = 0.1)
    {
        double[] logs = [.. values.Where(v => v > 0).Select(Math.Log10)];
        if (logs.Length == 0)
            return (0, 1);
        (double low, double high) = (logs.Min(), logs.Max());
        double missing = Math.Max(0, 0.5 - (high - low)) / 2;
        double width = high - low + (2 * missing);
        return (low - missing - (width * marginLow), high + missing + (width * marginHigh));
    }

    /// <summary>Ticks of a logarithmic axis: as many labels as fit, at round numbers: in one decade 2s and 5s too, over
    /// many every second or third decade only.</summary>
    /// <param name="low">log10 of the lower end.</param>
    /// <param name="high">log10 of the upper end.</param>
    /// <param name="label">From a value to its label.</param>
    /// <param name="most">Labels that fit.</param>
    public static NumericManual LogTicks(double low, double high, Func<double, string> label, int most)
    {
        IReadOnlyList<double> labelled = LogLabels(low, high, most);
        var ticks = new NumericManual();
        foreach (double at in labelled)
            ticks.AddMajor(at, label(Math.Pow(10, at)));
        foreach (double at in Positions(high - low <= 6 ? s_digits : s_labelled[^1], low, high).Except(labelled))
            ticks.AddMinor(at);
        return ticks;
    }

    /// <summary>Where the labels of a logarithmic axis stand.</summary>
    public static IReadOnlyList<double> LogLabels(double low, double high, int most)
    {
        List<double>[] sets = [.. s_labelled.Select(mantissas => Positions(mantissas, low, high)).Where(at => at.Count > 0)];
        if (sets.FirstOrDefault(at => at.Count <= most) is { } fits)
            return fits;
        List<double> coarsest = sets.Length > 0 ? sets[^1] : [];
        int step = (coarsest.Count + most - 1) / most;
        return [.. coarsest.Where((_, i) => (coarsest.Count - 1 - i) % step == 0)];
    }

    private static List<double> Positions(double[] mantissas, double low, double high) =>
    [
        .. from decade in Enumerable.Range((int)Math.Floor(low), (int)Math.Floor(high) - (int)Math.Floor(low) + 1)
           from m in mantissas
           let at = decade + Math.Log10(m)
           where at >= low && at <= high
           select at,
    ];

    /// <summary>Round ticks of a linear axis from 0, the last one with the unit where there is one.</summary>
    public static NumericManual LinearTicks(double high, int most, string unit = "")
    {
        var ticks = new NumericManual();
        double power = Math.Pow(10, Math.Floor(Math.Log10(high / most)));
        double step = s_round.Select(m => m * power).First(s => high / s <= most);
        int count = (int)Math.Floor(high / step * 1.0000001);
        for (int i = 0; i <= count; i++)
            ticks.AddMajor(i * step, (i * step).ToString("#,0.######", CultureInfo.InvariantCulture) + (i == count && unit.Length > 0 ? " " + unit : ""));
        return ticks;
    }

    /// <summary>A time with the unit that fits: <c>200 µs</c>.</summary>
    public static string Time(double nanoseconds) => nanoseconds switch
    {
        < 999.5 => Number(nanoseconds) + " ns",
        < 999.5e3 => Number(nanoseconds / 1e3) + " µs",
        < 999.5e6 => Number(nanoseconds / 1e6) + " ms",
        _ => Number(nanoseconds / 1e9) + " s",
    };

    /// <summary>A count, short: <c>20 k</c>.</summary>
    public static string Count(double n) => n switch
    {
        < 999.5 => Number(n),
        < 999.5e3 => Number(n / 1e3) + " k",
        < 999.5e6 => Number(n / 1e6) + " M",
        _ => Number(n / 1e9) + " G",
    };

    private static string Number(double v) =>
        v.ToString(v < 9.995 ? "0.##" : v < 99.95 ? "0.#" : "#,0", CultureInfo.InvariantCulture);
}
