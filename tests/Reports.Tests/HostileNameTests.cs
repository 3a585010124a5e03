using System.Text.RegularExpressions;
using System.Xml.Linq;
using NUnit.Framework;
using Testbed.Core;
using Testbed.Reports.Figures;
using Testbed.Reports.Regression;
using Testbed.Reports.Statistics;

namespace Testbed.Reports.Tests;

/// <summary>Names from a scenario, a trace or a baseline that were made to do something: each form that a report takes shows them as text.</summary>
[TestFixture]
public sealed partial class HostileNameTests
{
    private const string Escape = "\u001b[2J\u001b]0;owned\u0007", Reversed = "\u202egnp.exe", Html = "<img src=x onerror=alert(1)>\"'&";
    private const string Latex = "[1] \\input{/etc/passwd}%$^_#~&{\\def\\x{", Formula = "=HYPERLINK(\"http://x/\"&A1)", Command = "::error::forged";
    private static readonly string s_none = "\ufffe\uffff\ud800\u0000\u2028\u0085";

    private static readonly string[] s_names = [Escape, Reversed, Html, Latex, Formula, Command, s_none, "two\nlines\r::stop-commands::x", "a|b`c``d|[e](http://f)@g"];

    private static IEnumerable<RunResult> Runs(string name) =>
        from i in Enumerable.Range(0, 2) select SyntheticRuns.Named(SyntheticRuns.One(i, 0, RunMode.Replay, 200, 1), name, name, name + i);

    private static ReportContext Context(string name) => SyntheticRuns.Context with
    {
        Title = name,
        CommandLine = name,
        Scenario = name,
        Commit = name,
        Traces = [new TraceProvenance(name, name, name, null)],
    };

    [TestCaseSource(nameof(s_names))]
    public void Terminal_table_shows_the_name_when_it_would_steer(string name)
    {
        string table = ResultTable.Format([.. Runs(name)]);
        Assert.That(Steering().Matches(table), Is.Empty);
        Assert.That(table.Split('\n'), Has.Length.EqualTo(ResultTable.Format([.. Runs("name")]).Split('\n').Length), "no line was forged");
    }

    [TestCase("=1+1")]
    [TestCase("+1")]
    [TestCase("-1+cmd|' /C calc'!A0")]
    [TestCase("@SUM(A1)")]
    [TestCase("  =1+1")]
    [TestCase("\t=1+1")]
    [TestCase("\r=1+1")]
    [TestCase("\uff1d1+1")]
    [TestCase(Formula)]
    public void Csv_cell_is_text_when_the_name_is_a_formula(string name)
    {
        string csv = ResultsCsv.Format(Summary.Of([.. Runs(name)]));
        string[] lines = csv.TrimEnd('\n').Split('\n');
        Assert.That(lines, Has.Length.EqualTo(3));
        Assert.That(lines[1..], Is.All.Match("^\"?'"), "an apostrophe in front");
        List<SweepRow> rows = [.. Runs(name).Select(r => SweepRow.Of("key", name, 1, r))];
        Assert.That(SweepTable.Csv(rows).TrimEnd('\n').Split('\n')[1..], Is.All.Match("^(\"?'|\\\\u)"), "what steers is shown already in a row");
        Assert.That(rows.Select(r => SweepRow.FromLine(r.ToLine())?.Policy), Is.EqualTo(rows.Select(r => r.Policy)), "the journal is read again");
    }

    [Test]
    public void Csv_cell_is_a_number_when_the_value_is_negative() => Assert.That(SweepTable.Number(-1.5), Is.EqualTo("-1.5"));

