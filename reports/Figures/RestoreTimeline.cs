using ScottPlot;
using Testbed.Reports.Statistics;

namespace Testbed.Reports.Figures;

/// <summary>What clients of a program see while it is restored lazily: requests served per second above, and below the p99 latency.</summary>
public static class RestoreTimeline
{
    /// <summary>The name of its files.</summary>
    public const string Name = "restore-timeline";

    /// <summary>A heading of a few words.</summary>
    public const string Title = "Requests during a lazy restore";

    /// <summary>What is seen, and how to read it.</summary>
    public const string Caption =
        "Each pair is the lazy-pages daemon + the page server. Requests answered per second, and the p99 of their latency (nearest rank), both logarithmic, by when they were sent; pooled over all rounds, in steps of a fortieth of the time shown. " +
        "The heavy ticks on the time axes mark the median moment at which all pages were in. A line ends where the load has made its requests.";

    private const int Bins = 40;
    private const float Height = 92;

    /// <summary>Draws it; restores without load have no line.</summary>
    public static FigureSheet Draw(IReadOnlyList<RestoreRun> runs, FigureStyle style)
    {
        RestoreRun[][] pairs = [.. runs.Where(r => r.Requests.Count > 0).GroupBy(r => r.Pair).Select(g => g.ToArray())];
        LegendEntry[] legend = [.. pairs.Select((p, i) => new LegendEntry(p[0].Pair, Palette.Series(i)))];
        var grid = new PanelGrid(style, legend, [""], ["", ""], Height, left: 50);
        // A little beyond the last moment at which all was in, after which all are alike; a small program may have its first request after that.
        double end = pairs.Max(p => Math.Max(AllIn(p), p.Min(r => r.Requests[0].Sent.Seconds))) * 1.15;
        Coordinates[][] rates = [.. pairs.Select(p => UntilLast(Bin(p, end, bin => bin.Count / (end / Bins * p.Length))))];
        Coordinates[][] tails = [.. pairs.Select(p => Bin(p, end, bin => bin.Count == 0 ? 0 : bin.Quantile(0.99)).Where(b => b.Y > 0).ToArray())];
        AddPanel(grid, 0, pairs, rates, end, Scale.Count);
        AddPanel(grid, 1, pairs, tails, end, Scale.Time);
        grid[0, 0].Axes.Bottom.TickLabelStyle.IsVisible = false;
        grid.YLabel("requests/s", 0);
        grid.YLabel("p99 latency", 1);
        grid.XLabel("time since the processes ran (s)");
        return grid.Sheet;
    }

    /// <summary>A line for each pair, over a logarithmic axis: the first moments, when little is served, count as much as the rest. Nothing at all is
    /// drawn at its lower end.</summary>
    private static void AddPanel(PanelGrid grid, int row, RestoreRun[][] pairs, Coordinates[][] lines, double end, Func<double, string> label)
    {
        Plot plot = grid[row, 0];
        (double low, double high) = Scale.LogRange(lines.SelectMany(l => l).Select(p => p.Y), 0.05, 0.05);
        for (int i = 0; i < pairs.Length; i++)
        {
            SeriesStyle look = Palette.Series(i);
            Curve.Add(plot, [.. lines[i].Select(p => new Coordinates(p.X, Math.Max(low, Scale.Log(p.Y))))], look, 0, end / grid.PanelWidth, (high - low) / Height);
            AddMark(plot, AllIn(pairs[i]), low, high, look);
        }
        plot.Axes.SetLimits(0, end, low, high);
        plot.Axes.Left.TickGenerator = Scale.LogTicks(low, high, label, 6);
        plot.Axes.Bottom.TickGenerator = Scale.LinearTicks(end, 6);
    }

    private static double AllIn(RestoreRun[] pair) => new Sample(pair.Select(r => r.AllIn.Seconds)).Quantile(0.5);

    private static Coordinates[] Bin(RestoreRun[] pair, double end, Func<Sample, double> value)
    {
        List<double>[] bins = [.. Enumerable.Range(0, Bins).Select(_ => new List<double>())];
        foreach (RestoreRequest r in pair.SelectMany(p => p.Requests).Where(r => r.Sent.Seconds < end))
            bins[(int)(r.Sent.Seconds / end * Bins)].Add(r.Latency.Nanoseconds);
        return [.. bins.Select((b, i) => new Coordinates((i + 0.5) * end / Bins, value(new Sample(b))))];
    }

    /// <summary>A load that has made all its requests is no longer served, but not because of the restore.</summary>
    private static Coordinates[] UntilLast(Coordinates[] rates) => rates[..(Array.FindLastIndex(rates, p => p.Y > 0) + 1)];

    private static void AddMark(Plot plot, double x, double low, double high, SeriesStyle style)
    {
        var mark = plot.Add.Line(x, low, x, low + ((high - low) * 0.09));
        (mark.LineColor, mark.LineWidth) = (style.Color, 2.2f);
    }
}
