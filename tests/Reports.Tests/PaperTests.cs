using System.Diagnostics;
using System.Text.RegularExpressions;
using NUnit.Framework;
using Testbed.Core;
using Testbed.Reports.Figures;
using Testbed.Reports.Statistics;

namespace Testbed.Reports.Tests;

/// <summary>Figures and tables as a paper takes them.</summary>
[TestFixture]
public sealed partial class PaperTests
{
    private readonly List<RunResult> _results = [.. SyntheticRuns.All(RunMode.Replay, 3000), .. SyntheticRuns.All(RunMode.Live, 3000)];
    private string _folder = "";

    [OneTimeSetUp]
    public void MakeFolder() => _folder = Directory.CreateTempSubdirectory("paper-test-").FullName;

    [OneTimeTearDown]
    public void Delete() => Directory.Delete(_folder, true);

    [TestCase("acm", 240.25, 504.42)]
    [TestCase("ieee", 251.07, 514.08)]
    [TestCase("usenix", 240.12, 504)]
    public void FitsTheColumnsOfTheVenue(string name, double column, double page)
    {
        var style = FigureStyle.Parse(name);
        string folder = Path.Combine(_folder, name);
        int count = PaperFigures.Write(folder, style, SyntheticRuns.Context, _results, ["pdf"]);
        string[] files = Directory.GetFiles(folder, "*.pdf");
        Assert.That(files, Has.Length.EqualTo(count).And.Length.GreaterThan(30));
        string tex = File.ReadAllText(Path.Combine(folder, "figures.tex"));
        foreach (Match included in Included().Matches(tex))
            Assert.That(File.Exists(Path.Combine(folder, included.Groups[1].Value + ".pdf")), Is.True, included.Value);
        foreach (string file in files)
        {
            string info = Run("pdfinfo", file), fonts = Run("pdffonts", file);
            double width = double.Parse(PageSize().Match(info).Groups[1].Value, System.Globalization.CultureInfo.InvariantCulture);
            Assert.That(Math.Min(Math.Abs(width - column), Math.Abs(width - page)), Is.LessThan(0.5), $"{file} is {width} points wide");
            string[] rows = [.. fonts.Split('\n').Skip(2).Where(l => l.Length > 0)];
            Assert.That(rows, Is.Not.Empty, file);
            Assert.That(rows, Is.All.Matches(@"^[A-Z]{6}\+TestbedSans-(Regular|Bold) .* yes yes yes "), $"{file}: every font embedded and a subset");
            Assert.That(new FileInfo(file).Length, Is.LessThan(file.Contains("address", StringComparison.Ordinal) ? 400_000 : 120_000), file);
        }
    }

    [Test]
    public void TextIsAtLeastAsLargeAsTheVenueAsks()
    {
        var data = new FigureData("redis", Summary.Of(_results), null) { Style = FigureStyle.Parse("ieee") };
        string svg = FigureWriter.Svg(new StallByPolicy().Draw(data.Only(RunMode.Replay)), "t");
        Assert.That(svg, Does.Contain("scale(1.07 1.07)").Or.Contain("matrix(1.07"), "7.5 units at 8 points");
        Assert.That(() => FigureStyle.Parse("nature"), Throws.TypeOf<BadInputException>().With.Message.Contains("acm, ieee, usenix"));
    }

    [Test]
    public void TableHasTheNumbersAndEscapesWhatLatexWouldRead()
    {
        string tex = LatexTable.Format(Summary.Of(_results));
        Assert.That(tex, Does.Contain("\\toprule").And.Contain("\\bottomrule").And.Contain("\\multicolumn{4}{c}{10 Gbit/s, 50 $\\mu$s}"));
        RunResult run = _results[1];
        Assert.That(tex, Does.Contain((run.DemandFaults + run.LateFaults).ToString("#,0", System.Globalization.CultureInfo.InvariantCulture).Replace(",", "\\,", StringComparison.Ordinal)));
        foreach (string row in tex.Split('\n').Where(l => l.EndsWith("\\\\", StringComparison.Ordinal) && l.StartsWith("    criu", StringComparison.Ordinal)))
            Assert.That(row.Count(c => c == '&'), Is.EqualTo(12), row);
        Assert.That(LatexTable.Escape("50 % of a_b & {c} #1 \\ µ"), Is.EqualTo("50 \\% of a\\_b \\& \\{c\\} \\#1 \\textbackslash{} $\\mu$"));
    }

