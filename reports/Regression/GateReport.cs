using System.Globalization;
using System.Text;
using System.Xml.Linq;
using Testbed.Core;

namespace Testbed.Reports.Regression;

/// <summary>What the gate found, in the forms that a terminal, a CI server and a reviewer read.</summary>
public static class GateReport
{
    private static readonly string[] s_headings = ["policy", "link", "metric", "before", "after", "change", ""];

    /// <summary>In a few words: <c>redis: 2 of 60 numbers regressed</c>.</summary>
    public static string Headline(GateResult result)
    {
        int worse = Count(result, Verdict.Worse), unknown = Count(result, Verdict.Unknown);
        int changed = result.Lines.Count(l => l.Verdict is Verdict.Better or Verdict.Higher);
        return $"{result.Scenario}: " + result.ExitCode switch
        {
            1 => $"{worse} of {result.Lines.Count} numbers regressed",
            2 when result.Problems.Count > 0 => $"could not tell: {string.Join("; ", result.Problems)}",
            2 => $"could not tell {unknown} of {result.Lines.Count} numbers",
            _ => $"no regression in {result.Lines.Count} numbers" + (changed > 0 ? $" ({changed} others changed)" : ""),
        };
    }

    /// <summary>For a terminal: what changed, the worst first, and the headline.</summary>
    public static string Table(GateResult result)
    {
        var text = new StringBuilder();
        string[][] rows = [s_headings, .. Changed(result).Select(Cells)];
        int[] widths = [.. s_headings.Select((_, c) => rows.Max(r => r[c].Length))];
        foreach (string[] row in rows.Length > 1 ? rows : [])
        {
            IEnumerable<string> cells = row.Select((cell, c) => c is 3 or 4 or 5 ? cell.PadLeft(widths[c]) : cell.PadRight(widths[c]));
            text.Append(Line(string.Join("  ", cells).TrimEnd())).Append('\n');
        }
        return text.Append(Line(Headline(result))).Append('\n').Append("method: ").Append(Printable.Of(result.Method)).ToString();
    }

    /// <summary>For a job summary or a comment (GitHub's Markdown).</summary>
    public static string Markdown(GateResult result)
    {
        string mark = result.ExitCode switch { 0 => "✅", 1 => "❌", _ => "❔" };
        var text = new StringBuilder($"### {mark} {MarkdownText.Of(Headline(result))}\n\n");
        GateLine[] changed = [.. Changed(result)];
        if (changed.Length > 0)
        {
            text.Append("| policy | link | metric | before | after | change | |\n|---|---|---|--:|--:|--:|---|\n");
            foreach (string[] row in changed.Select(Cells))
                text.Append("| ").AppendJoin(" | ", row.Select(MarkdownText.Of)).Append(" |\n");
            text.Append('\n');
        }
        return text.Append($"Method: {MarkdownText.Of(result.Method)}.\n").ToString();
    }

    /// <summary>JUnit's XML: one test case per policy and link.</summary>
    public static string JUnit(GateResult result)
    {
        var cases = result.Lines.GroupBy(l => (l.Policy, l.Link)).Select(group =>
        {
            var test = new XElement("testcase", Attribute("classname", $"regress.{result.Scenario}"), Attribute("name", $"{group.Key.Policy} over {group.Key.Link}"));
            if (group.Any(l => l.Verdict == Verdict.Worse))
                test.Add(new XElement("failure", Attribute("message", Sentences(group, Verdict.Worse)), Printable.Of(Sentences(group))));
            else if (group.Any(l => l.Verdict == Verdict.Unknown))
                test.Add(new XElement("error", Attribute("message", Sentences(group, Verdict.Unknown)), Printable.Of(Sentences(group))));
            return test;
        }).ToList();
        cases.AddRange(result.Problems.Select(problem => new XElement("testcase",
            Attribute("classname", $"regress.{result.Scenario}"), Attribute("name", "baseline"), new XElement("error", Attribute("message", problem)))));
        var suite = new XElement("testsuite", Attribute("name", $"regress {result.Scenario}"), new XAttribute("tests", cases.Count),
            new XAttribute("failures", cases.Count(c => c.Element("failure") is not null)), new XAttribute("errors", cases.Count(c => c.Element("error") is not null)), cases);
        return new XDeclaration("1.0", "utf-8", null) + "\n" + new XElement("testsuites", suite) + "\n";
    }

