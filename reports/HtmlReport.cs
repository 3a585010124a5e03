using System.Globalization;
using Testbed.Core;
using Testbed.Reports.Statistics;
using static Testbed.Reports.HtmlPage;

namespace Testbed.Reports;

/// <summary>The page of an experiment: policies over links, live and in replay.</summary>
internal static class HtmlReport
{
    /// <summary>The whole page.</summary>
    /// <param name="context">What was run.</param>
    /// <param name="summaries">The lines of the table.</param>
    /// <param name="figures">The figures, as svg elements.</param>
    /// <param name="csv">results.csv, which the page carries too.</param>
    public static string Format(ReportContext context, IReadOnlyList<Summary> summaries, IReadOnlyList<DrawnFigure> figures, string csv)
    {
        var page = new HtmlPage(context, $"runs {summaries.Sum(s => s.Runs)}, policies {Count(summaries, s => s.Run.Policy)}, " +
            $"links {Count(summaries, s => s.Run.Link)}, workloads {Count(summaries, s => s.Run.Workload)}");
        AppendFindings(page, summaries);
        AppendTables(page, summaries, csv);
        AppendComparison(page, Versus.Of(summaries, context.Seed));
        page.Figures(figures);
        return page.End(context,
        [
            .. Column.All.Select(c => (c.Header, c.Help + ".")),
            ("Commands", "Hash over every command that the fault service gave, in order: same trace, policy, link and seed give the same hash."),
        ]);
    }

    private static int Count(IReadOnlyList<Summary> summaries, Func<Summary, string> of) => summaries.Select(of).Distinct().Count();

    /// <summary>Per workload, mode and link: who stalled least, and how much less than the baseline.</summary>
    private static void AppendFindings(HtmlPage page, IReadOnlyList<Summary> summaries)
    {
        page.Append("<ul class=\"findings\">\n");
        foreach (var group in summaries.GroupBy(s => (s.Run.Workload, s.Run.Mode, s.Run.Link)).Where(g => g.Count() > 1))
        {
            Summary best = group.MinBy(s => s.Run.TotalStall)!;
            Summary baseline = group.FirstOrDefault(s => s.Run.Policy == "criu") ?? group.MaxBy(s => s.Run.TotalStall)!;
            string stall = Column.Human(best.Run.TotalStall);
            string against = best == baseline || best.Run.TotalStall.Nanoseconds <= 0 ? "" : string.Create(CultureInfo.InvariantCulture,
                $", {(double)baseline.Run.TotalStall.Nanoseconds / best.Run.TotalStall.Nanoseconds:G3} times less than <code>{E(baseline.Run.Policy)}</code>");
            page.Append($"<li>{E(group.Key.Workload)}, {Mode(group.Key.Mode)}, {E(group.Key.Link)}: <code>{E(best.Run.Policy)}</code> stalls least ({stall} in total){against}.</li>\n");
        }
        page.Append("</ul>\n");
    }

    private static void AppendTables(HtmlPage page, IReadOnlyList<Summary> summaries, string csv)
    {
        page.Append("<h2>Results</h2>\n<p class=\"note\">Click a heading to sort. The best of each link is marked *. Percentiles are of fault latency, by nearest rank. " +
            "Where a policy was run several times, the line is the run of the median total stall. Numbers with a dotted line show their 95 % interval when pointed at. " +
            $"The same numbers in full precision: <a download=\"results.csv\" href=\"data:text/csv;charset=utf-8,{Uri.EscapeDataString(csv)}\">results.csv</a>.</p>\n");
        foreach (var block in summaries.GroupBy(s => s.Run.Workload))
        {
            Column[] columns = [.. Column.All.Where(c => block.Any(s => c.Text(s) != Column.None))];
            page.Append($"<h3>{E(block.Key)}</h3>\n").BeginTable([Head("Policy"), Head("Link"), Head("Mode"), .. columns.Select(c => NumberHead(c.Header, c.Help)), Head("Commands")]);
            foreach (var group in block.GroupBy(s => (s.Run.Link, s.Run.Mode)))
            {
                Summary[] rows = [.. group.OrderBy(s => s.Run.TotalStall)];
                foreach (Summary s in rows)
                    AppendRow(page, s, rows, columns);
            }
            page.EndTable();
        }
    }

