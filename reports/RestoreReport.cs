using System.Globalization;
using System.Text;
using Testbed.Core;
using Testbed.Reports.Figures;
using static Testbed.Reports.HtmlPage;

namespace Testbed.Reports;

/// <summary>
/// What came of lazy migrations: <c>index.html</c>, <c>migrations.csv</c> (a line each), <c>requests.csv</c> (a line for each request of the load) and
/// <c>figures/restore-timeline.{png,svg,pdf}</c>.
/// </summary>
public static class RestoreReport
{
    /// <summary>For a terminal: medians over the rounds, a block per pair, least and most in brackets.</summary>
    public static string Table(IReadOnlyList<RestoreRun> runs)
    {
        var table = new StringBuilder();
        foreach (var pair in RestoreValue.Of(runs, 1).GroupBy(v => v.Pair))
        {
            int rounds = runs.Count(r => r.Pair == pair.Key);
            table.Append(CultureInfo.InvariantCulture, $"{Printable.Of(pair.Key)} ({rounds} rounds, median [least..most])\n");
            foreach (RestoreValue v in pair)
                table.Append(CultureInfo.InvariantCulture, $"  {v.Metric.Header,-22} {RestoreMetric.Text(v.Median),10}  [{Range(v)}]\n");
        }
        return table.ToString().TrimEnd();
    }

    /// <summary>One line per migration.</summary>
    public static string Csv(IReadOnlyList<RestoreRun> runs)
    {
        var csv = new StringBuilder("pair,round,").AppendJoin(',', RestoreMetric.All.Select(m => m.Key)).Append(",congestion_control\n");
        foreach (RestoreRun run in runs)
            csv.Append(CultureInfo.InvariantCulture, $"{CsvCell.Of(run.Pair)},{run.Round},").AppendJoin(',', RestoreMetric.All.Select(m => m.Value(run)?.ToString("0.###", CultureInfo.InvariantCulture))).Append(',').Append(CsvCell.Of(run.CongestionControl)).Append('\n');
        return csv.ToString();
    }

    /// <summary>Writes all files into <paramref name="directory"/>, in place of earlier ones.</summary>
    /// <param name="directory">Made if it is not there.</param>
    /// <param name="context">What was run, where and how.</param>
    /// <param name="runs">All migrations.</param>
    /// <param name="warnings">What a reader must know before the numbers: a sentence each.</param>
    /// <returns>The path of index.html.</returns>
    public static string Write(string directory, ReportContext context, IReadOnlyList<RestoreRun> runs, params IReadOnlyList<string> warnings)
    {
        string figures = Path.Combine(directory, "figures");
        Directory.CreateDirectory(figures);
        Save("migrations.csv", Csv(runs));
        Save("requests.csv", RequestsCsv(runs));
        List<DrawnFigure> drawn = [];
        if (runs.Any(r => r.Requests.Count > 0))
        {
            FigureSheet sheet = RestoreTimeline.Draw(runs, FigureStyle.Report);
            FigureList.Save(sheet, Path.Combine(figures, RestoreTimeline.Name), RestoreTimeline.Title, context.Date, FigureList.Formats);
            drawn.Add(new DrawnFigure(RestoreTimeline.Name, RestoreTimeline.Title, RestoreTimeline.Caption,
                FigureWriter.Inline(sheet, RestoreTimeline.Title, RestoreTimeline.Name), sheet.PrintWidth));
        }
        return Save("index.html", Html(context, runs, drawn, warnings));

        string Save(string name, string text)
        {
            string path = Path.Combine(directory, name);
            File.WriteAllText(path + ".part", text);
            File.Move(path + ".part", path, overwrite: true);
            return path;
        }
    }

