using System.Globalization;
using System.Text;
using Testbed.Core;
using Testbed.Reports.Statistics;

namespace Testbed.Reports;

/// <summary>The results as a LaTeX table with booktabs' rules: policies in rows, links side by side, one unit a column, the best of
/// each in bold. Needs <c>\usepackage{booktabs}</c>.</summary>
public static class LatexTable
{
    private sealed record Quantity(string Head, Func<RunResult, double?> Value, bool IsTime);

    private static readonly Quantity[] s_quantities =
    [
        new("faults", r => r.DemandFaults + r.LateFaults, false),
        new("p50", r => r.Latencies.Count == 0 ? null : r.LatencyQuantile(0.5).Nanoseconds, true),
        new("p99", r => r.Latencies.Count == 0 ? null : r.LatencyQuantile(0.99).Nanoseconds, true),
        new("stall", r => r.TotalStall.Nanoseconds, true),
    ];

    /// <summary>One table per workload and mode.</summary>
    public static string Format(IReadOnlyList<Summary> summaries)
    {
        var text = new StringBuilder();
        foreach (var block in summaries.GroupBy(s => (s.Run.Workload, s.Run.Mode)))
            Append(text, [.. block], block.Key.Workload, block.Key.Mode.ToString().ToLowerInvariant());
        return text.ToString();
    }

    /// <summary>
    /// A text with LaTeX's own signs escaped, so that a name is read as a name wherever it stands: no command, comment or
    /// mathematics, and no option or star of the command before it. What is beyond Latin-1 is written by its number.
    /// </summary>
    public static string Escape(string text)
    {
        var escaped = new StringBuilder();
        foreach (Rune rune in Printable.Of(text).EnumerateRunes())
        {
            escaped.Append(rune.Value switch
            {
                '\\' => "\\textbackslash{}",
                '[' or ']' or '*' or '`' or '"' => $"{{{rune}}}",
                '<' => "\\textless{}",
                '>' => "\\textgreater{}",
                '|' => "\\textbar{}",
                '&' or '%' or '$' or '#' or '_' or '{' or '}' => "\\" + rune,
                '~' => "\\textasciitilde{}",
                '^' => "\\textasciicircum{}",
                'µ' => "$\\mu$",
                '×' => "$\\times$",
                '–' => "--",
                > 0xff => string.Create(CultureInfo.InvariantCulture, $"\\texttt{{U+{rune.Value:X4}}}"),
                _ => rune.ToString(),
            });
        }
        return escaped.ToString();
    }

    private static void Append(StringBuilder text, Summary[] block, string workload, string mode)
    {
        string[] links = [.. block.Select(s => s.Run.Link).Distinct()], policies = [.. block.Select(s => s.Run.Policy).Distinct()];
        string star = links.Length > 1 ? "*" : "";
        int n = s_quantities.Length;
        text.Append($"\\begin{{table{star}}}\n  \\centering\n  \\caption{{{Escape(workload)}, {mode}: faults that waited, their latency, and the sum of all waiting; percentiles by nearest rank, the best of each link in bold.}}\n")
            .Append($"  \\label{{tab:{Label(workload)}-{mode}}}\n  \\footnotesize\n  \\setlength{{\\tabcolsep}}{{3.2pt}}\n  \\begin{{tabular}}{{@{{}}l{string.Concat(Enumerable.Repeat(new string('r', n), links.Length))}@{{}}}}\n    \\toprule\n    ");
        text.AppendJoin(" ", links.Select(l => $"& \\multicolumn{{{n}}}{{c}}{{{Escape(Figures.FigureData.TitleOf(l))}}}")).Append(" \\\\\n    ")
            .AppendJoin(" ", links.Select((_, i) => $"\\cmidrule(lr){{{2 + (i * n)}-{1 + ((i + 1) * n)}}}")).Append("\n    policy");
        var columns = (from link in links from quantity in s_quantities select ColumnOf(block, link, quantity)).ToList();
        foreach ((Quantity quantity, (double _, string unit), _) in columns)
            text.Append($" & {quantity.Head}{(unit.Length > 0 ? $" ({unit})" : "")}");
        text.Append(" \\\\\n    \\midrule\n");
        foreach (string policy in policies)
        {
            text.Append($"    {Escape(policy)}");
            foreach ((Quantity quantity, (double scale, string unit), Dictionary<string, double> values) in columns)
                text.Append(" & ").Append(values.TryGetValue(policy, out double v) ? Cell(v / scale, quantity.IsTime, values.Count > 1 && v == values.Values.Min()) : "--");
            text.Append(" \\\\\n");
        }
        text.Append($"    \\bottomrule\n  \\end{{tabular}}\n\\end{{table{star}}}\n\n");
    }

    private static (Quantity Quantity, (double Scale, string Name) Unit, Dictionary<string, double> Values) ColumnOf(Summary[] block, string link, Quantity quantity)
    {
        Dictionary<string, double> values = block.Where(s => s.Run.Link == link && quantity.Value(s.Run) is not null)
            .ToDictionary(s => s.Run.Policy, s => quantity.Value(s.Run)!.Value);
        double middle = values.Count == 0 ? 1 : new Sample(values.Values).Quantile(0.5);
        (double, string) unit = !quantity.IsTime ? (1, "") : middle switch { < 1e6 => (1e3, "$\\mu$s"), < 1e9 => (1e6, "ms"), _ => (1e9, "s") };
        return (quantity, unit, values);
    }

    private static string Cell(double value, bool isTime, bool best)
    {
        string number = !isTime || value >= 999.5 ? value.ToString("#,0", CultureInfo.InvariantCulture).Replace(",", "\\,", StringComparison.Ordinal)
            : value.ToString(value switch { >= 99.95 => "0", >= 9.995 => "0.0", >= 0.0995 or 0 => "0.00", _ => "0.0000" }, CultureInfo.InvariantCulture);
        return best ? $"\\textbf{{{number}}}" : number;
    }

    internal static string Label(string text) => string.Concat(text.Select(c => char.IsAsciiLetterOrDigit(c) ? c : '-'));
}
