using ScottPlot;
using Testbed.Core;
using Testbed.Reports.Statistics;

namespace Testbed.Reports.Figures;

/// <summary>The share of pages that are in over time, one panel per link, one line per policy.</summary>
public sealed class ResidencyOverTime : IFigure
{
    private const float Height = 105;

    /// <inheritdoc/>
    public string Name => "residency";

    /// <inheritdoc/>
    public string Title => "Residency over time";

    /// <inheritdoc/>
    public string Caption =>
        "Share of the pages that are resident, over time since resume (logarithmic; each link has its own range). A line that ends below 100 % belongs to a policy that " +
        "moves no more than was touched.";

    /// <inheritdoc/>
    public bool Applies(FigureData data) => data.Summaries.Any(s => s.Run.Residency.Count > 1 && s.Run.TotalPages > 0);

    /// <inheritdoc/>
    public FigureSheet Draw(FigureData data)
    {
        Summary[] shown = [.. data.Summaries.Where(s => s.Run.Residency.Count > 1 && s.Run.TotalPages > 0)];
        var grid = new PanelGrid(data.Style, data.LineLegend(), data.LinkTitles, [""], Height, left: 44);
        for (int c = 0; c < data.Links.Count; c++)
        {
            Plot plot = grid[0, c];
            Summary[] here = [.. shown.Where(s => s.Run.Link == data.Links[c])];
            plot.Axes.Left.SetTicks([0, 25, 50, 75, 100], ["0", "25", "50", "75", "100"]);
            if (here.Length == 0)
                continue;
            double end = here.Max(s => (double)s.Run.Residency[^1].Time.Nanoseconds);
            (double left, double right) = Scale.LogRange([Math.Max(end / 1e5, here.Min(FirstVisible)), end], 0, 0.03);
            foreach (Summary s in here)
                Curve.Add(plot, Points(s.Run), data.StyleOf(s.Run.Policy), left, (right - left) / grid.PanelWidth, 100 / Height);
            plot.Axes.SetLimits(left, right, 0, 102);
            plot.Axes.Bottom.TickGenerator = Scale.LogTicks(left, right, Scale.Time, grid.Labels());
        }
        grid.ShareY();
        grid.XLabel("time since resume");
        grid.YLabel("resident pages (%)");
        return grid.Sheet;
    }

    /// <summary>When the first half per cent was in: before that, a line lies on the axis.</summary>
    private static double FirstVisible(Summary s) => s.Run.TimeToResidency(0.005)?.Nanoseconds ?? s.Run.Residency[^1].Time.Nanoseconds;

    private static List<Coordinates> Points(RunResult run) =>
        [.. run.Residency.Select(r => new Coordinates(Scale.Log(r.Time.Nanoseconds), 100.0 * r.Pages / run.TotalPages))];
}
