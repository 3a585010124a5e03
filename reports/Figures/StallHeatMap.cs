using System.Globalization;
using ScottPlot;
using Testbed.Reports.Statistics;

namespace Testbed.Reports.Figures;

/// <summary>Total stall of every policy over every link, as a map: rows are policies, columns links.</summary>
public sealed class StallHeatMap : IFigure
{
    // Dark text on light cells and the other way round, in both themes of a report: not the palette's ink, which is swapped.
    private static readonly Color s_dark = Color.FromHex("#1b1b1b"), s_light = Color.FromHex("#fefefe");
    private static readonly Color s_full = Color.FromHex("#08519c"), s_none = Color.FromHex("#eff3fa");
    private const double Decades = 3;

    /// <inheritdoc/>
    public string Name => "stall-map";

    /// <inheritdoc/>
    public string Title => "Total stall, policy by link";

    /// <inheritdoc/>
    public string Caption =>
        "Total stall of each policy over each link. The darker a field, the further from the best of its link (a thousand times and more: full colour); " +
        "below the time, how many times the best.";

    /// <inheritdoc/>
    public bool Applies(FigureData data) =>
        data.Policies.Count > 1 && data.Links.Count > 1 && data.Summaries.Any(s => s.Run.TotalStall.Nanoseconds > 0);

    /// <inheritdoc/>
    public FigureSheet Draw(FigureData data)
    {
        const float Row = 20;
        float left = 8 + (4.4f * Math.Max(8, data.Policies.Max(p => p.Length)));
        var grid = new PanelGrid(data.Style, [], [""], [""], Row * data.Policies.Count, left);
        Plot plot = grid[0, 0];
        for (int c = 0; c < data.Links.Count; c++)
        {
            Summary[] column = [.. data.On(data.Links[c])];
            double best = column.Where(s => s.Run.TotalStall.Nanoseconds > 0).Min(s => (double?)s.Run.TotalStall.Nanoseconds) ?? 1;
            foreach (Summary s in column)
                AddField(plot, c, data.Policies.Count - 1 - data.Policies.ToList().IndexOf(s.Run.Policy), s.Run.TotalStall.Nanoseconds, best);
        }
        plot.Axes.SetLimits(-0.5, data.Links.Count - 0.5, -0.5, data.Policies.Count - 0.5);
        plot.Axes.Left.SetTicks([.. data.Policies.Select((_, i) => data.Policies.Count - 1.0 - i)], [.. data.Policies]);
        plot.Axes.Bottom.SetTicks([.. data.Links.Select((_, i) => (double)i)], [.. data.LinkTitles.Select(t => t.Replace(", ", "\n", StringComparison.Ordinal))]);
        plot.Axes.Left.MajorTickStyle.Length = plot.Axes.Bottom.MajorTickStyle.Length = 0;
        plot.HideGrid();
        return grid.Sheet;
    }

    private static void AddField(Plot plot, double x, double y, double stall, double best)
    {
        double share = Math.Clamp(Math.Log10(Math.Max(1, stall / best)) / Decades, 0, 1);
        var field = plot.Add.Rectangle(x - 0.49, x + 0.49, y - 0.48, y + 0.48);
        (field.FillColor, field.LineWidth) = (s_none.MixedWith(s_full, share), 0);
        Color ink = share > 0.74 ? s_light : s_dark;
        // What reads the same is the same.
        bool isBest = Scale.Time(stall) == Scale.Time(best);
        AddText(plot, Scale.Time(stall), x, y + 0.2, ink, isBest);
        AddText(plot, isBest ? "best" : Times(stall / best), x, y - 0.22, ink, false);
    }

    private static string Times(double times) => times.ToString(times < 9.995 ? "0.##" : times < 99.95 ? "0.#" : "#,0", CultureInfo.InvariantCulture) + "×";

    private static void AddText(Plot plot, string text, double x, double y, Color ink, bool bold)
    {
        var label = plot.Add.Text(text, x, y);
        (label.LabelFontName, label.LabelFontSize, label.LabelFontColor, label.LabelBold) = (ShippedFont.Family, Palette.TextSize - 0.5f, ink, bold);
        label.LabelAlignment = Alignment.MiddleCenter;
    }
}
