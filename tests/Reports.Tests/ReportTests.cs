using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;
using NUnit.Framework;
using Testbed.Core;

namespace Testbed.Reports.Tests;

/// <summary>A whole report, written once and looked at from all sides.</summary>
[TestFixture]
public sealed partial class ReportTests
{
    private string _root = "", _report = "";
    private List<RunResult> _results = [];

    [OneTimeSetUp]
    public void WriteReport()
    {
        _root = Directory.CreateTempSubdirectory("report-test-").FullName;
        _report = Path.Combine(_root, "demo");
        _results = [.. SyntheticRuns.All(RunMode.Replay), .. SyntheticRuns.All(RunMode.Live, 20_000).Take(5)];
        Report.Write(_report, SyntheticRuns.Context, _results);
    }

    [OneTimeTearDown]
    public void Delete() => Directory.Delete(_root, true);

    private string[] Figures(string extension) => Directory.GetFiles(Path.Combine(_report, "figures"), "*." + extension);

    [Test]
    public void HasEveryFigureInEveryFormatAndNothingElse()
    {
        string[] expected =
        [
            "address-over-time", "address-over-time-live", "latency-ccdf", "latency-ccdf-live", "latency-ecdf", "latency-ecdf-live", "latency-over-time", "latency-over-time-live",
            "live-beside-replay", "prefetch-quality", "residency", "residency-live", "stall", "stall-live", "stall-map",
        ];
        foreach (string extension in (string[])["png", "svg", "pdf"])
            Assert.That(Figures(extension).Select(Path.GetFileNameWithoutExtension), Is.EquivalentTo(expected));
        Assert.That(Directory.GetFileSystemEntries(_report).Select(Path.GetFileName), Is.EquivalentTo((string[])["index.html", "results.csv", "figures", "latencies"]));
        Assert.That(Directory.GetFileSystemEntries(_root), Has.Length.EqualTo(1), "temporary directories stay behind");
    }

    [Test]
    public void FilesAreSmall()
    {
        foreach (string file in Figures("svg").Concat(Figures("pdf")))
            Assert.That(new FileInfo(file).Length, Is.LessThan(500_000), file);
    }

    [Test]
    public void SvgHasTextWithUnitsAndCarriesItsFont()
    {
        foreach (string file in Figures("svg"))
        {
            string svg = File.ReadAllText(file);
            Assert.That(svg, Does.Contain("<text").And.Contain("@font-face").And.Contain("font-family=\"Testbed Sans\""), file);
            if (file.Contains("ccdf", StringComparison.Ordinal))
                Assert.That(svg, Does.Match(@">\s*0\.001\s*<"), "labels are not rounded with the coordinates");
            if (file.Contains("quality", StringComparison.Ordinal))
                continue; // Both axes in per cent, named by their labels.
            Assert.That(UnitInText().IsMatch(svg), Is.True, $"{file}: no tick with a unit");
            var ids = Id().Matches(svg).Select(m => m.Groups[1].Value).ToList();
            Assert.That(ids, Is.Unique, file);
        }
    }

    [Test]
    public void PdfEmbedsTheFontAndIsVector()
    {
        foreach (string file in Figures("pdf"))
        {
            string pdf = Encoding.Latin1.GetString(File.ReadAllBytes(file));
            Assert.That(pdf, Does.StartWith("%PDF").And.Contain("/FontFile2").And.Contain("TestbedSans-Regular"), file);
            Assert.That(pdf.Contains("/Subtype /Image", StringComparison.Ordinal), Is.EqualTo(file.Contains("address", StringComparison.Ordinal)), file);
            Assert.That(pdf, Does.Contain("/CreationDate (D:20261123200000"), file);
        }
    }

    [Test]
    public void HtmlNeedsNoNetwork()
    {
        string html = File.ReadAllText(Path.Combine(_report, "index.html"));
        string withoutNamespaces = html.Replace("xmlns=\"http://www.w3.org/2000/svg\"", "", StringComparison.Ordinal).Replace("xmlns:xlink=\"http://www.w3.org/1999/xlink\"", "", StringComparison.Ordinal);
        Assert.That(withoutNamespaces, Does.Not.Contain("http://").And.Not.Contain("https://").And.Not.Contain("src=\"//").And.Not.Contain("@import"));
        foreach (Match link in RelativeLink().Matches(html))
            Assert.That(File.Exists(Path.Combine(_report, link.Groups[1].Value)), Is.True, link.Value);
        Assert.That(Id().Matches(html).Select(m => m.Groups[1].Value), Is.Unique);
        foreach (string fact in (string[])["./testbed compare scenarios/redis.json --seed 7", "0123abc", "sha256:4af1", "6.18.0", "Example CPU", "local page 9.1 us"])
            Assert.That(html, Does.Contain(fact));
    }