    private static string Html(ReportContext context, IReadOnlyList<RestoreRun> runs, List<DrawnFigure> figures, IReadOnlyList<string> warnings)
    {
        IReadOnlyList<RestoreValue> values = RestoreValue.Of(runs, context.Seed);
        RestoreMetric[] metrics = [.. RestoreMetric.All.Where(m => values.Any(v => v.Metric == m))];
        string[] pairs = [.. values.Select(v => v.Pair).Distinct()];
        var page = new HtmlPage(context, $"migrations {runs.Count}, pairs {pairs.Length}; all data equal after each");
        foreach (string warning in warnings)
            page.Append($"<p class=\"note\"><b>Warning:</b> {E(warning)}</p>\n");
        string[] congestion = [.. runs.Select(r => r.CongestionControl).Where(c => c.Length > 0).Distinct()];
        if (congestion.Length > 0)
            page.Append($"<p class=\"note\">TCP's congestion control between the hosts: {E(string.Join(", ", congestion))}.</p>\n");
        page.Append("<h2>Results</h2>\n<p class=\"note\">A pair is the lazy-pages daemon + the page server. Medians over the rounds, by nearest rank; least and most when pointed at, and in the " +
                "second table. The best of each column is marked *. Click a heading to sort.</p>\n")
            .BeginTable([Head("Pair"), NumberHead("rounds", "How often it was run"), .. metrics.Select(m => NumberHead(m.Header, m.Help))]);
        foreach (string pair in pairs)
        {
            int rounds = runs.Count(r => r.Pair == pair);
            page.Append($"<tr>{Cell(pair)}{NumberCell(rounds, $"{rounds}")}");
            foreach (RestoreMetric metric in metrics)
            {
                RestoreValue? v = values.FirstOrDefault(v => v.Pair == pair && v.Metric == metric);
                page.Append(NumberCell(v?.Median, v is null ? null : RestoreMetric.Text(v.Median), v is null ? "" : $"{Range(v)}", $" class=\"{(IsBest(v, values) ? "n best" : "n")}\""));
            }
            page.Append("</tr>\n");
        }
        page.EndTable();
        if (pairs.Length > 1)
            AppendComparison(page, pairs[0], [.. values.Where(v => v.Pair != pairs[0])]);
        if (figures.Count > 0)
            page.Figures(figures);
        return page.End(context, metrics.Select(m => (m.Header, m.Help + ".")));
    }

    private static void AppendComparison(HtmlPage page, string first, IReadOnlyList<RestoreValue> values)
    {
        page.Append($"<h2>Compared with {E(first)}</h2>\n<p class=\"note\">The ratio of the medians, with its 95 % bootstrap interval (percentile method, {Statistics.Bootstrap.Resamples:N0} resamples; from three " +
                $"rounds on). p: permutation test of the rank sums (9,999 permutations; from {Statistics.Versus.EnoughRuns} rounds a side on), corrected by Holm for all lines of this table.</p>\n")
            .BeginTable(Head("Pair"), Head("Number"), NumberHead("median", "Over the rounds"), Head("least to most"), NumberHead("ratio", $"Over the median of {first}"), Head("95 % interval"),
                NumberHead("p", "After Holm's correction"));
        foreach (RestoreValue v in values)
        {
            string interval = v.RatioInterval is { } i ? string.Create(CultureInfo.InvariantCulture, $"{i.Low:G3} to {i.High:G3}") : Column.None;
            page.Append($"<tr>{Cell(v.Pair)}{Cell(v.Metric.Header)}{NumberCell(v.Median, RestoreMetric.Text(v.Median))}{Cell(Range(v))}")
                .Append($"{NumberCell(v.Ratio, v.Ratio?.ToString("G3", CultureInfo.InvariantCulture))}{Cell(interval)}{NumberCell(v.P, HtmlReport.P(v.P))}</tr>\n");
        }
        page.EndTable();
    }

    private static bool IsBest(RestoreValue? value, IReadOnlyList<RestoreValue> all)
    {
        double[] medians = [.. all.Where(v => v.Metric == value?.Metric).Select(v => v.Median)];
        return value is not null && medians.Distinct().Count() > 1 && value.Median == (value.Metric.LowerIsBetter ? medians.Min() : medians.Max());
    }

    private static string Range(RestoreValue v) => $"{RestoreMetric.Text(v.Values.Sorted[0])} to {RestoreMetric.Text(v.Values.Sorted[^1])}";

    private static string RequestsCsv(IReadOnlyList<RestoreRun> runs)
    {
        var csv = new StringBuilder("pair,round,sent_ms,latency_us\n");
        foreach (RestoreRun run in runs)
        {
            foreach (RestoreRequest r in run.Requests)
                csv.Append(CultureInfo.InvariantCulture, $"{CsvCell.Of(run.Pair)},{run.Round},{r.Sent.Milliseconds:0.###},{r.Latency.Microseconds:0.#}\n");
        }
        return csv.ToString();
    }
}
