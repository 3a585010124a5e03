using System.Xml.Linq;
using MathNet.Numerics.Distributions;
using MathNet.Numerics.Random;
using NUnit.Framework;
using Testbed.Core;
using Testbed.Reports.Regression;

namespace Testbed.Reports.Tests;

/// <summary>The gate fails when it should, and never when it should not.</summary>
[TestFixture]
public sealed class GateTests
{
    private static readonly IReadOnlyList<GateMetric> s_guarded = GateMetric.Parse(GateMetric.Guarded);

    private static Baseline Of(IReadOnlyList<RunResult> results) => Baseline.Of("redis", "0123", "local page 9 us", 1, results);

    [Test]
    public void ASlowerPolicyIsCaughtExactly()
    {
        List<RunResult> runs = SyntheticRuns.All(RunMode.Replay, 2000);
        RunResult slow = SyntheticRuns.Slower(runs[3], 1.05);
        GateResult result = ReplayGate.Compare(Of(runs), Of([.. runs.Take(3), slow, .. runs.Skip(4)]), s_guarded, 0);
        Assert.That(result.ExitCode, Is.EqualTo(1));
        GateLine[] worse = [.. result.Lines.Where(l => l.Verdict == Verdict.Worse)];
        Assert.That(worse.Select(l => (l.Policy, l.Link)).Distinct(), Is.EqualTo(((string, string)[])[(slow.Policy, slow.Link)]), "that one and no other");
        Assert.That(worse.Select(l => l.Metric.Name), Is.EquivalentTo((string[])["p99", "total-stall", "first-response", "workload"]));
        Assert.That(worse.Single(l => l.Metric.Name == "p99").Change, Is.EqualTo(0.05).Within(0.001));
        Assert.That(ReplayGate.Compare(Of(runs), Of([.. runs.Take(3), slow, .. runs.Skip(4)]), s_guarded, 0.06).ExitCode, Is.Zero, "within the tolerance");
        Assert.That(ReplayGate.Compare(Of([.. runs.Take(3), slow, .. runs.Skip(4)]), Of(runs), s_guarded, 0).ExitCode, Is.Zero, "better is no regression");
    }

    [Test]
    public void ANanosecondIsSeen()
    {
        RunResult run = SyntheticRuns.One(1, 0, RunMode.Replay, 1000, 1);
        Baseline before = Of([run]);
        Dictionary<string, long> numbers = new(before.Runs[0].Numbers);
        numbers["p99"]--;
        GateResult result = ReplayGate.Compare(before with { Runs = [before.Runs[0] with { Numbers = numbers }] }, before, s_guarded, 0);
        Assert.That(result.ExitCode, Is.EqualTo(1));
        Assert.That(GateReport.Table(result), Does.Contain("+<0.01 %"));
    }

    [Test]
    public void WhatIsNotGuardedIsToldAndDoesNotFail()
    {
        RunResult run = SyntheticRuns.One(1, 0, RunMode.Replay, 1000, 1);
        GateResult result = ReplayGate.Compare(Of([run]), Of([SyntheticRuns.Slower(run, 1.05)]), GateMetric.Parse("bytes"), 0);
        Assert.That(result.ExitCode, Is.Zero);
        Assert.That(GateReport.Table(result), Does.Contain("higher, not guarded"));
    }

    [TestCase("trace")]
    [TestCase("costs")]
    [TestCase("seed")]
    [TestCase("scenario")]
    [TestCase("missing")]
    [TestCase("gone")]
    public void OtherInputsCannotBeCompared(string what)
    {
        List<RunResult> runs = SyntheticRuns.All(RunMode.Replay, 100);
        Baseline now = Of(runs);
        Baseline then = what switch
        {
            "trace" => now with { Trace = "4567" },
            "costs" => now with { Costs = "local page 10 us" },
            "seed" => now with { Seed = 2 },
            "scenario" => now with { Scenario = "python" },
            "missing" => now with { Runs = [.. now.Runs.Skip(1)] },
            _ => now with { Runs = [.. now.Runs, now.Runs[0] with { Policy = "retired" }] },
        };
        GateResult result = ReplayGate.Compare(then, now, s_guarded, 0);
        Assert.That(result.ExitCode, Is.EqualTo(2));
        Assert.That(result.Problems, Has.Count.EqualTo(1));
    }