    [Test]
    public void HtmlTableHasTheNumbersOfTheResults()
    {
        string html = File.ReadAllText(Path.Combine(_report, "index.html"));
        foreach (RunResult run in _results)
        {
            string row = html.Split('\n').Single(l => l.StartsWith("<tr", StringComparison.Ordinal)
                && l.Contains($"data-v=\"{run.Policy}\"", StringComparison.Ordinal) && l.Contains($"data-v=\"{run.Link}\"", StringComparison.Ordinal)
                && l.Contains($"data-v=\"{run.Mode.ToString().ToLowerInvariant()}\"", StringComparison.Ordinal) && l.Contains(run.CommandHash.ToString("x16"), StringComparison.Ordinal));
            Assert.That(row, Does.Contain($">{run.DemandFaults:N0}<").And.Contain($"data-v=\"{run.TotalStall.Seconds:R}\"").And.Contain(run.CommandHash.ToString("x16")));
            Assert.That(WebUtilityDecode(row), Does.Contain($">{run.LatencyQuantile(0.99).ToString().Replace("us", "µs", StringComparison.Ordinal)}<"));
        }
    }

    [Test]
    public void CsvHasTheNumbersOfTheResults()
    {
        string[] lines = File.ReadAllLines(Path.Combine(_report, "results.csv"));
        string[] heads = lines[0].Split(',');
        Assert.That(lines, Has.Length.EqualTo(_results.Count + 1));
        for (int i = 0; i < _results.Count; i++)
        {
            // The link holds a comma, and is quoted therefore.
            string[] fields = lines[i + 1].Replace($"\"{_results[i].Link}\"", "LINK", StringComparison.Ordinal).Split(',');
            double Field(string head) => double.Parse(fields[Array.IndexOf(heads, head)], CultureInfo.InvariantCulture);
            Assert.That(fields, Has.Length.EqualTo(heads.Length));
            Assert.That(fields[2], Is.EqualTo("LINK"));
            Assert.That(Field("total_stall_s"), Is.EqualTo(_results[i].TotalStall.Seconds));
            Assert.That(Field("latency_p999_us"), Is.EqualTo(_results[i].LatencyQuantile(0.999).Microseconds));
            Assert.That(Field("bytes"), Is.EqualTo(_results[i].Bytes));
            Assert.That(fields[Array.IndexOf(heads, "prefetch_useful")], _results[i].Mode == RunMode.Live ? Is.Empty : Is.EqualTo($"{_results[i].Prefetch.Useful}"));
        }
    }

    [Test]
    public void HistogramsHaveTheQuantilesOfTheResults()
    {
        Assert.That(Directory.GetFiles(Path.Combine(_report, "latencies"), "*.hgrm"), Has.Length.EqualTo(_results.Count));
        foreach (RunResult run in _results)
            Assert.That((double)LatencyFiles.Histogram(run).GetValueAtPercentile(99), Is.EqualTo((double)run.LatencyQuantile(0.99).Nanoseconds).Within(0.2).Percent);
    }

    [Test]
    public void SameInputGivesSameBytes()
    {
        string again = Path.Combine(_root, "..", Path.GetFileName(_root) + "-again");
        try
        {
            // Fresh objects: nothing cached in the first may decide.
            Report.Write(again, SyntheticRuns.Context, [.. SyntheticRuns.All(RunMode.Replay), .. SyntheticRuns.All(RunMode.Live, 20_000).Take(5)]);
            foreach (string file in Directory.GetFiles(_report, "*", SearchOption.AllDirectories))
                Assert.That(File.ReadAllBytes(Path.Combine(again, Path.GetRelativePath(_report, file))), Is.EqualTo(File.ReadAllBytes(file)), file);
        }
        finally
        {
            Directory.Delete(again, true);
        }
    }

    [Test]
    public void ReplacesAnEarlierReportButNothingElse()
    {
        string target = Path.Combine(_root, "..", Path.GetFileName(_root) + "-replace");
        try
        {
            RunResult[] one = [SyntheticRuns.One(0, 0, RunMode.Replay, 100, 1)];
            Directory.CreateDirectory(target);
            File.WriteAllText(Path.Combine(target, "thesis.tex"), "years of work");
            Assert.That(() => Report.Write(target, SyntheticRuns.Context, one), Throws.TypeOf<BadInputException>());
            Assert.That(File.ReadAllText(Path.Combine(target, "thesis.tex")), Is.EqualTo("years of work"));
            File.Delete(Path.Combine(target, "thesis.tex"));
            Report.Write(target, SyntheticRuns.Context, one);
            File.WriteAllText(Path.Combine(target, "figures", "stale.png"), "");
            Report.Write(target, SyntheticRuns.Context, one);
            Assert.That(File.Exists(Path.Combine(target, "figures", "stale.png")), Is.False);
        }
        finally
        {
            Directory.Delete(target, true);
        }
    }

    [Test]
    public void NoResultsIsBadInput() =>
        Assert.That(() => Report.Write(Path.Combine(_root, "none"), SyntheticRuns.Context, []), Throws.TypeOf<BadInputException>());

    private static string WebUtilityDecode(string html) => System.Net.WebUtility.HtmlDecode(html);

    [GeneratedRegex(@">\s*[0-9.]+ (ns|µs|ms|s|&#181;s|&#xb5;s)\s*<", RegexOptions.IgnoreCase)]
    private static partial Regex UnitInText();

    [GeneratedRegex("""\bid="([^"]+)""")]
    private static partial Regex Id();

    [GeneratedRegex("""<a href="([^"]+)""")]
    private static partial Regex RelativeLink();
}
