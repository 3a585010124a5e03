using System.Globalization;
using System.Net;
using System.Text;
using Testbed.Core;
using Testbed.Reports.Figures;
using Testbed.Reports.Statistics;

namespace Testbed.Reports;

/// <summary>The page that people open: one file that needs no other and no network.</summary>
internal static class HtmlReport
{
    /// <summary>The whole page.</summary>
    /// <param name="context">What was run.</param>
    /// <param name="summaries">The lines of the table.</param>
    /// <param name="figures">The figures, as svg elements.</param>
    /// <param name="csv">results.csv, which the page carries too.</param>
    public static string Format(ReportContext context, IReadOnlyList<Summary> summaries, IReadOnlyList<DrawnFigure> figures, string csv)
    {
        var html = new StringBuilder();
        html.Append("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n")
            .Append($"<title>{E(context.Title)}</title>\n<style>\n{FigureWriter.FontFace}\n{Assets.Text("report.css")}</style>\n</head>\n<body>\n")
            .Append("<button id=\"theme\" type=\"button\" aria-label=\"Switch between light and dark\">◐</button>\n")
            .Append($"<h1>{E(context.Title)}</h1>\n")
            .Append($"<p class=\"sub\">{E(context.Scenario)} · {context.Date.UtcDateTime:yyyy-MM-dd HH:mm} UTC · runs {summaries.Sum(s => s.Runs)}, " +
                $"policies {Count(summaries, s => s.Run.Policy)}, links {Count(summaries, s => s.Run.Link)}, workloads {Count(summaries, s => s.Run.Workload)}</p>\n");
        AppendFindings(html, summaries);
        AppendTables(html, summaries, csv);
        AppendComparison(html, Versus.Of(summaries, context.Seed));
        AppendFigures(html, figures);
        AppendProvenance(html, context);
        html.Append($"<script>\n{Assets.Text("report.js")}</script>\n</body>\n</html>\n");
        return html.ToString();
    }

    private static int Count(IReadOnlyList<Summary> summaries, Func<Summary, string> of) => summaries.Select(of).Distinct().Count();

    /// <summary>Per workload, mode and link: who stalled least, and how much less than the baseline.</summary>
    private static void AppendFindings(StringBuilder html, IReadOnlyList<Summary> summaries)
    {
        html.Append("<ul class=\"findings\">\n");
        foreach (var group in summaries.GroupBy(s => (s.Run.Workload, s.Run.Mode, s.Run.Link)).Where(g => g.Count() > 1))
        {
            Summary best = group.MinBy(s => s.Run.TotalStall)!;
            Summary baseline = group.FirstOrDefault(s => s.Run.Policy == "criu") ?? group.MaxBy(s => s.Run.TotalStall)!;
            string stall = Column.Human(best.Run.TotalStall);
            string against = best == baseline || best.Run.TotalStall.Nanoseconds <= 0 ? "" : string.Create(CultureInfo.InvariantCulture,
                $", {(double)baseline.Run.TotalStall.Nanoseconds / best.Run.TotalStall.Nanoseconds:G3} times less than <code>{E(baseline.Run.Policy)}</code>");
            html.Append($"<li>{E(group.Key.Workload)}, {Mode(group.Key.Mode)}, {E(group.Key.Link)}: <code>{E(best.Run.Policy)}</code> stalls least ({stall} in total){against}.</li>\n");
        }
        html.Append("</ul>\n");
    }

    private static void AppendTables(StringBuilder html, IReadOnlyList<Summary> summaries, string csv)
    {
        html.Append("<h2>Results</h2>\n<p class=\"note\">Click a heading to sort. The best of each link is marked *. Percentiles are of fault latency, by nearest rank. " +
            "Numbers with a dotted line show their 95 % interval when pointed at. " +
            $"The same numbers in full precision: <a download=\"results.csv\" href=\"data:text/csv;charset=utf-8,{Uri.EscapeDataString(csv)}\">results.csv</a>.</p>\n");
        foreach (var block in summaries.GroupBy(s => s.Run.Workload))
        {
            html.Append($"<h3>{E(block.Key)}</h3>\n<div class=\"scroll\"><table class=\"results\">\n<thead><tr>{Head("Policy")}{Head("Link")}{Head("Mode")}");
            Column[] columns = [.. Column.All.Where(c => block.Any(s => c.Text(s) != Column.None))];
            foreach (Column column in columns)
                html.Append(NumberHead(column.Header, column.Help));
            html.Append(Head("Commands")).Append("</tr></thead>\n<tbody>\n");
            foreach (var group in block.GroupBy(s => (s.Run.Link, s.Run.Mode)))
            {
                Summary[] rows = [.. group.OrderBy(s => s.Run.TotalStall)];
                foreach (Summary s in rows)
                    AppendRow(html, s, rows, columns);
            }
            html.Append("</tbody></table></div>\n");
        }
    }

