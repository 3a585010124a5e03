using ScottPlot;
using Testbed.Core;

namespace Testbed.Reports.Figures;

/// <summary>One restore under load.</summary>
/// <param name="AllIn">When every page was in, since the processes ran.</param>
/// <param name="Requests">When each request was sent, and how long its answer took.</param>
public sealed record RestoreRound(Duration AllIn, IReadOnlyList<(Duration Sent, Duration Latency)> Requests);

/// <summary>The restores of one daemon and server.</summary>
/// <param name="Name">As a person calls them.</param>
/// <param name="Rounds">One or more.</param>
public sealed record RestoreSeries(string Name, IReadOnlyList<RestoreRound> Rounds);

/// <summary>
/// What clients of a program see while it is restored lazily: requests served per second above, and below the p99 latency, both over time and
/// pooled over all rounds, until the load has made its requests; a tick on the time axis of each marks the median moment at which all pages were in.
/// </summary>
public static class RestoreTimeline
{
    /// <summary>A heading of a few words.</summary>
    public const string Title = "Requests during a lazy restore";

    private const int Bins = 40;

    /// <summary>Draws it.</summary>
    public static FigureSheet Draw(IReadOnlyList<RestoreSeries> series)
    {
        LegendEntry[] legend = [.. series.Select((s, i) => new LegendEntry(s.Name, Palette.Series(i)))];
        var grid = new PanelGrid(FigureStyle.Report, legend, [""], ["", ""], 92, left: 44);
        // A little beyond the last moment at which all was in; after that all are alike.
        double end = series.Max(s => MedianAllIn(s).Seconds) * 1.15;
        var rates = series.Select(s => UntilLast(Bin(s, end, (bin, rounds) => bin.Count / (end / Bins * rounds)))).ToList();
        var tails = series.Select(s => Bin(s, end, (bin, _) => P99(bin))).ToList();
        (double low, double high) = Scale.LogRange(tails.SelectMany(t => t).Where(p => p.Y > 0).Select(p => p.Y), 0.05, 0.05);
        double most = rates.SelectMany(r => r).Max(p => p.Y) * 1.06;
        for (int i = 0; i < series.Count; i++)
        {
            SeriesStyle style = Palette.Series(i);
            AddLine(grid[0, 0], rates[i], style);
            AddLine(grid[1, 0], [.. tails[i].Where(p => p.Y > 0).Select(p => new Coordinates(p.X, Scale.Log(p.Y)))], style);
            double allIn = MedianAllIn(series[i]).Seconds;
            AddMark(grid[0, 0], allIn, 0, most, style);
            AddMark(grid[1, 0], allIn, low, high, style);
        }
        grid[0, 0].Axes.SetLimits(0, end, 0, most);
        grid[1, 0].Axes.SetLimits(0, end, low, high);
        grid[1, 0].Axes.Left.TickGenerator = Scale.LogTicks(low, high, Scale.Time, 6);
        grid[0, 0].Axes.Bottom.TickLabelStyle.IsVisible = false;
        grid.Sheet.Text("requests/s", 9, 75, SkiaSharp.SKTextAlign.Center, turn: -90);
        grid.Sheet.Text("p99 latency", 9, 180, SkiaSharp.SKTextAlign.Center, turn: -90);
        grid.XLabel("time since the processes ran (s)");
        return grid.Sheet;
    }

    private static Duration MedianAllIn(RestoreSeries series) => series.Rounds.Select(r => r.AllIn).Order().ElementAt(series.Rounds.Count / 2);

    private static Coordinates[] Bin(RestoreSeries series, double end, Func<List<Duration>, int, double> value)
    {
        List<Duration>[] bins = [.. Enumerable.Range(0, Bins).Select(_ => new List<Duration>())];
        foreach ((Duration sent, Duration latency) in series.Rounds.SelectMany(r => r.Requests))
        {
            if (sent.Seconds < end)
                bins[(int)(sent.Seconds / end * Bins)].Add(latency);
        }
        return [.. bins.Select((b, i) => new Coordinates((i + 0.5) * end / Bins, value(b, series.Rounds.Count)))];
    }

    /// <summary>A load that has made all its requests is no longer served, but not because of the restore.</summary>
    private static Coordinates[] UntilLast(Coordinates[] rates) => rates[..(Array.FindLastIndex(rates, p => p.Y > 0) + 1)];

    private static double P99(List<Duration> latencies)
    {
        if (latencies.Count == 0)
            return 0;
        latencies.Sort();
        return latencies[Math.Max(0, (int)Math.Ceiling(0.99 * latencies.Count) - 1)].Nanoseconds;
    }

    private static void AddLine(Plot plot, Coordinates[] points, SeriesStyle style)
    {
        var line = plot.Add.ScatterLine(points);
        (line.LineColor, line.LinePattern, line.LineWidth) = (style.Color, style.Pattern, 1.3f);
    }

    private static void AddMark(Plot plot, double x, double low, double high, SeriesStyle style)
    {
        var mark = plot.Add.Line(x, low, x, low + ((high - low) * 0.09));
        (mark.LineColor, mark.LineWidth) = (style.Color, 2.2f);
    }
}
