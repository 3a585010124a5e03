using ScottPlot;
using Testbed.Reports.Statistics;

namespace Testbed.Reports.Figures;

/// <summary>How long faults waited, by when they were answered: one panel per link, a line and dots per policy.</summary>
public sealed class LatencyOverTime : IFigure
{
    private const int Steps = 36;

    /// <inheritdoc/>
    public string Name => "latency-over-time";

    /// <inheritdoc/>
    public string Title => "Fault latency over time";

    /// <inheritdoc/>
    public string Caption =>
        $"Median (line) and longest (marks, where it is more than 5 % above) of the faults that were answered in each of {Steps} steps of time since resume; both axes are logarithmic, each link has its own range. " +
        "A line ends where the policy has no more faults.";

    /// <inheritdoc/>
    public bool Applies(FigureData data) => data.Summaries.Any(Shown);

    /// <inheritdoc/>
    public FigureSheet Draw(FigureData data)
    {
        var grid = new PanelGrid(data.Style, data.LineLegend(), data.LinkTitles, [""], 105, left: 44);
        double lowest = double.MaxValue, highest = double.MinValue;
        for (int c = 0; c < data.Links.Count; c++)
        {
            Summary[] shown = [.. data.On(data.Links[c]).Where(Shown)];
            if (shown.Length == 0)
                continue;
            double end = shown.Max(s => (double)s.Run.ResolvedAt[^1].Nanoseconds);
            (double left, double right) = Scale.LogRange([Math.Max(end / 1e5, shown.Min(s => (double)s.Run.ResolvedAt[0].Nanoseconds)), end], 0, 0.03);
            var lines = shown.Select(s => (Style: data.StyleOf(s.Run.Policy), Steps: Bin(s, left, right))).ToList();
            lowest = Math.Min(lowest, lines.Min(l => l.Steps.Min(b => b.Median)));
            highest = Math.Max(highest, lines.Max(l => l.Steps.Max(b => b.Longest)));
            // Dots first: ScottPlot's paint keeps the dashes of a line, and gives them to the dots behind it.
            foreach (var line in lines)
            {
                foreach ((double x, double median, double longest) in line.Steps.Where(b => b.Longest - b.Median > 0.02))
                    grid[0, c].Add.Marker(x, longest, line.Style.Marker, 3, line.Style.Color);
            }
            foreach (var line in lines)
                Curve.Add(grid[0, c], [.. line.Steps.Select(b => new Coordinates(b.X, b.Median))], line.Style, left, (right - left) / grid.PanelWidth, 0.02);
            grid[0, c].Axes.SetLimitsX(left, right);
            grid[0, c].Axes.Bottom.TickGenerator = Scale.LogTicks(left, right, Scale.Time, grid.Labels());
        }
        double margin = Math.Max(0.1, (highest - lowest) * 0.05);
        for (int c = 0; c < data.Links.Count; c++)
        {
            grid[0, c].Axes.SetLimitsY(lowest - margin, highest + margin);
            grid[0, c].Axes.Left.TickGenerator = Scale.LogTicks(lowest - margin, highest + margin, Scale.Time, 6);
        }
        grid.ShareY();
        grid.XLabel("time since resume");
        grid.YLabel("fault latency");
        return grid.Sheet;
    }

    private static bool Shown(Summary s) => s.Run.ResolvedAt.Count > 0;

    private static List<(double X, double Median, double Longest)> Bin(Summary s, double left, double right)
    {
        var bins = new List<double>[Steps];
        for (int i = 0; i < s.Run.ResolvedAt.Count; i++)
        {
            int bin = (int)((Scale.Log(s.Run.ResolvedAt[i].Nanoseconds) - left) / (right - left) * Steps);
            (bins[Math.Clamp(bin, 0, Steps - 1)] ??= []).Add(s.Run.Latencies[i].Nanoseconds);
        }
        var steps = new List<(double, double, double)>();
        for (int i = 0; i < Steps; i++)
        {
            if (bins[i] is not { } latencies)
                continue;
            var sample = new Sample(latencies);
            steps.Add((left + ((i + 0.5) / Steps * (right - left)), Scale.Log(sample.Quantile(0.5)), Scale.Log(sample.Quantile(1))));
        }
        return steps;
    }
}