    [Test]
    public void BaselineSurvivesItsFile()
    {
        string file = Path.Combine(Path.GetTempPath(), $"testbed-baseline-{Guid.NewGuid()}.json");
        try
        {
            Baseline before = Of(SyntheticRuns.All(RunMode.Replay, 500));
            before.Save(file);
            GateResult result = ReplayGate.Compare(Baseline.Load(file), before, s_guarded, 0);
            Assert.That((result.ExitCode, result.Problems.Count, result.Lines.All(l => l.Verdict == Verdict.Same)), Is.EqualTo((0, 0, true)));
            Assert.That(File.ReadAllLines(file).Count(l => l.Contains("\"policy\"", StringComparison.Ordinal)), Is.EqualTo(15), "one run a line");
            File.WriteAllText(file, File.ReadAllText(file)[..300]);
            Assert.That(() => Baseline.Load(file), Throws.TypeOf<BadInputException>().With.Message.Contains("not a baseline"));
        }
        finally
        {
            File.Delete(file);
        }
    }

    [Test]
    public void ReportsSayTheSame()
    {
        RunResult run = SyntheticRuns.One(1, 0, RunMode.Replay, 1000, 1);
        GateResult result = ReplayGate.Compare(Of([run]), Of([SyntheticRuns.Slower(run, 1.05)]), s_guarded, 0);
        XElement suite = XDocument.Parse(GateReport.JUnit(result)).Root!.Element("testsuite")!;
        Assert.That((suite.Attribute("tests")!.Value, suite.Attribute("failures")!.Value, suite.Attribute("errors")!.Value), Is.EqualTo(("1", "1", "0")));
        Assert.That(suite.Descendants("failure").Single().Attribute("message")!.Value, Does.Contain("p99").And.Contain("(+5.00 %)"));
        Assert.That(GateReport.Markdown(result), Does.Contain("| criu | 10Gbit/s,50us | p99 |").And.Contain("+5.00 %").And.Contain("❌"));
        Assert.That(GateReport.Annotations(result, "scenarios/redis.json"), Does.StartWith("::error file=scenarios/redis.json,title=redis%3A criu over 10Gbit/s%2C50us regressed::p99").And.Contain("+5.00 %25"));
    }

    // Live: numbers with noise. Spread 4 % is what interleaved p99s of one quiet machine show.
    private static Func<bool, IReadOnlyList<LiveNumber>> Noisy(int seed, double rise, double spread, Func<int, double>? drift = null)
    {
        var random = new Xoshiro256StarStar(seed, false);
        int call = 0;
        return after =>
        {
            double factor = (after ? 1 + rise : 1) * (drift?.Invoke(call++) ?? 1);
            return
            [
                .. from policy in (string[])["criu", "next-n:n=16"]
                   from metric in s_guarded.Take(2)
                   select new LiveNumber(policy, "1g", metric, 1e6 * factor * Math.Exp(Normal.Sample(random, 0, spread))),
            ];
        };
    }

    [Test]
    public void LiveUnchangedPassesAHundredTimesOfAHundred()
    {
        int[] codes = [.. Enumerable.Range(0, 100).AsParallel().AsOrdered().Select(i => new LiveGate().Run("redis", Noisy(i, 0, 0.04)).ExitCode)];
        Assert.That(codes, Is.All.Zero);
    }

    [Test]
    public void LiveADriftOfTheMachineIsNoRegression()
    {
        // 30 % slower from the first round to the sixteenth, for both: one after the other, B would have looked worse.
        int[] codes = [.. Enumerable.Range(0, 8).AsParallel().AsOrdered().Select(i => new LiveGate().Run("redis", Noisy(i, 0, 0.02, call => 1 + (0.3 * call / 32))).ExitCode)];
        Assert.That(codes, Has.None.EqualTo(1));
    }

    [Test]
    public void LiveARiseIsCaught()
    {
        int[] codes = [.. Enumerable.Range(0, 40).AsParallel().AsOrdered().Select(i => new LiveGate().Run("redis", Noisy(i, 0.1, 0.04)).ExitCode)];
        Assert.That(codes, Is.All.EqualTo(1), "10 % slower");
        GateResult small = new LiveGate().Run("redis", Noisy(1, 0.02, 0.005));
        Assert.That(small.ExitCode, Is.Zero, "sure, but below the threshold");
    }

    [Test]
    public void LiveTooMuchNoiseCannotBeTold()
    {
        var gate = new LiveGate();
        GateResult result = gate.Run("redis", Noisy(1, 0.03, 0.6));
        Assert.That(result.ExitCode, Is.EqualTo(2));
        Assert.That(gate.Rounds, Is.EqualTo(64), "it tried as long as it may");
        Assert.That(GateReport.Headline(result), Does.Contain("could not tell"));
    }
}
