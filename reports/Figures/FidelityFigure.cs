using ScottPlot;
using ScottPlot.TickGenerators;
using Testbed.Reports.Statistics;

namespace Testbed.Reports.Figures;

/// <summary>How far replays are off: every live run and the replays of the captures made between, against the median live run.</summary>
public sealed class FidelityFigure : IFigure
{
    private const double Most = 40;

    /// <inheritdoc/>
    public string Name => "fidelity";

    /// <inheritdoc/>
    public string Title => "Replay against live runs";

    /// <inheritdoc/>
    public string Caption =>
        "Each number of each run, as its distance from the median live run, in per cent. Circles: live runs. Diamond: the median replay, one of " +
        "each capture made between the live runs, and the line from their least to their greatest. Green: how far off the median replay may " +
        "be. What lies beyond the axis is drawn as a triangle at its end. No column for what a policy has no number for.";

    /// <inheritdoc/>
    public bool Applies(FigureData data) => data.Fidelity.Count > 0;

    /// <inheritdoc/>
    public FigureSheet Draw(FigureData data)
    {
        IReadOnlyList<FidelityPair> pairs = data.Fidelity;
        bool links = pairs.Select(p => p.Link).Distinct().Count() > 1;
        string[] names = [.. pairs.Select(p => links ? $"{p.Policy}, {FigureData.TitleOf(p.Link)}" : p.Policy)];
        LegendEntry[] legend =
        [
            new("live run", new(Palette.Muted, LinePattern.Solid, default), MarkerShape.OpenCircle),
            new("replay, median and range", new(Palette.Ink, LinePattern.Solid, default), MarkerShape.FilledDiamond),
        ];
        var grid = new PanelGrid(data.Style, legend, [.. FidelityMetric.All.Select(m => m.Name)], [""], 14 + (pairs.Count * 17), left: 12 + (4.1f * Math.Max(8, names.Max(n => n.Length))), gapX: 14);
        for (int c = 0; c < FidelityMetric.All.Count; c++)
        {
            Plot plot = grid[0, c];
            double bar = FidelityMetric.All[c].Bar * 100;
            var band = plot.Add.HorizontalSpan(-bar, bar);
            (band.FillColor, band.LineStyle.Width) = (Color.FromHex("#009E73").WithAlpha(0.15), 0);
            for (int i = 0; i < pairs.Count; i++)
                AddPair(plot, pairs[i].Values[c], pairs.Count - 1 - i, data.StyleOf(pairs[i].Policy).Color);
            plot.Axes.SetLimits(-Most * 1.08, Most * 1.08, -0.7, pairs.Count - 0.3);
            plot.Axes.Left.SetTicks([.. pairs.Select((_, i) => pairs.Count - 1.0 - i)], names);
            plot.Axes.Left.MajorTickStyle.Length = 0;
            plot.Axes.Bottom.TickGenerator = new NumericManual([-30, 0, 30], ["−30", "0", "30"]);
        }
        grid.ShareY();
        grid.XLabel("per cent off the median live run");
        return grid.Sheet;
    }

    private static void AddPair(Plot plot, FidelityValue value, double y, Color color)
    {
        if (value.Deviation is null)
            return;
        double median = FidelityValue.Median(value.Live);
        double Off(double v) => (v / median - 1) * 100;
        foreach (double live in value.Live)
            AddMarker(plot, Off(live), y + 0.17, MarkerShape.OpenCircle, 3.6f, Palette.Muted);
        var range = plot.Add.Line(Clip(Off(value.Replay[0])), y - 0.17, Clip(Off(value.Replay[^1])), y - 0.17);
        (range.Color, range.LineWidth) = (color, 1);
        AddMarker(plot, Off(FidelityValue.Median(value.Replay)), y - 0.17, MarkerShape.FilledDiamond, 6, color);
    }

    private static void AddMarker(Plot plot, double x, double y, MarkerShape shape, float size, Color color)
    {
        var marker = plot.Add.Marker(Clip(x), y, x > Most ? MarkerShape.OpenTriangleUp : x < -Most ? MarkerShape.OpenTriangleDown : shape, size, color);
        marker.MarkerLineWidth = 0.8f;
    }

    private static double Clip(double x) => Math.Clamp(x, -Most, Most);
}
