using ScottPlot;
using Testbed.Core;
using Testbed.Reports.Statistics;

namespace Testbed.Reports.Figures;

/// <summary>Prefetch accuracy against coverage, one panel per link, one marker per policy.</summary>
public sealed class PrefetchQuality : IFigure
{
    /// <inheritdoc/>
    public string Name => "prefetch-quality";

    /// <inheritdoc/>
    public string Title => "Prefetch accuracy and coverage";

    /// <inheritdoc/>
    public string Caption =>
        "Coverage: the share of first touches of fetched pages that found their page there, moved by prefetch. Accuracy: the share of prefetched " +
        "pages that were touched, late ones included. The upper right corner is best. Policies that do not prefetch are not shown.";

    /// <inheritdoc/>
    public bool Applies(FigureData data) => data.Summaries.Any(Shown);

    /// <inheritdoc/>
    public FigureSheet Draw(FigureData data)
    {
        LegendEntry[] legend =
        [
            .. data.Policies.Where(p => data.Summaries.Any(s => s.Run.Policy == p && Shown(s)))
                .Select(p => new LegendEntry(p, data.StyleOf(p), data.StyleOf(p).Marker)),
        ];
        var grid = new PanelGrid(data.Style, legend, data.LinkTitles, [""], 105, left: 44);
        for (int c = 0; c < data.Links.Count; c++)
        {
            Plot plot = grid[0, c];
            foreach (Summary s in data.On(data.Links[c]).Where(Shown))
            {
                SeriesStyle style = data.StyleOf(s.Run.Policy);
                var marker = plot.Add.Marker(100 * Coverage(s.Run), 100 * Accuracy(s.Run.Prefetch), style.Marker, 6, style.Color);
                marker.MarkerLineWidth = 1.2f;
            }
            // Markers at 0 and 100 % stand on the frame, whole.
            plot.Axes.SetLimits(-4, 104, -4, 104);
            plot.Axes.Left.SetTicks([0, 25, 50, 75, 100], ["0", "25", "50", "75", "100"]);
            plot.Axes.Bottom.SetTicks([0, 25, 50, 75, 100], ["0", "25", "50", "75", "100"]);
        }
        grid.ShareY();
        grid.XLabel("coverage (% of first touches)");
        grid.YLabel("accuracy (% of prefetched)");
        return grid.Sheet;
    }

    /// <summary>Live, useful and unused pages cannot be told apart.</summary>
    private static bool Shown(Summary s) => s.Run.Mode == RunMode.Replay && s.Run.Prefetch is { Useful: var u, Late: var l, Unused: var n, Issued: > 0 } && u + l + n > 0;

    private static double Coverage(RunResult run) =>
        (double)run.Prefetch.Useful / Math.Max(1, run.Prefetch.Useful + run.LateFaults + run.DemandFaults);

    private static double Accuracy(PrefetchCounts p) => (double)(p.Useful + p.Late) / (p.Useful + p.Late + p.Unused);
}