    [TestCaseSource(nameof(s_names))]
    public void Html_and_svg_show_the_name_when_it_is_markup(string name)
    {
        DirectoryInfo folder = Directory.CreateTempSubdirectory("hostile-test-");
        try
        {
            _ = Report.Write(Path.Combine(folder.FullName, "report"), Context(name), [.. Runs(name)]);
            string html = File.ReadAllText(Path.Combine(folder.FullName, "report", "index.html"));
            Assert.That(html, Does.Not.Contain("<img"));
            Assert.That(Steering().Matches(html), Is.Empty);
            foreach (string svg in Directory.GetFiles(Path.Combine(folder.FullName, "report", "figures"), "*.svg"))
                Assert.DoesNotThrow(() => XDocument.Load(svg), svg);
            IEnumerable<string> outside = folder.EnumerateFileSystemInfos("*", SearchOption.AllDirectories).Select(f => Path.GetFileName(f.FullName)).Where(f => Steering().IsMatch(f) || f.Contains('<', StringComparison.Ordinal));
            Assert.That(outside, Is.Empty, "names of files");
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    [TestCaseSource(nameof(s_names))]
    public void Latex_shows_the_name_when_it_is_a_command(string name)
    {
        DirectoryInfo folder = Directory.CreateTempSubdirectory("hostile-test-");
        try
        {
            _ = PaperFigures.Write(folder.FullName, FigureStyle.Parse("acm"), Context(name), [.. Runs(name)], []);
            foreach (string file in (string[])["tables.tex", "figures.tex"])
            {
                string tex = File.ReadAllText(Path.Combine(folder.FullName, file));
                Assert.That(Steering().Matches(tex), Is.Empty);
                // Each line before the first command is a comment, and a row does not begin with what \\ takes for its argument.
                string body = string.Join('\n', tex.Split('\n').Where(l => !l.StartsWith('%')));
                Assert.That(body, Does.Not.Match(@"\\(input|def)\b"));
                Assert.That(tex.Split('\n').TakeWhile(l => !l.StartsWith("\\begin", StringComparison.Ordinal)), Is.All.Match("^(%.*)?$"));
                Assert.That(body, Does.Not.Match(@"\\\\\s*[\[*]"));
                Assert.That(body.Count(c => c == '{') - Regex.Count(body, @"\\\{"), Is.EqualTo(body.Count(c => c == '}') - Regex.Count(body, @"\\\}")), "braces match");
            }
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    [TestCaseSource(nameof(s_names))]
    public void Gate_reports_show_the_name_in_every_form(string name)
    {
        GateMetric metric = GateMetric.Parse("p99")[0];
        var result = new GateResult(name, name, [new GateLine(name, name, metric, 1, 2, Verdict.Worse, name), new GateLine(name + "2", name, metric, null, 2, Verdict.Unknown)], [name]);
        XDocument junit = XDocument.Parse(GateReport.JUnit(result));
        Assert.That(junit.Descendants("testcase").Count(), Is.EqualTo(3));
        string table = GateReport.Table(result), markdown = GateReport.Markdown(result), annotations = GateReport.Annotations(result, name);
        foreach (string text in (string[])[table, markdown, annotations, junit.ToString()])
            Assert.That(Steering().Matches(text), Is.Empty);
        Assert.That(table.Split('\n'), Is.All.Not.Match(@"^\s*(::|##\[)"), "a line that the runner would obey");
        Assert.That(annotations.TrimEnd('\n').Split('\n'), Has.Length.EqualTo(3).And.All.Match(@"^::(error|warning) file=[^:,]*,title=[^:,]*::"));
        string outsideCode = Code().Replace(markdown, "");
        Assert.That(outsideCode, Does.Not.Contain("<img").And.Not.Contain("](").And.Not.Contain("@"));
        Assert.That(markdown.Split('\n').Where(l => l.StartsWith("| ", StringComparison.Ordinal)).Select(l => UnescapedBar().Count(l)), Is.All.EqualTo(8), "cells stay cells");
    }

    // All that Unicode calls control or format, and line ends of other kinds; line feeds are the report's own.
    [GeneratedRegex(@"[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\ufffe\uffff-[\n]]")]
    private static partial Regex Steering();

    [GeneratedRegex(@"(?<!`)(`+) .*? \1(?!`)")]
    private static partial Regex Code();

    [GeneratedRegex(@"(?<!\\)\|")]
    private static partial Regex UnescapedBar();
}
