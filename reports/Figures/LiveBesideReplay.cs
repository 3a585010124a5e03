using ScottPlot;
using Testbed.Core;
using Testbed.Reports.Statistics;

namespace Testbed.Reports.Figures;

/// <summary>For each policy and link that was run both ways: the measured number beside the replayed one.</summary>
public sealed class LiveBesideReplay : IFigure
{
    private sealed record Metric(string Title, Func<RunResult, double> Value, Func<double, string> Label);

    private static readonly Metric[] s_metrics =
    [
        new("p50", r => r.LatencyQuantile(0.5).Nanoseconds, Scale.Time),
        new("p99", r => r.LatencyQuantile(0.99).Nanoseconds, Scale.Time),
        new("total stall", r => r.TotalStall.Nanoseconds, Scale.Time),
        new("demand faults", r => r.DemandFaults, Scale.Count),
        new("100 % resident", r => r.TimeToResidency(1)?.Nanoseconds ?? 0, Scale.Time),
    ];

    /// <inheritdoc/>
    public string Name => "live-beside-replay";

    /// <inheritdoc/>
    public string Title => "Live beside replay";

    /// <inheritdoc/>
    public string Caption =>
        "The same policy over the same link, measured on the real process (filled) and computed from its trace (open); a short line between " +
        "the two means that the simulation told the truth. All axes are logarithmic.";

    /// <inheritdoc/>
    public bool Applies(FigureData data) => Pairs(data).Count > 0;

    /// <inheritdoc/>
    public FigureSheet Draw(FigureData data)
    {
        var pairs = Pairs(data);
        string[] names = [.. pairs.Select(p => pairs.Select(q => q.Live.Link).Distinct().Count() > 1 ? $"{p.Live.Policy}, {FigureData.TitleOf(p.Live.Link)}" : p.Live.Policy)];
        LegendEntry[] legend =
        [
            new("live", new(Palette.Ink, LinePattern.Solid, default), MarkerShape.FilledCircle),
            new("replay", new(Palette.Ink, LinePattern.Solid, default), MarkerShape.OpenCircle),
        ];
        var grid = new PanelGrid(data.Style, legend, [.. s_metrics.Select(m => m.Title)], [""], 14 + (pairs.Count * 13), left: 12 + (4.1f * Math.Max(8, names.Max(n => n.Length))), gapX: 20);
        for (int c = 0; c < s_metrics.Length; c++)
        {
            Plot plot = grid[0, c];
            Metric metric = s_metrics[c];
            for (int i = 0; i < pairs.Count; i++)
                AddPair(plot, metric.Value(pairs[i].Live), metric.Value(pairs[i].Replay), pairs.Count - 1 - i, data.StyleOf(pairs[i].Live.Policy).Color);
            (double left, double right) = Scale.LogRange(pairs.SelectMany(p => new[] { metric.Value(p.Live), metric.Value(p.Replay) }), 0.1, 0.1);
            plot.Axes.SetLimits(left, right, -0.7, pairs.Count - 0.3);
            plot.Axes.Left.SetTicks([.. pairs.Select((_, i) => pairs.Count - 1.0 - i)], names);
            plot.Axes.Left.MajorTickStyle.Length = 0;
            plot.Axes.Bottom.TickGenerator = Scale.LogTicks(left, right, metric.Label, grid.Labels());
        }
        grid.ShareY();
        grid.XLabel("each axis logarithmic, with its own range");
        return grid.Sheet;
    }

    private static List<(RunResult Live, RunResult Replay)> Pairs(FigureData data) =>
    [
        .. from link in data.Links
           from policy in data.Policies
           let live = Find(data, link, policy, RunMode.Live)
           let replay = Find(data, link, policy, RunMode.Replay)
           where live is not null && replay is not null
           select (live, replay),
    ];

    private static RunResult? Find(FigureData data, string link, string policy, RunMode mode) =>
        data.Summaries.FirstOrDefault(s => s.Run.Link == link && s.Run.Policy == policy && s.Run.Mode == mode)?.Run;

    private static void AddPair(Plot plot, double live, double replay, double y, Color color)
    {
        if (live > 0 && replay > 0)
        {
            var line = plot.Add.Line(Scale.Log(live), y, Scale.Log(replay), y);
            (line.Color, line.LineWidth) = (color, 1);
        }
        if (live > 0)
            plot.Add.Marker(Scale.Log(live), y, MarkerShape.FilledCircle, 4, color);
        if (replay > 0)
        {
            var open = plot.Add.Marker(Scale.Log(replay), y, MarkerShape.OpenCircle, 7, color);
            open.MarkerLineWidth = 1;
        }
    }
}
