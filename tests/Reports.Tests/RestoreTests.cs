using System.Text.RegularExpressions;
using NUnit.Framework;
using Testbed.Core;
using Testbed.Reports.Figures;

namespace Testbed.Reports.Tests;

/// <summary>What a migration is reported as.</summary>
[TestFixture]
public sealed partial class RestoreTests
{
    private static readonly ReportContext s_context = SyntheticRuns.Context with { Title = "A redis moves", CommandLine = "./testbed migrate x.json", Traces = [], Calibration = "" };

    /// <summary>Every request takes <paramref name="slow"/> until all is in, a tenth of it after.</summary>
    private static RestoreRun Run(string pair, int round, double allInMs, double slowUs)
    {
        var requests = new List<RestoreRequest>();
        for (double at = 20; requests.Count < 2000;)
        {
            double latency = (at < allInMs ? slowUs : slowUs / 10) * (1 + (round * 0.01));
            requests.Add(new RestoreRequest(Duration.FromMilliseconds(at), new Duration((long)(latency * 1000))));
            at += latency / 1000;
        }
        return new RestoreRun(pair, round, Duration.FromMilliseconds(40), Duration.FromMilliseconds(20 + round), Duration.FromMilliseconds(allInMs + round), requests);
    }

    private static readonly RestoreRun[] s_runs =
        [.. from round in Enumerable.Range(0, 5) from pair in (string[])["criu+criu", "testbed+testbed"] select pair[0] == 'c' ? Run(pair, round, 1000, 1500) : Run(pair, round, 200, 800)];

    [Test]
    public void NumbersAreThoseOfTheRequests()
    {
        RestoreRun run = s_runs[0];
        double Value(string key) => RestoreMetric.All.Single(m => m.Key == key).Value(run)!.Value;
        Assert.That(Value("all_in_ms"), Is.EqualTo(1000));
        Assert.That(Value("p99_until_all_in_us"), Is.EqualTo(1500));
        // 654 of 2,000 requests were sent before all was in, so the median is of those after.
        Assert.That((Value("p50_us"), Value("p99_us")), Is.EqualTo((150.0, 1500.0)));
        Assert.That(Value("requests_in_2_s"), Is.EqualTo(run.Requests.Count(r => (r.Sent + r.Latency).Milliseconds <= 2020)));
        var slowLater = Enumerable.Repeat(new RestoreRequest(Duration.FromMilliseconds(2500), Duration.FromMilliseconds(9)), 100);
        var later = new RestoreRun("a+b", 0, run.Restore, run.FirstResponse, run.AllIn, [.. run.Requests, .. slowLater]);
        Assert.That((later.Latencies.Quantile(0.99), later.Early.Quantile(0.99)), Is.EqualTo((9000.0, Value("p99_in_2_s_us"))));
        var quiet = new RestoreRun("a+b", 0, run.Restore, run.FirstResponse, run.AllIn, []);
        Assert.That(RestoreMetric.All.Count(m => m.Value(quiet) is not null), Is.EqualTo(3), "without load");
    }

    [Test]
    public void PairsAreComparedWithTheFirst()
    {
        RestoreValue[] values = [.. RestoreValue.Of(s_runs, 1)];
        RestoreValue allIn = values.Single(v => v.Pair == "testbed+testbed" && v.Metric.Key == "all_in_ms");
        Assert.That(allIn.Ratio!.Value, Is.EqualTo(202 / 1002.0).Within(1e-9));
        Assert.That(allIn.RatioInterval!.Value.Low, Is.LessThanOrEqualTo(allIn.Ratio!.Value));
        // 2 / 252 by enumeration, times at most the nine numbers tested.
        Assert.That(allIn.P!.Value, Is.InRange(0.007, 0.09));
        Assert.That(values.Where(v => v.Pair == "criu+criu").All(v => v is { Ratio: null, P: null }), Is.True);
        Assert.That(RestoreValue.Of([.. s_runs.Where(r => r.Round < 2)], 1).All(v => v.P is null && v.RatioInterval is null), Is.True, "two rounds tell nothing");
    }

    [Test]
    public void ReportHasTableComparisonAndFigure()
    {
        string folder = Directory.CreateTempSubdirectory("restore-report-").FullName;
        try
        {
            string html = File.ReadAllText(RestoreReport.Write(folder, s_context, s_runs));
            Assert.That(html, Does.Contain("Requests during a lazy restore").And.Contain("Compared with criu+criu").And.Contain("permutation test of the rank sums").And.Contain("Holm"));
            Assert.That(html, Does.Contain("./testbed migrate x.json").And.Not.Contain("Calibration"));
            Assert.That(Regex.Count(html, "<td class=\"t\" data-v=\"testbed\\+testbed\">"), Is.EqualTo(1 + RestoreMetric.All.Count));
            Assert.That(html, Does.Match("data-v=\"202\"[^>]*>202<"));
            foreach (Match link in Link().Matches(html))
                Assert.That(new FileInfo(Path.Combine(folder, link.Groups[1].Value)).Length, Is.GreaterThan(1000), link.Value);
            Assert.That(File.ReadAllLines(Path.Combine(folder, "migrations.csv")), Has.Length.EqualTo(11));
            Assert.That(File.ReadAllLines(Path.Combine(folder, "requests.csv")), Has.Length.EqualTo(1 + (10 * 2000)));
            RestoreReport.Write(folder, s_context, [.. s_runs.Select(r => new RestoreRun(r.Pair, r.Round, r.Restore, r.FirstResponse, r.AllIn, []))]);
            Assert.That(File.ReadAllText(Path.Combine(folder, "index.html")), Does.Not.Contain("<figure"), "without load there is nothing to draw");
        }
        finally
        {
            Directory.Delete(folder, true);
        }
    }

    [TestCase("acm")]
    [TestCase("ieee")]
    [TestCase("usenix")]
    public void TheFigureFitsAColumn(string style)
    {
        FigureSheet sheet = RestoreTimeline.Draw(s_runs, FigureStyle.Parse(style));
        Assert.That(sheet.PrintWidth, Is.EqualTo(FigureStyle.Parse(style).ColumnWidth));
        Assert.That(FigureWriter.Svg(sheet, "t"), Does.Contain("requests/s").And.Contain("p99 latency").And.Contain("testbed+testbed"));
    }

    [Test]
    public void AProgramThatAnswersOnlyWhenAllIsInIsDrawnToo()
    {
        // The first request is sent after 20 ms.
        FigureSheet sheet = RestoreTimeline.Draw([Run("testbed+testbed", 0, 5, 100), Run("testbed+criu", 0, 8, 100)], FigureStyle.Report);
        Assert.That(FigureWriter.Svg(sheet, "t"), Does.Contain("testbed+criu"));
    }

    [GeneratedRegex("href=\"(figures/[^\"]*)\"")]
    private static partial Regex Link();
}