    /// <summary>GitHub's workflow commands: one line per policy and link that regressed or could not be told.</summary>
    /// <param name="result">What was found.</param>
    /// <param name="file">The scenario's file, to which the annotations are pinned.</param>
    public static string Annotations(GateResult result, string file)
    {
        var text = new StringBuilder();
        foreach (var group in result.Lines.GroupBy(l => (l.Policy, l.Link)))
        {
            if (group.Any(l => l.Verdict == Verdict.Worse))
                Append("error", $"{group.Key.Policy} over {group.Key.Link} regressed", Sentences(group, Verdict.Worse));
            else if (group.Any(l => l.Verdict == Verdict.Unknown))
                Append("warning", $"{group.Key.Policy} over {group.Key.Link}: could not tell", Sentences(group, Verdict.Unknown));
        }
        foreach (string problem in result.Problems)
            Append("error", "could not tell", problem);
        return text.ToString();

        void Append(string level, string title, string message) =>
            text.Append($"::{level} file={Property(file)},title={Property($"{result.Scenario}: {title}")}::{Data(message)}\n");
    }

    private static int Count(GateResult result, Verdict verdict) => result.Lines.Count(l => l.Verdict == verdict);

    private static IEnumerable<GateLine> Changed(GateResult result) =>
        result.Lines.Where(l => l.Verdict != Verdict.Same)
            .OrderBy(l => l.Verdict switch { Verdict.Worse => 0, Verdict.Unknown => 1, Verdict.Higher => 2, _ => 3 })
            .ThenByDescending(l => l.Change ?? double.PositiveInfinity);

    private static string[] Cells(GateLine line) =>
        [line.Policy, line.Link, line.Metric.Title, Value(line, line.Before), Value(line, line.After), Percent(line), (Word(line.Verdict) + " " + line.Evidence).Trim()];

    private static string Sentences(IEnumerable<GateLine> lines, Verdict? only = null) =>
        string.Join("; ", lines.Where(l => only is null ? l.Verdict != Verdict.Same : l.Verdict == only)
            .Select(l => $"{l.Metric.Title} {Value(l, l.Before)} to {Value(l, l.After)} ({Percent(l)}{(l.Evidence.Length > 0 ? ", " + l.Evidence : "")})"));

    private static string Value(GateLine line, double? value) => value is { } v ? line.Metric.Text(v) : Column.None;

    private static string Percent(GateLine line) =>
        line.Change is not { } change ? Column.None
            // The smallest change is still one: it must not read as +0.00 %.
            : Math.Abs(change) < 0.00005 ? (change < 0 ? "-<0.01 %" : "+<0.01 %")
            : (change * 100).ToString("+0.00;-0.00", CultureInfo.InvariantCulture) + " %";

    private static string Word(Verdict verdict) => verdict switch
    {
        Verdict.Worse => "REGRESSED",
        Verdict.Unknown => "could not tell",
        Verdict.Higher => "higher, not guarded",
        Verdict.Better => "better",
        _ => "",
    };

    // XML 1.0 has no way to write most control characters.
    private static XAttribute Attribute(string name, string text) => new(name, Printable.Of(text));

    /// <summary>A line that a CI server's runner would take for a command of its own is none when it does not begin as one.</summary>
    private static string Line(string text)
    {
        string shown = Printable.Of(text);
        return shown.TrimStart() is ['#', '#', '[', ..] or [':', ':', ..] ? "' " + shown : shown;
    }

    // As the runner's own toolkit escapes them.
    private static string Data(string s) => Printable.Of(s).Replace("%", "%25", StringComparison.Ordinal).Replace("\r", "%0D", StringComparison.Ordinal).Replace("\n", "%0A", StringComparison.Ordinal);

    private static string Property(string s) => Data(s).Replace(":", "%3A", StringComparison.Ordinal).Replace(",", "%2C", StringComparison.Ordinal);
}
