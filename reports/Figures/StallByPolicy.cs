using ScottPlot;
using Testbed.Reports.Statistics;

namespace Testbed.Reports.Figures;

/// <summary>Total stall, one panel per link, one row per policy.</summary>
public sealed class StallByPolicy : IFigure
{
    /// <inheritdoc/>
    public string Name => "stall";

    /// <inheritdoc/>
    public string Title => "Total stall by policy and link";

    /// <inheritdoc/>
    public string Caption =>
        "The sum of all waiting for pages, over all threads (logarithmic; each link has its own range). Further left is better. " +
        "Where a policy was run three times or more, the bar is the 95 % bootstrap interval of the median.";

    /// <inheritdoc/>
    public bool Applies(FigureData data) => data.Summaries.Any(s => s.Run.TotalStall.Nanoseconds > 0);

    /// <inheritdoc/>
    public FigureSheet Draw(FigureData data)
    {
        int rows = data.Policies.Count;
        var grid = new PanelGrid(data.Style, [], data.LinkTitles, [""], 18 + (rows * 15), left: 12 + (4.4f * Math.Max(8, data.Policies.Max(p => p.Length))), gapX: 28);
        for (int c = 0; c < data.Links.Count; c++)
        {
            Plot plot = grid[0, c];
            Summary[] shown = [.. data.On(data.Links[c]).Where(s => s.Run.TotalStall.Nanoseconds > 0)];
            // The number stands at the right of its dot: it needs the room.
            (double left, double right) = Scale.LogRange(shown.SelectMany(Extent), 0.08, 0.42);
            foreach (Summary s in shown)
                AddRow(plot, s, rows - 1 - data.Policies.ToList().IndexOf(s.Run.Policy), data.StyleOf(s.Run.Policy), (right - left) / grid.PanelWidth);
            plot.Axes.SetLimits(left, right, -0.7, rows - 0.3);
            plot.Axes.Left.SetTicks([.. data.Policies.Select((_, i) => rows - 1.0 - i)], [.. data.Policies]);
            plot.Axes.Left.MajorTickStyle.Length = 0;
            plot.Axes.Bottom.TickGenerator = Scale.LogTicks(left, right, Scale.Time, grid.Labels());
        }
        grid.ShareY();
        grid.XLabel("total stall (log scale)");
        return grid.Sheet;
    }

    private static double[] Extent(Summary s) =>
        s.StallInterval is { } i ? [s.Run.TotalStall.Nanoseconds, i.Low, i.High] : [s.Run.TotalStall.Nanoseconds];

    private static void AddRow(Plot plot, Summary s, double y, SeriesStyle style, double perPoint)
    {
        double x = Scale.Log(s.Run.TotalStall.Nanoseconds), end = x;
        if (s.StallInterval is { } interval)
        {
            end = Scale.Log(interval.High);
            var bar = plot.Add.Line(Scale.Log(interval.Low), y, end, y);
            (bar.Color, bar.LineWidth) = (style.Color, 1);
        }
        var dot = plot.Add.Marker(x, y, style.Marker, 6, style.Color);
        dot.MarkerLineWidth = 1.2f;
        var text = plot.Add.Text(Scale.Time(s.Run.TotalStall.Nanoseconds), end + (6 * perPoint), y);
        (text.LabelFontName, text.LabelFontSize, text.LabelFontColor) = (ShippedFont.Family, Palette.TextSize, Palette.Ink);
        text.LabelAlignment = Alignment.MiddleLeft;
    }
}
