using ScottPlot;
using Testbed.Reports.Statistics;

namespace Testbed.Reports.Figures;

/// <summary>The share of faults that waited no longer than x, one panel per link, one line per policy.</summary>
public sealed class LatencyEcdf : IFigure
{
    /// <inheritdoc/>
    public string Name => "latency-ecdf";

    /// <inheritdoc/>
    public string Title => "Fault latency";

    /// <inheritdoc/>
    public string Caption =>
        "Share of the faults that waited for a page and were answered within the time on the (logarithmic) x axis; each link has its own range. Further left is better. " +
        "A policy without a fault has no line. Each policy has its own faults: one that prefetches well has few left, and those may be the slow ones; read it together with total stall.";

    /// <inheritdoc/>
    public bool Applies(FigureData data) => data.Summaries.Any(s => s.Run.Latencies.Count > 0);

    /// <inheritdoc/>
    public FigureSheet Draw(FigureData data)
    {
        PanelGrid grid = LatencyPanels.Draw(data, share => share * 100, 0, 100);
        for (int c = 0; c < data.Links.Count; c++)
            grid[0, c].Axes.Left.SetTicks([0, 25, 50, 75, 100], ["0", "25", "50", "75", "100"]);
        grid.YLabel("faults (%)");
        return grid.Sheet;
    }
}

/// <summary>The share of faults that waited longer than x, both axes logarithmic: the tail.</summary>
public sealed class LatencyCcdf : IFigure
{
    private const double Lowest = -5;

    /// <inheritdoc/>
    public string Name => "latency-ccdf";

    /// <inheritdoc/>
    public string Title => "Fault latency, the tail";

    /// <inheritdoc/>
    public string Caption =>
        "Share of the faults that waited longer than the time on the x axis; both axes are logarithmic, so that p99 (1 %) and p99.9 (0.1 %) " +
        "can be read off. Further left and lower is better.";

    /// <inheritdoc/>
    public bool Applies(FigureData data) => data.Summaries.Any(s => s.Run.Latencies.Count >= 100);

    /// <inheritdoc/>
    public FigureSheet Draw(FigureData data)
    {
        // The last step falls to zero, which has no logarithm: it leaves through the floor.
        PanelGrid grid = LatencyPanels.Draw(data, share => Math.Log10(Math.Max(1 - share, 1e-9)), Lowest, 0);
        for (int c = 0; c < data.Links.Count; c++)
            grid[0, c].Axes.Left.SetTicks([0, -1, -2, -3, -4, -5], ["100", "10", "1", "0.1", "0.01", "0.001"]);
        grid.YLabel("faults that waited longer (%)");
        return grid.Sheet;
    }
}

internal static class LatencyPanels
{
    private const float Height = 105;

    /// <summary>One panel per link with the steps of each policy's distribution.</summary>
    /// <param name="data">Results of one mode.</param>
    /// <param name="y">From a share of faults that were answered to its place on the y axis.</param>
    /// <param name="low">The y axis' lower end.</param>
    /// <param name="high">The y axis' upper end.</param>
    public static PanelGrid Draw(FigureData data, Func<double, double> y, double low, double high)
    {
        var samples = data.Summaries.ToDictionary(s => s, s => Sample.Of(s.Run.Latencies));
        var grid = new PanelGrid(data.Style, data.LineLegend(), data.LinkTitles, [""], Height, left: 44);
        for (int c = 0; c < data.Links.Count; c++)
        {
            Plot plot = grid[0, c];
            Summary[] shown = [.. data.On(data.Links[c]).Where(s => s.Run.Latencies.Count > 0)];
            // A page that was all but there is waited for some nanoseconds: those few would squeeze all others, and may
            // leave at the left.
            (double left, double right) = Scale.LogRange(shown.SelectMany(s => new[] { samples[s].Quantile(0.005), samples[s].Quantile(1) }), 0.03, 0.03);
            double minX = (right - left) / grid.PanelWidth * 0.5, minY = (high - low) / Height * 0.5;
            foreach (Summary s in shown)
                AddSteps(plot, samples[s].Steps(Scale.Log, y, minX, minY), data.StyleOf(s.Run.Policy), y(0), (left, right), minX * 2, minY * 2);
            plot.Axes.SetLimits(left, right, low, high);
            plot.Axes.Bottom.TickGenerator = Scale.LogTicks(left, right, Scale.Time, grid.Labels());
        }
        grid.ShareY();
        grid.XLabel("fault latency");
        return grid;
    }

    private static void AddSteps(Plot plot, List<(double X, double Y)> steps, SeriesStyle style, double floor, (double Left, double Right) axis, double unitX, double unitY)
    {
        // From the floor up to the first step, and along the ceiling to the end of the axis.
        Coordinates[] points = [new(steps[0].X, floor), .. steps.Select(p => new Coordinates(p.X, p.Y)), new(Math.Max(axis.Right, steps[^1].X), steps[^1].Y)];
        Curve.Add(plot, [.. Curve.Stairs(points)], style, axis.Left, unitX, unitY);
    }
}
