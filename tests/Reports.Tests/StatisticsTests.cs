using NUnit.Framework;
using Testbed.Core;
using Testbed.Reports.Statistics;

namespace Testbed.Reports.Tests;

/// <summary>Numbers checked against definitions, by hand.</summary>
[TestFixture]
public sealed class StatisticsTests
{
    [Test]
    public void QuantilesAreByNearestRankAsInTheResults()
    {
        RunResult run = SyntheticRuns.One(2, 1, RunMode.Replay, 5000, 3);
        var sample = Sample.Of(run.Latencies);
        foreach (double q in (double[])[0.001, 0.5, 0.9, 0.99, 0.999, 1])
            Assert.That(sample.Quantile(q), Is.EqualTo(run.LatencyQuantile(q).Nanoseconds), $"{q}");
        Assert.That(new Sample([15, 20, 35, 40, 50]).Quantile(0.4), Is.EqualTo(20));
    }

    [Test]
    public void EcdfCountsWhatIsNotGreater()
    {
        var sample = new Sample([3, 1, 2, 2]);
        Assert.That(sample.Ecdf(0.5), Is.Zero);
        Assert.That(sample.Ecdf(2), Is.EqualTo(0.75));
        Assert.That(sample.Ecdf(3), Is.EqualTo(1));
    }

    [Test]
    public void ThinnedStepsStayWithinTheThinningOfTheEcdf()
    {
        var sample = Sample.Of(SyntheticRuns.One(0, 0, RunMode.Replay, 100_000, 1).Latencies);
        const double MinX = 0.005, MinY = 0.005;
        var steps = sample.Steps(Math.Log10, y => y, MinX, MinY);
        Assert.That(steps, Has.Count.LessThan(500));
        Assert.That(steps[^1].Y, Is.EqualTo(1));
        foreach ((double x, double y) in steps)
            Assert.That(sample.Ecdf(Math.Pow(10, x) * (1 + 1e-12)), Is.EqualTo(y).Within(1e-9));
        for (int i = 1; i < steps.Count; i++)
            Assert.That(steps[i].Y - steps[i - 1].Y < MinY * 1.2 || steps[i].X - steps[i - 1].X < MinX * 1.2, Is.True, "a visible step is missing");
    }

    [Test]
    public void BootstrapInClosedFormIsTheLimitOfResampling()
    {
        double[] values = [10, 12, 11, 13, 9, 10.5, 11.5, 12.5];
        var random = new MathNet.Numerics.Random.Xoshiro256StarStar(1, false);
        var medians = new Sample(Enumerable.Range(0, 20_000).Select(_ =>
            new Sample(Enumerable.Range(0, values.Length).Select(_ => values[random.Next(values.Length)])).Quantile(0.5)));
        Interval interval = Bootstrap.OfQuantile(new Sample(values), 0.5)!.Value;
        Assert.That(interval, Is.EqualTo(new Interval(medians.Quantile(0.025), medians.Quantile(0.975))));
        Assert.That(Bootstrap.OfQuantile(new Sample([1, 2]), 0.5), Is.Null, "two runs carry no interval");
        Interval wide = Bootstrap.OfQuantile(new Sample(values), 0.5, 0.99)!.Value;
        Assert.That(wide.Low <= interval.Low && wide.High >= interval.High, Is.True);
    }

    [TestCase(0.5, 25)]
    [TestCase(0.5, 1000)]
    [TestCase(0.99, 2000)]
    public void BootstrapCoversTheTrueQuantileAboutAsOftenAsItSays(double q, int count)
    {
        double truth = MathNet.Numerics.Distributions.Normal.InvCDF(0, 1, q);
        int covered = 0;
        for (int i = 0; i < 400; i++)
        {
            var random = new MathNet.Numerics.Random.Xoshiro256StarStar(i, false);
            Interval interval = Bootstrap.OfQuantile(new Sample(Enumerable.Range(0, count).Select(_ => MathNet.Numerics.Distributions.Normal.Sample(random, 0, 1))), q)!.Value;
            covered += interval.Low <= truth && truth <= interval.High ? 1 : 0;
        }
        Assert.That(covered / 400.0, Is.InRange(0.91, 0.985));
    }

    [Test]
    public void IntervalOfARatioHoldsIt()
    {
        var random = new MathNet.Numerics.Random.Xoshiro256StarStar(3, false);
        double[] Draw(double mean) => [.. Enumerable.Range(0, 40).Select(_ => MathNet.Numerics.Distributions.Normal.Sample(random, mean, 2))];
        Interval interval = Bootstrap.OfMedianRatio(Draw(100), Draw(110), 1)!.Value;
        Assert.That(interval.Low, Is.InRange(1.07, 1.1));
        Assert.That(interval.High, Is.InRange(1.1, 1.13));
    }

    [Test]
    public void RunsOfTheSamePairBecomeOneLineWithTheMedianRun()
    {
        List<RunResult> runs = [.. Enumerable.Range(1, 5).Select(seed => SyntheticRuns.One(1, 0, RunMode.Live, 1000, seed))];
        Summary summary = Summary.Of(runs).Single();
        Assert.That(summary.Runs, Is.EqualTo(5));
        Assert.That(summary.Run.TotalStall, Is.EqualTo(runs.Select(r => r.TotalStall).Order().ElementAt(2)));
        Assert.That(summary.StallInterval!.Value.Low, Is.LessThanOrEqualTo(summary.Run.TotalStall.Nanoseconds));
        Assert.That(summary.StallInterval!.Value.High, Is.GreaterThanOrEqualTo(summary.Run.TotalStall.Nanoseconds));
    }
}

/// <summary>The table in the terminal.</summary>
[TestFixture]
public sealed class ResultTableTests
{
    private static readonly List<RunResult> s_runs = SyntheticRuns.All(RunMode.Replay, 2000);
    private static readonly string[] s_lines = ResultTable.Format(s_runs).Split('\n');

    [Test]
    public void SortsByLinkThenStallAndMarksTheBest()
    {
        int first = Array.IndexOf(s_lines, "redis, replay, 10Gbit/s,50us");
        string[] policies = [.. s_lines.Skip(first + 1).Take(5).Select(l => l.Trim().Split(' ')[0])];
        Assert.That(policies, Is.EqualTo(s_runs.Take(5).OrderBy(r => r.TotalStall).Select(r => r.Policy)));
        RunResult best = s_runs.Take(5).MinBy(r => r.TotalStall)!;
        Assert.That(s_lines[first + 1], Does.Contain(best.TotalStall + "*"));
        Assert.That(s_lines[first + 2], Does.Not.Contain(s_runs.Take(5).OrderBy(r => r.TotalStall).ElementAt(1).TotalStall + "*"));
    }

    [Test]
    public void ColumnsAreAligned()
    {
        int end = s_lines[0].IndexOf("Demand faults", StringComparison.Ordinal) + "Demand faults".Length;
        foreach (string line in s_lines.Where(l => l.StartsWith("  ", StringComparison.Ordinal)).Skip(1))
            Assert.That(char.IsAsciiDigit(line[end - 1]) && line[end] is '*' or ' ', Is.True, line);
    }

    [Test]
    public void LeavesOutColumnsThatNobodyHas() =>
        Assert.That(ResultTable.Format([.. SyntheticRuns.All(RunMode.Live, 100)]), Does.Not.Contain("Useful").And.Contain("Prefetched"));
}