    [Test]
    public void SensitivityFindsTheOptionThatVaries()
    {
        List<RunResult> runs = [.. ((int[])[4, 16, 64]).Select((n, i) => SyntheticRuns.Renamed(SyntheticRuns.One(2, 0, RunMode.Replay, 1000 * (i + 1), 1), $"next-n:n={n},background=false"))];
        var figure = new Sensitivity();
        Assert.That(figure.Applies(new FigureData("redis", Summary.Of(runs), null)), Is.True);
        Assert.That(figure.Applies(new FigureData("redis", Summary.Of(runs[..2]), null)), Is.False, "two values are no curve");
        string svg = FigureWriter.Svg(figure.Draw(new FigureData("redis", Summary.Of(runs), null)), "t");
        Assert.That(svg, Does.Contain("next-n:background=false").And.Match(@">\s*64\s*<"));
    }

    [Test]
    public void TheBoundIsTheMeasureOfAll()
    {
        RunResult run = SyntheticRuns.One(0, 0, RunMode.Replay, 1000, 1);
        var bound = new LinkBound(new Duration(run.WorkloadTime.Nanoseconds / 4), null, Duration.Zero, Duration.Zero);
        var figure = new TimesTheBound();
        Assert.That(figure.Applies(new FigureData("redis", Summary.Of([run]), null)), Is.False);
        Assert.That(FigureWriter.Svg(figure.Draw(new FigureData("redis", Summary.Of([SyntheticRuns.Bounded(run, bound)]), null)), "t"), Does.Match(@">\s*4×\s*<"));
    }

    [Test]
    public void ComparisonWithTheBaselineTestsRunsOrFaults()
    {
        IReadOnlyList<Versus> faults = Versus.Of(Summary.Of(SyntheticRuns.All(RunMode.Replay, 2000)), 1);
        Assert.That(faults, Has.Count.EqualTo(12), "four policies beside criu, three links");
        Assert.That(faults.Where(v => v.ByRuns), Is.Empty);
        Versus workingSet = faults.First(v => v.Summary.Run.Policy == "working-set");
        Assert.That(workingSet.Delta!.Value, Is.LessThan(-0.5));
        Assert.That(workingSet.P!.Value, Is.LessThan(0.001));
        List<RunResult> many = [.. from seed in Enumerable.Range(1, 6) from policy in (int[])[1, 2] select SyntheticRuns.One(policy, 0, RunMode.Live, 500, seed)];
        Versus live = Versus.Of(Summary.Of(many), 1).Single();
        Assert.That(live.ByRuns, Is.True);
        Assert.That(live.RatioInterval!.Value.Low, Is.LessThan(live.StallRatio!.Value));
        Assert.That(live.P!.Value, Is.LessThan(0.05), "six runs a side that do not overlap");
    }

    [Test]
    public void ThinnedLinesStayWhereTheyWere()
    {
        ScottPlot.Coordinates[] wave = [.. Enumerable.Range(0, 5000).Select(i => new ScottPlot.Coordinates(i / 5000.0, Math.Sin(i / 300.0)))];
        ScottPlot.Coordinates[] thin = Curve.Simplify(wave, 1 / 200.0, 2 / 100.0);
        Assert.That(thin, Has.Length.LessThan(250));
        foreach (ScottPlot.Coordinates p in wave)
        {
            int right = Array.FindIndex(thin, t => t.X >= p.X);
            if (right == 0)
                continue;
            ScottPlot.Coordinates a = thin[right - 1], b = thin[right];
            double y = a.Y + ((p.X - a.X) / (b.X - a.X) * (b.Y - a.Y));
            Assert.That(Math.Abs(y - p.Y) * 50, Is.LessThan(0.6), "in points of print");
        }
    }

    private static string Run(string program, string file)
    {
        try
        {
            using Process process = Process.Start(new ProcessStartInfo(program, [file]) { RedirectStandardOutput = true })!;
            string said = process.StandardOutput.ReadToEnd();
            process.WaitForExit();
            return said;
        }
        catch (System.ComponentModel.Win32Exception)
        {
            const string Missing = "poppler-utils is not installed; scenarios/setup/debian.sh installs it";
            if (Environment.GetEnvironmentVariable("CI") == "true")
                Assert.Fail(Missing);
            Assert.Ignore(Missing);
            return "";
        }
    }

    [GeneratedRegex(@"includegraphics\{(.*?)\}")]
    private static partial Regex Included();

    [GeneratedRegex(@"Page size:\s+([0-9.]+)")]
    private static partial Regex PageSize();
}
