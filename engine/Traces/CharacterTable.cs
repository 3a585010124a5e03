using System.Globalization;
using System.Text;
using Testbed.Core;

namespace Testbed.Traces;

/// <summary>Traces beside each other: one row each, for a terminal, a page of documentation, or a spreadsheet.</summary>
public static class CharacterTable
{
    private sealed record Column(string Title, string Meaning, Func<TraceCharacter, TraceCharacter?, string> Short, Func<TraceCharacter, TraceCharacter?, object?> Exact);

    private static readonly Column[] s_columns =
    [
        new("trace", "the file", (c, _) => c.Name, (c, _) => c.Name),
        new("away", "footprint: pages that were away and had content", (c, _) => Size(c.Footprint), (c, _) => c.Footprint),
        new("touched", "different pages touched", (c, _) => c.Touched.ToString("N0", CultureInfo.InvariantCulture), (c, _) => c.Touched),
        new("holes", "of them, without content yet (answered with zeros)", (c, _) => Percent((double)c.Holes / Math.Max(1, c.Touched)), (c, _) => c.Holes),
        new("threads", "that touched something first", (c, _) => Text(c.Threads), (c, _) => c.Threads),
        new("in", "from resume to the last first touch", (c, _) => c.Duration.ToString(), (c, _) => c.Duration.Seconds),
        new("per s", "first touches a second", (c, _) => c.Rate.ToString("N0", CultureInfo.InvariantCulture), (c, _) => c.Rate),
        new("think p50", "time a thread ran between its first touches: median", (c, _) => c.Think.P50.ToString(), (c, _) => c.Think.P50.Nanoseconds),
        new("think p99", "and 99 % quantile", (c, _) => c.Think.P99.ToString(), (c, _) => c.Think.P99.Nanoseconds),
        new("run", "mean length of runs of consecutive pages in the touched set, in pages", (c, _) => c.MeanRun.ToString("0.0", CultureInfo.InvariantCulture), (c, _) => c.MeanRun),
        new("longest", "and the longest", (c, _) => Text(Longest(c)), (c, _) => Longest(c)),
        new("Jaccard", "pages touched in this and the other capture of the same process, over pages touched in either",
            (c, o) => o is null ? "" : c.Jaccard(o).ToString("0.00", CultureInfo.InvariantCulture), (c, o) => o is null ? null : c.Jaccard(o)),
        new("zero", "of a sample of the pages away: all zeros", (c, _) => Percent(c.Content?.ZeroShare), (c, _) => c.Content?.ZeroShare),
        new("halved", "of the same: half as big or smaller after zstd at level 1, page by page", (c, _) => Percent(c.Content?.CompressibleShare), (c, _) => c.Content?.CompressibleShare),
    ];

    /// <summary>Columns of equal width, for a terminal.</summary>
    public static string Plain(IReadOnlyList<TraceCharacter> traces)
    {
        string[][] rows = Rows(traces);
        int[] widths = [.. s_columns.Select((_, i) => rows.Max(r => r[i].Length))];
        var text = new StringBuilder();
        foreach (string[] row in rows)
        {
            string line = string.Join("  ", row.Select((cell, i) => i == 0 ? cell.PadRight(widths[i]) : cell.PadLeft(widths[i])));
            text.Append(Printable.Of(line.TrimEnd())).Append('\n');
        }
        return text.ToString();
    }

    /// <summary>A table in Markdown, and what its columns mean.</summary>
    public static string Markdown(IReadOnlyList<TraceCharacter> traces)
    {
        string[][] rows = Rows(traces);
        var text = new StringBuilder();
        text.Append("| ").AppendJoin(" | ", rows[0]).Append(" |\n|---|").Append(string.Concat(Enumerable.Repeat("---:|", s_columns.Length - 1))).Append('\n');
        foreach (string[] row in rows[1..])
            text.Append("| ").AppendJoin(" | ", row.Select((cell, i) => i == 0 ? MarkdownText.Of(cell) : cell)).Append(" |\n");
        text.Append('\n').AppendJoin("; ", s_columns[1..].Select(c => $"*{c.Title}*: {c.Meaning}")).Append(".\n");
        return text.ToString();
    }

    /// <summary>Comma-separated, exact: times in nanoseconds, except durations, which are in seconds; shares from 0 to 1.</summary>
    public static string Csv(IReadOnlyList<TraceCharacter> traces)
    {
        var text = new StringBuilder("trace,footprint_pages,touched_pages,hole_pages,threads,duration_s,first_touches_per_s,think_p50_ns,think_p99_ns,mean_run_pages,longest_run_pages,jaccard,zero_share,halved_share\n");
        foreach (TraceCharacter trace in traces)
            text.AppendJoin(',', s_columns.Select(c => Cell(c.Exact(trace, Sibling(traces, trace))))).Append('\n');
        return text.ToString();
    }

    /// <summary>The other capture of the same process, if it is among them.</summary>
    public static TraceCharacter? Sibling(IReadOnlyList<TraceCharacter> traces, TraceCharacter trace) => traces.FirstOrDefault(trace.IsSibling);

    private static string[][] Rows(IReadOnlyList<TraceCharacter> traces) =>
        [[.. s_columns.Select(c => c.Title)], .. traces.Select(t => s_columns.Select(c => c.Short(t, Sibling(traces, t))).ToArray())];

    private static string Cell(object? value) => value is string name ? CsvCell.Of(name) : string.Format(CultureInfo.InvariantCulture, "{0}", value);

    private static int Longest(TraceCharacter c) => c.SortedRunPages.Count == 0 ? 0 : c.SortedRunPages[^1];

    private static string Size(long pages) => TraceSummary.Size(pages * PageNumber.Size);

    private static string Percent(double? share) => share is double value ? value.ToString("0.0 %", CultureInfo.InvariantCulture) : "";

    private static string Text(int value) => value.ToString("N0", CultureInfo.InvariantCulture);
}
