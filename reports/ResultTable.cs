using System.Text;
using Testbed.Core;
using Testbed.Reports.Statistics;

namespace Testbed.Reports;

/// <summary>The results as plain text for a terminal: one block per workload and mode, one paragraph per link, the least
/// total stall first; the best number of each column and link is marked with an asterisk.</summary>
public static class ResultTable
{
    private static readonly string[] s_keys =
    [
        "demand_faults", "late_faults", "latency_p50_us", "latency_p90_us", "latency_p99_us", "latency_p999_us", "latency_max_us",
        "total_stall_s", "waiting_s", "workload_s", "first_response_s", "resident_50_s", "resident_90_s", "resident_99_s", "resident_100_s", "bytes", "prefetch_issued", "prefetch_useful", "prefetch_late", "prefetch_unused",
    ];

    /// <summary>The table; lines end with a line feed and are as wide as they must be.</summary>
    public static string Format(IReadOnlyList<RunResult> results) => Format(Summary.Of(results));

    /// <summary>The table of what was already summarised.</summary>
    public static string Format(IReadOnlyList<Summary> summaries)
    {
        // A column that nobody has a number for (first response, mostly) only takes room.
        Column[] columns = [.. s_keys.Select(k => Column.All.Single(c => c.Key == k)).Where(c => summaries.Any(s => c.Text(s) != Column.None))];
        var rows = new List<string[]?> { (string[])["policy", .. columns.Select(c => c.Header + " ")] };
        var titles = new Dictionary<int, string>();
        foreach (var block in summaries.GroupBy(s => (s.Run.Workload, s.Run.Mode, s.Run.Link)))
        {
            titles[rows.Count] = Printable.Of($"{block.Key.Workload}, {block.Key.Mode.ToString().ToLowerInvariant()}, {block.Key.Link}{BoundOf(block.First().Run)}");
            rows.Add(null);
            Summary[] group = [.. block.OrderBy(s => s.Run.TotalStall)];
            foreach (Summary s in group)
                rows.Add([Printable.Of(s.Run.Policy), .. columns.Select(c => c.Text(s) + (IsBest(c, s, group) ? "*" : " "))]);
        }
        return Align(rows, titles);
    }

    private static string BoundOf(RunResult run) => run.Bound is not { } bound ? ""
        : $"; no policy can wait less than {Column.Human(bound.Waiting)} or end before {Column.Human(bound.WorkloadTime)}";

    /// <summary>Whether <paramref name="s"/> shows the lowest number of its group, and not all show the same.</summary>
    internal static bool IsBest(Column column, Summary s, IReadOnlyList<Summary> group)
    {
        if (!column.LowerIsBetter || group.Count < 2 || column.Text(s) == Column.None)
            return false;
        // What reads the same is the same: a difference beyond the digits shown is not worth a mark for one alone.
        Summary[] known = [.. group.Where(g => column.Text(g) != Column.None)];
        string best = column.Text(known.MinBy(column.Value)!);
        return column.Text(s) == best && known.Any(g => column.Text(g) != best);
    }

    private static string Align(List<string[]?> rows, Dictionary<int, string> titles)
    {
        int[] widths = [.. Enumerable.Range(0, rows[0]!.Length).Select(c => rows.Max(r => r?[c].Length ?? 0))];
        var text = new StringBuilder();
        for (int r = 0; r < rows.Count; r++)
        {
            if (rows[r] is not { } row)
            {
                text.Append(r > 1 ? "\n" : "").Append(titles[r]).Append('\n');
                continue;
            }
            var line = new StringBuilder("  ").Append(row[0].PadRight(widths[0]));
            for (int c = 1; c < row.Length; c++)
                line.Append("  ").Append(row[c].PadLeft(widths[c]));
            text.Append(line.ToString().TrimEnd()).Append('\n');
        }
        return text.ToString();
    }
}