    private static string Head(string text) => $"<th class=\"t\"><button type=\"button\">{E(text)}</button></th>";

    private static void AppendRow(StringBuilder html, Summary s, Summary[] group, Column[] columns)
    {
        string runs = s.Runs > 1 ? $" <small>×{s.Runs}</small>" : "";
        html.Append($"<tr{(s == group[0] ? " class=\"first\"" : "")}>{Cell(s.Run.Policy, runs)}{Cell(s.Run.Link)}{Cell(Mode(s.Run.Mode))}");
        foreach (Column column in columns)
        {
            double? value = column.Text(s) == Column.None ? null : column.Value(s);
            string best = ResultTable.IsBest(column, s, group) ? "n best" : "n";
            html.Append($"<td class=\"{best}\" data-v=\"{value?.ToString("R", CultureInfo.InvariantCulture)}\"{Hint(column, s)}>{E(column.Text(s))}</td>");
        }
        html.Append($"{Cell(s.Run.CommandHash.ToString("x16", CultureInfo.InvariantCulture))}</tr>\n");
    }

    private static string Hint(Column column, Summary s)
    {
        Interval? overRuns = column.Key switch { "total_stall_s" => s.StallInterval, "latency_p99_us" => s.P99Interval, _ => null };
        if (overRuns is { } runs)
            return $" title=\"95 % bootstrap interval of the median over {s.Runs} runs: {Range(runs)}\"";
        double? q = column.Key switch { "latency_p50_us" => 0.5, "latency_p90_us" => 0.9, "latency_p99_us" => 0.99, "latency_p999_us" => 0.999, _ => null };
        return q is { } quantile && s.LatencyInterval(quantile) is { } faults
            ? $" title=\"95 % bootstrap interval over {s.Run.Latencies.Count:N0} faults, taken as independent: {Range(faults)}\"" : "";
    }

    private static string Range(Interval interval) =>
        $"{Column.Human(new Duration((long)interval.Low))} to {Column.Human(new Duration((long)interval.High))}";

    /// <summary>Each policy beside the baseline, with the tests that tell whether the difference is one.</summary>
    private static void AppendComparison(StringBuilder html, IReadOnlyList<Versus> all)
    {
        if (all.Count == 0)
            return;
        html.Append("<h2>Compared with the baseline</h2>\n<p class=\"note\">Total stall as a multiple of the baseline's. Effect size: Cliff's delta of the fault latencies; -1, every fault " +
            "is shorter than every one of the baseline; 1, longer; 0, neither. p: Mann-Whitney U of the fault latencies (normal approximation, ties corrected), or where each side was run " +
            $"{Versus.EnoughRuns} times or more, a permutation test of the medians of total stall (9,999 permutations); corrected by Holm for the policies of each link. With many faults " +
            "any difference is significant: look at the effect.</p>\n")
            .Append($"<div class=\"scroll\"><table class=\"results\">\n<thead><tr>{Head("Policy")}{Head("Link")}")
            .Append(NumberHead("Total stall ×", "Total stall over the baseline's")).Append(NumberHead("Effect", "Cliff's delta of fault latencies")).Append(NumberHead("p", "p value after Holm's correction"))
            .Append(Head("Test")).Append(Head("Baseline")).Append(Head("Mode")).Append(Head("Workload")).Append("</tr></thead>\n<tbody>\n");
        foreach (Versus v in all)
        {
            string range = v.RatioInterval is { } i ? string.Create(CultureInfo.InvariantCulture, $" title=\"95 % bootstrap interval: {i.Low:G3} to {i.High:G3}\"") : "";
            html.Append($"<tr>{Cell(v.Summary.Run.Policy)}{Cell(v.Summary.Run.Link)}")
                .Append(NumberCell(v.StallRatio, v.StallRatio?.ToString("G3", CultureInfo.InvariantCulture), range))
                .Append(NumberCell(v.Delta, v.Delta?.ToString("+0.00;-0.00;0.00", CultureInfo.InvariantCulture)))
                .Append(NumberCell(v.P, v.P is < 0.0001 ? "< 0.0001" : v.P?.ToString("0.0000", CultureInfo.InvariantCulture)))
                .Append($"{Cell(v.P is null ? Column.None : v.ByRuns ? "permutation, runs" : "Mann-Whitney, faults")}{Cell(v.Baseline.Run.Policy)}{Cell(Mode(v.Summary.Run.Mode))}{Cell(v.Summary.Run.Workload)}</tr>\n");
        }
        html.Append("</tbody></table></div>\n");
    }

    private static string NumberHead(string text, string help) => $"<th data-n title=\"{E(help)}\"><button type=\"button\">{E(text)}</button></th>";

    private static string NumberCell(double? value, string? text, string hint = "") =>
        $"<td data-v=\"{value?.ToString("R", CultureInfo.InvariantCulture)}\"{hint}>{E(text ?? Column.None)}</td>";

    private static string Cell(string text, string after = "") => $"<td class=\"t\" data-v=\"{E(text)}\">{E(text)}{after}</td>";

    private static string Mode(RunMode mode) => mode.ToString().ToLowerInvariant();

    private static void AppendFigures(StringBuilder html, IReadOnlyList<DrawnFigure> figures)
    {
        html.Append("<h2>Figures</h2>\n");
        foreach (DrawnFigure figure in figures)
        {
            string file = Uri.EscapeDataString(figure.Name);
            html.Append($"<figure id=\"{E(figure.Name)}\" class=\"{(figure.Width > FigureStyle.Report.ColumnWidth ? "page" : "column")}\">\n<h3>{E(figure.Title)}</h3>\n<div class=\"scroll\">{figure.Inline}</div>\n<figcaption>{E(figure.Caption)} ")
                .Append($"<a href=\"figures/{file}.pdf\">PDF</a> · <a href=\"figures/{file}.svg\">SVG</a> · <a href=\"figures/{file}.png\">PNG</a></figcaption>\n</figure>\n");
        }
    }

    private static void AppendProvenance(StringBuilder html, ReportContext context)
    {
        html.Append("<h2>What was run</h2>\n<p>To make this report again:</p>\n")
            .Append($"<pre>{E(context.CommandLine)}</pre><button class=\"copy\" type=\"button\">Copy</button>\n<dl>\n");
        Term("Scenario", context.Scenario);
        Term("Commit", context.Commit);
        Term("Version", context.ToolVersion);
        Term("Seed", context.Seed.ToString(CultureInfo.InvariantCulture));
        foreach (TraceProvenance trace in context.Traces)
            Term($"Trace of {trace.Workload}", string.Join(", ", new[] { trace.Path, trace.Hash, Pages(trace.Image) }.Where(t => t.Length > 0)));
        Term("Kernel", context.Kernel);
        Term("CPU", context.Cpu);
        Term("Calibration", context.Calibration);
        Term("Date", context.Date.UtcDateTime.ToString("yyyy-MM-dd HH:mm:ss 'UTC'", CultureInfo.InvariantCulture));
        html.Append("</dl>\n<h3>Words</h3>\n<dl>\n");
        foreach (Column column in Column.All)
            Term(column.Header, column.Help + ".");
        Term("Commands", "Hash over every command that the fault service gave, in order: same trace, policy, link and seed give the same hash.");
        html.Append("</dl>\n");

        void Term(string term, string text) => html.Append($"<dt>{E(term)}</dt><dd>{(text.Length > 0 ? E(text) : "not known")}</dd>\n");
    }

    private static string Pages(MemoryImage? image) =>
        image is null ? "" : $"{image.PresentPages:N0} pages to fetch of {image.TotalPages:N0} in {image.Areas.Count:N0} areas";

    private static string E(string text) => WebUtility.HtmlEncode(text);
}
