using System.Globalization;
using ScottPlot;
using Testbed.Reports.Statistics;

namespace Testbed.Reports.Figures;

/// <summary>How much faster the workload could have been: its time under each policy over the least that any policy can reach, one panel per link.</summary>
public sealed class TimesTheBound : IFigure
{
    /// <inheritdoc/>
    public string Name => "times-the-bound";

    /// <inheritdoc/>
    public string Title => "Speed-up that is left, to the bound";

    /// <inheritdoc/>
    public string Caption =>
        "The time until the recorded work was done, as a multiple of the least that any policy can reach on this trace and link, computed from when pages can cross " +
        "the link at the earliest (logarithmic; each link has its own range). At 1× nothing is left to gain; oracle, where it was run, is a policy that knows the trace.";

    /// <inheritdoc/>
    public bool Applies(FigureData data) => data.Summaries.Any(s => TimesOf(s) is not null);

    /// <inheritdoc/>
    public FigureSheet Draw(FigureData data)
    {
        string[] policies = [.. data.Policies];
        var grid = new PanelGrid(data.Style, [], data.LinkTitles, [""], 18 + (policies.Length * 13), left: 12 + (4.4f * Math.Max(8, policies.Max(p => p.Length))), gapX: 28);
        for (int c = 0; c < data.Links.Count; c++)
        {
            Plot plot = grid[0, c];
            (Summary Summary, double Times)[] shown = [.. data.On(data.Links[c]).Where(s => TimesOf(s) is not null).Select(s => (s, TimesOf(s)!.Value))];
            (double low, double high) = shown.Length == 0 ? (0, 1) : (Math.Log10(Math.Min(1, shown.Min(s => s.Times))), Math.Log10(shown.Max(s => s.Times)));
            // The number stands at the right of its dot: it needs the room.
            double width = Math.Max(0.3, high - low), left = low - (width * 0.05), right = low + (width * 1.5);
            var one = plot.Add.VerticalLine(0, 0.8f, Palette.Muted);
            one.EnableAutoscale = false;
            foreach ((Summary s, double times) in shown)
                AddRow(plot, times, policies.Length - 1 - Array.IndexOf(policies, s.Run.Policy), data.StyleOf(s.Run.Policy), (right - left) / grid.PanelWidth);
            plot.Axes.SetLimits(left, right, -0.7, policies.Length - 0.3);
            plot.Axes.Left.SetTicks([.. policies.Select((_, i) => policies.Length - 1.0 - i)], policies);
            plot.Axes.Left.MajorTickStyle.Length = 0;
            plot.Axes.Bottom.TickGenerator = Scale.LogTicks(left, right, Times, grid.Labels(3));
        }
        grid.ShareY();
        grid.XLabel("workload time, times the least possible");
        return grid.Sheet;
    }

    private static double? TimesOf(Summary s) =>
        s.Run.Bound is { WorkloadTime.Nanoseconds: > 0 } bound ? (double)s.Run.WorkloadTime.Nanoseconds / bound.WorkloadTime.Nanoseconds : null;

    private static string Times(double times) => times.ToString(times < 9.95 ? "0.##" : "0", CultureInfo.InvariantCulture) + "×";

    private static void AddRow(Plot plot, double times, double y, SeriesStyle style, double perPoint)
    {
        double x = Math.Log10(times);
        var dot = plot.Add.Marker(x, y, style.Marker, 6, style.Color);
        dot.MarkerLineWidth = 1.2f;
        var text = plot.Add.Text(Times(times), x + (6 * perPoint), y);
        (text.LabelFontName, text.LabelFontSize, text.LabelFontColor) = (ShippedFont.Family, Palette.TextSize, Palette.Ink);
        text.LabelAlignment = Alignment.MiddleLeft;
    }
}
