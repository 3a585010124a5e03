using System.Globalization;
using ScottPlot;
using Testbed.Reports.Statistics;

namespace Testbed.Reports.Figures;

/// <summary>Total stall as one option of a policy varies: a panel per policy and option, three in a row, a line per link.</summary>
public sealed class Sensitivity : IFigure
{
    private const int MostColumns = 3;

    private sealed record Variants(string Policy, string Option, IReadOnlyList<(double Value, string Text)> Values);

    /// <inheritdoc/>
    public string Name => "sensitivity";

    /// <inheritdoc/>
    public string Title => "Sensitivity to a parameter";

    /// <inheritdoc/>
    public string Caption =>
        "Total stall (logarithmic) as one option of a policy, named in the heading, takes other values, all else the same. A flat line means that the choice does not matter. " +
        "Where a value was run three times or more, the bar is the 95 % bootstrap interval of the median.";

    /// <inheritdoc/>
    public bool Applies(FigureData data) => Find(data).Count > 0;

    /// <inheritdoc/>
    public FigureSheet Draw(FigureData data)
    {
        List<Variants> panels = Find(data);
        SeriesStyle[] styles = [.. data.Links.Select((_, i) => Palette.Series(i))];
        LegendEntry[] legend = [.. data.LinkTitles.Select((title, i) => new LegendEntry(title, styles[i]))];
        int columns = Math.Min(panels.Count, MostColumns), rows = (panels.Count + columns - 1) / columns;
        var grid = new PanelGrid(data.Style, legend, [.. Enumerable.Repeat("", columns)], [.. Enumerable.Repeat("", rows)], rows > 2 ? 62 : 105, left: 44, gapY: 34);
        var stalls = panels.SelectMany(p => p.Values).SelectMany(v => data.Summaries.Where(s => s.Run.Policy == v.Text)).Select(s => (double)s.Run.TotalStall.Nanoseconds);
        (double low, double high) = Scale.LogRange(stalls, 0.06, 0.06);
        for (int c = 0; c < panels.Count; c++)
        {
            Plot plot = grid[c / columns, c % columns];
            grid.Title(c / columns, c % columns, $"{panels[c].Policy}, {panels[c].Option}");
            // Doublings stand equally far apart; where there is a 0, but for the first ones.
            Func<double, double> x = panels[c].Values.All(v => v.Value > 0) ? Math.Log2 : v => v >= 0 ? Math.Log2(v + 1) : v;
            var lines = data.Links.Select((link, l) => (Style: styles[l], Points: panels[c].Values
                .SelectMany(v => data.On(link).Where(s => s.Run.Policy == v.Text && s.Run.TotalStall.Nanoseconds > 0).Select(s => (X: x(v.Value), Summary: s))).ToList())).ToList();
            // Dots first: ScottPlot's paint keeps the dashes of a line, and gives them to the dots behind it.
            lines.ForEach(l => AddMarkers(plot, l.Points, l.Style));
            foreach (var line in lines.Where(l => l.Points.Count > 0))
                Curve.Add(plot, [.. line.Points.Select(p => new Coordinates(p.X, Scale.Log(p.Summary.Run.TotalStall.Nanoseconds)))], line.Style, line.Points[0].X, 1e-6, 1e-6);
            double first = x(panels[c].Values[0].Value), last = x(panels[c].Values[^1].Value), margin = (last - first) * 0.06;
            plot.Axes.SetLimits(first - margin, last + margin, low, high);
            int every = (panels[c].Values.Count + grid.Labels(4) - 1) / grid.Labels(4);
            var labelled = panels[c].Values.Where((_, i) => i % every == 0).ToList();
            plot.Axes.Bottom.SetTicks([.. labelled.Select(v => x(v.Value))], [.. labelled.Select(v => v.Value.ToString("0.####", CultureInfo.InvariantCulture))]);
            plot.Axes.Left.TickGenerator = Scale.LogTicks(low, high, Scale.Time, 6);
        }
        for (int c = panels.Count; c < rows * columns; c++)
            grid.Remove(rows - 1, c % columns);
        grid.ShareY();
        grid.XLabel("value of the option");
        grid.YLabel("total stall");
        return grid.Sheet;
    }

    private static void AddMarkers(Plot plot, IReadOnlyList<(double X, Summary Summary)> points, SeriesStyle style)
    {
        foreach ((double x, Summary s) in points)
        {
            plot.Add.Marker(x, Scale.Log(s.Run.TotalStall.Nanoseconds), style.Marker, 3.5f, style.Color);
            if (s.StallInterval is { } interval)
                plot.Add.Line(x, Scale.Log(interval.Low), x, Scale.Log(interval.High)).Color = style.Color;
        }
    }

    /// <summary>Policies that were run with at least three values of one option, the others being equal.</summary>
    private static List<Variants> Find(FigureData data)
    {
        var found = new List<Variants>();
        var parsed = data.Policies.Select(text => (Text: text, Name: text.Split(':')[0], Options: Options(text))).ToList();
        foreach (var policy in parsed.GroupBy(p => p.Name))
        {
            foreach (string option in policy.SelectMany(p => p.Options.Keys).Distinct())
            {
                var groups = policy.Where(p => p.Options.ContainsKey(option))
                    .GroupBy(p => string.Join(",", p.Options.Where(o => o.Key != option).OrderBy(o => o.Key, StringComparer.Ordinal).Select(o => $"{o.Key}={o.Value}")));
                foreach (var others in groups)
                {
                    var values = others.Select(p => (Parsed: double.TryParse(p.Options[option], CultureInfo.InvariantCulture, out double v), Value: v, p.Text)).ToList();
                    if (values.Count >= 3 && values.All(v => v.Parsed))
                        found.Add(new(policy.Key + (others.Key.Length > 0 ? ":" + others.Key : ""), option, [.. values.OrderBy(v => v.Value).Select(v => (v.Value, v.Text))]));
                }
            }
        }
        return found;
    }

    private static Dictionary<string, string> Options(string policy) =>
        policy.Contains(':', StringComparison.Ordinal)
            ? policy[(policy.IndexOf(':', StringComparison.Ordinal) + 1)..].Split(',').Select(o => o.Split('=', 2)).Where(o => o.Length == 2).ToDictionary(o => o[0], o => o[1])
            : [];
}