    private static void AppendRow(HtmlPage page, Summary s, Summary[] group, Column[] columns)
    {
        string runs = s.Runs > 1 ? $" <small>×{s.Runs}</small>" : "";
        page.Append($"<tr{(s == group[0] ? " class=\"first\"" : "")}>{Cell(s.Run.Policy, runs)}{Cell(s.Run.Link)}{Cell(Mode(s.Run.Mode))}");
        foreach (Column column in columns)
        {
            double? value = column.Text(s) == Column.None ? null : column.Value(s);
            page.Append(NumberCell(value, column.Text(s), Hint(column, s), $" class=\"{(ResultTable.IsBest(column, s, group) ? "n best" : "n")}\""));
        }
        page.Append($"{Cell(s.Run.CommandHash.ToString("x16", CultureInfo.InvariantCulture))}</tr>\n");
    }

    private static string Hint(Column column, Summary s)
    {
        Interval? overRuns = column.Key switch { "total_stall_s" => s.StallInterval, "latency_p99_us" => s.P99Interval, _ => null };
        if (overRuns is { } runs)
            return $"95 % bootstrap interval of the median over {s.Runs} runs: {Range(runs)}";
        double? q = column.Key switch { "latency_p50_us" => 0.5, "latency_p90_us" => 0.9, "latency_p99_us" => 0.99, "latency_p999_us" => 0.999, _ => null };
        return q is { } quantile && s.LatencyInterval(quantile) is { } faults
            ? $"95 % bootstrap interval over {s.Run.Latencies.Count:N0} faults, taken as independent: {Range(faults)}" : "";
    }

    private static string Range(Interval interval) =>
        $"{Column.Human(new Duration((long)interval.Low))} to {Column.Human(new Duration((long)interval.High))}";

    /// <summary>Each policy beside the baseline, with the tests that tell whether the difference is one.</summary>
    private static void AppendComparison(HtmlPage page, IReadOnlyList<Versus> all)
    {
        if (all.Count == 0)
            return;
        page.Append("<h2>Compared with the baseline</h2>\n<p class=\"note\">Total stall as a multiple of the baseline's. Effect size: Cliff's delta of the fault latencies; -1, every fault " +
                "is shorter than every one of the baseline; 1, longer; 0, neither. p: Mann-Whitney U of the fault latencies (normal approximation, ties corrected), or where each side was run " +
                $"{Versus.EnoughRuns} times or more, a permutation test of the rank sums of total stall (9,999 permutations); corrected by Holm for the policies of each link. With many faults " +
                "any difference is significant: look at the effect.</p>\n")
            .BeginTable(Head("Policy"), Head("Link"), NumberHead("Total stall ×", "Total stall over the baseline's"), NumberHead("Effect", "Cliff's delta of fault latencies"),
                NumberHead("p", "p value after Holm's correction"), Head("Test"), Head("Baseline"), Head("Mode"), Head("Workload"));
        foreach (Versus v in all)
        {
            string range = v.RatioInterval is { } i ? string.Create(CultureInfo.InvariantCulture, $"95 % bootstrap interval of the ratio of medians: {i.Low:G3} to {i.High:G3}") : "";
            page.Append($"<tr>{Cell(v.Summary.Run.Policy)}{Cell(v.Summary.Run.Link)}")
                .Append(NumberCell(v.StallRatio, v.StallRatio?.ToString("G3", CultureInfo.InvariantCulture), range))
                .Append(NumberCell(v.Delta, v.Delta?.ToString("+0.00;-0.00;0.00", CultureInfo.InvariantCulture)))
                .Append(NumberCell(v.P, P(v.P)))
                .Append($"{Cell(v.P is null ? Column.None : v.ByRuns ? "permutation, runs" : "Mann-Whitney, faults")}{Cell(v.Baseline.Run.Policy)}{Cell(Mode(v.Summary.Run.Mode))}{Cell(v.Summary.Run.Workload)}</tr>\n");
        }
        page.EndTable();
    }

    /// <summary>A p value as people read it.</summary>
    internal static string? P(double? p) => p is < 0.0001 ? "< 0.0001" : p?.ToString("0.0000", CultureInfo.InvariantCulture);

    private static string Mode(RunMode mode) => mode.ToString().ToLowerInvariant();
}
