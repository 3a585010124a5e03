using NUnit.Framework;
using SkiaSharp;
using Testbed.Core;
using Testbed.Reports.Figures;
using Testbed.Reports.Statistics;

namespace Testbed.Reports.Tests;

/// <summary>What is on the picture, pixel by pixel.</summary>
[TestFixture]
public sealed class FigureTests
{
    private static readonly FigureData s_data = new("redis", Summary.Of(SyntheticRuns.All(RunMode.Replay, 3000)), SyntheticRuns.Image);

    private static readonly IFigure[] s_figures =
        [new StallByPolicy(), new LatencyEcdf(), new LatencyCcdf(), new LatencyOverTime(), new ResidencyOverTime(), new PrefetchQuality(), new AddressOverTime()];

    [TestCaseSource(nameof(s_figures))]
    public void LabelsAreReallyDrawn(IFigure figure)
    {
        FigureSheet sheet = figure.Draw(s_data);
        using SKBitmap picture = SKBitmap.Decode(FigureWriter.Png(sheet));
        // The x label stands alone in the last 10 points; a missing font leaves them blank.
        int from = (int)((sheet.PrintHeight - 11) * FigureWriter.PngScale);
        int dark = Enumerable.Range(from, picture.Height - from).Sum(y => Enumerable.Range(0, picture.Width).Count(x => picture.GetPixel(x, y).Red < 100));
        Assert.That(dark, Is.GreaterThan(100));
        Assert.That(Edge(picture), Is.Zero, "something is drawn over the edge of the picture");
    }

    private static int Edge(SKBitmap p) =>
        Enumerable.Range(0, p.Width).Count(x => p.GetPixel(x, 0).Red < 200 || p.GetPixel(x, p.Height - 1).Red < 200)
        + Enumerable.Range(0, p.Height).Count(y => p.GetPixel(0, y).Red < 200 || p.GetPixel(p.Width - 1, y).Red < 200);

    [TestCaseSource(nameof(s_figures))]
    public void FitsThePaper(IFigure figure)
    {
        FigureSheet sheet = figure.Draw(s_data);
        Assert.That(sheet.PrintWidth, Is.EqualTo(FigureStyle.Report.PageWidth));
        Assert.That(sheet.PrintHeight, Is.LessThan(9 * 72), "taller than a page");
        FigureSheet single = figure.Draw(new FigureData("redis", [.. s_data.Summaries.Take(5)], null));
        Assert.That(single.PrintWidth, Is.EqualTo(FigureStyle.Report.ColumnWidth));
    }

    [Test]
    public void AddressFigureWorksWithoutAnImage()
    {
        var data = new FigureData("redis", s_data.Summaries, null);
        Assert.That(FigureWriter.Svg(new AddressOverTime().Draw(data), "t"), Does.Contain("0x7f1000000000"));
    }

    [Test]
    public void AddressAxisLeavesTheGapsOut()
    {
        var axis = AddressAxis.Of(SyntheticRuns.Image, []);
        Assert.That(axis.Length, Is.EqualTo(SyntheticRuns.Pages));
        Assert.That(axis.Place(PageNumber.Of(0x5581_0000_0000)), Is.Zero);
        Assert.That(axis.Place(PageNumber.Of(0x7f10_0000_0000) + 5), Is.EqualTo(60 + 40_000 + 5));
        Assert.That(axis.Place(PageNumber.Of(0x7f11_0000_0000 + 0x2000_0000)), Is.EqualTo(-1), "a gap has no place");
        Assert.That(axis.Labels(0.05).Select(l => l.Name), Is.EqualTo((string[])["[heap] 156 MiB", "anon 383 MiB", "anon 46.5 MiB"]));
    }

    [Test]
    public void ComparisonNeedsBothModes()
    {
        Assert.That(new LiveBesideReplay().Applies(s_data), Is.False);
        List<RunResult> both = [SyntheticRuns.One(1, 0, RunMode.Live, 100, 1), SyntheticRuns.One(1, 0, RunMode.Replay, 100, 1)];
        Assert.That(new LiveBesideReplay().Applies(new FigureData("redis", Summary.Of(both), null)), Is.True);
    }

    [Test]
    public void APolicyWithoutAnyWaitingIsDrawnWithTheOthers()
    {
        RunResult none = Quiet(SyntheticRuns.One(0, 0, RunMode.Replay, 100, 1));
        var data = new FigureData("redis", Summary.Of([none, SyntheticRuns.One(1, 0, RunMode.Replay, 100, 1)]), null);
        foreach (IFigure figure in s_figures.Where(f => f.Applies(data)))
            Assert.That(FigureWriter.Png(figure.Draw(data)), Is.Not.Empty, figure.Name);
        var alone = new FigureData("redis", Summary.Of([none]), null);
        Assert.That(s_figures.Where(f => f.Applies(alone)).Select(f => f.Name), Does.Not.Contain("stall").And.Not.Contain("latency-ecdf"));
    }

    [TestCase(-7.0, 2.0)]
    [TestCase(4.4, 4.7)]
    [TestCase(5.9, 6.05)]
    [TestCase(3.0, 9.0)]
    public void LogAxesHaveALabelAndNoMoreThanFit(double low, double high)
    {
        foreach (int most in (int[])[2, 3, 5, 8])
            Assert.That(Scale.LogLabels(low, high, most), Has.Count.InRange(1, most), $"{most}");
    }

    private static RunResult Quiet(RunResult r) => new()
    {
        Workload = r.Workload,
        Policy = "oracle",
        Link = r.Link,
        Mode = r.Mode,
        Latencies = [],
        DemandFaults = 0,
        LateFaults = 0,
        ZeroFaults = 0,
        TotalStall = Duration.Zero,
        WorkloadTime = r.WorkloadTime,
        TotalPages = r.TotalPages,
        Residency = r.Residency,
        Installs = [],
        Bytes = 0,
        Prefetch = default,
        CommandHash = 0,
    };
}
