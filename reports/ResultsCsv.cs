using System.Globalization;
using System.Text;
using Testbed.Core;
using Testbed.Reports.Statistics;

namespace Testbed.Reports;

/// <summary>
/// The result table as CSV (RFC 4180, UTF-8, decimal point). The unit is part of the column's name: <c>_us</c>
/// microseconds, <c>_s</c> seconds. An empty field means that there is no such number.
/// </summary>
public static class ResultsCsv
{
    /// <summary>The whole file, with a heading.</summary>
    public static string Format(IReadOnlyList<Summary> summaries)
    {
        var text = new StringBuilder("workload,mode,link,policy,runs");
        foreach (Column column in Column.All)
            text.Append(',').Append(column.Key);
        text.Append(",total_stall_ci95_low_s,total_stall_ci95_high_s,latency_p99_ci95_low_us,latency_p99_ci95_high_us,command_hash\n");
        foreach (Summary s in summaries)
        {
            text.AppendJoin(',', CsvCell.Of(s.Run.Workload), s.Run.Mode.ToString().ToLowerInvariant(), CsvCell.Of(s.Run.Link), CsvCell.Of(s.Run.Policy), s.Runs);
            foreach (Column column in Column.All)
                text.Append(',').Append(Number(column.Value(s)));
            text.Append(',').AppendJoin(',', Number(s.StallInterval?.Low / 1e9), Number(s.StallInterval?.High / 1e9),
                Number(s.P99Interval?.Low / 1e3), Number(s.P99Interval?.High / 1e3), s.Run.CommandHash.ToString("x16"));
            text.Append('\n');
        }
        return text.ToString();
    }

    private static string Number(double? value) => value?.ToString("R", CultureInfo.InvariantCulture) ?? "";
}
