using System.Text.Json.Nodes;
using NUnit.Framework;
using Testbed.Core;
using Testbed.Policies;
using Testbed.Replay;

namespace Replay.Tests;

[TestFixture]
public sealed class CalibrationTests
{
    private static readonly HostCosts Costs = new()
    {
        HostDelay = Duration.FromMicroseconds(20),
        InstallPerPage = Duration.FromMicroseconds(1),
        ShaperDelay = Duration.FromMicroseconds(10),
    };

    private static readonly LinkParameters Link = new(ByteRate.FromBitsPerSecond(1e9), Duration.FromMilliseconds(1));

    private string _file = "";

    [SetUp]
    public void NameFile() => _file = Path.Combine(Path.GetTempPath(), $"calibration-{Guid.NewGuid():N}.json");

    [TearDown]
    public void RemoveFile() => File.Delete(_file);

    [Test]
    public void The_reference_says_which_host_it_is_of_and_is_written_and_read_the_same()
    {
        Calibration reference = Calibration.Reference;
        Assert.That(reference.Host, Is.Not.Empty);
        Assert.That(reference.Costs.Keys, Is.EquivalentTo(Calibration.CostNames.Except(["bulkThink"])), "made before that was measured: none is charged");
        Assert.That(reference.ToCosts().BulkThink, Is.EqualTo(Duration.Zero));
        reference.Save(_file);
        Calibration again = Calibration.FromFile(_file);
        Assert.That(again.ToCosts().ToString(), Is.EqualTo(reference.ToCosts().ToString()));
        Assert.That(again.ShapedDelays, Is.EqualTo(reference.ShapedDelays));
        Assert.That(File.ReadAllLines(_file), Has.Length.LessThan(150), "numbers in rows, for people");
    }

    [Test]
    public void Every_measured_cost_reaches_the_replay()
    {
        var costs = Calibration.CostNames.Select((name, i) => (name, i)).ToDictionary(c => c.name, c => new MeasuredCost(100 + c.i, 0, 1000));
        HostCosts made = (Calibration.Reference with { Costs = costs }).ToCosts();
        Duration[] values = [.. typeof(HostCosts).GetProperties().Where(p => p.PropertyType == typeof(Duration)).Select(p => (Duration)p.GetValue(made)!)];
        Assert.That(values.Select(v => v.Nanoseconds), Is.EqualTo(Enumerable.Range(100, costs.Count)));
    }

    [TestCase("$.costs.hostDelay", null, "costs.hostDelay: missing")]
    [TestCase("$.costs.hostDelay.median", "-5", "costs.hostDelay: median -5")]
    [TestCase("$.shapedDelays", "[3, 1]", "shapedDelays: not in ascending order")]
    [TestCase("$.unheard", "1", "unheard")]
    [TestCase("$.host", null, "host")]
    public void What_is_wrong_with_a_file_is_one_line(string path, string? value, string said)
    {
        Calibration.Reference.Save(_file);
        JsonNode root = JsonNode.Parse(File.ReadAllText(_file))!;
        string[] steps = path.Split('.')[1..];
        JsonNode at = root;
        foreach (string step in steps[..^1])
            at = at[step]!;
        if (value is null)
            at.AsObject().Remove(steps[^1]);
        else
            at[steps[^1]] = JsonNode.Parse(value);
        File.WriteAllText(_file, root.ToJsonString());
        var error = Assert.Throws<BadInputException>(() => Calibration.FromFile(_file))!;
        Assert.That(error.Message, Does.StartWith(_file).And.Contain(said).And.Not.Contain("\n"));
    }

    [Test]
    public void Delays_are_drawn_as_they_were_measured()
    {
        var sample = DelaySample.Of(Enumerable.Range(0, 10_000).Select(i => i < 9_900 ? i / 100.0 : 1e6), 1000);
        ulong state = 5;
        long[] drawn = [.. Enumerable.Range(0, 100_000).Select(_ => sample.Draw(ref state, 1_000_000, 1_000_000)).Order()];
        Assert.That(drawn[50_000], Is.EqualTo(0).Within(2), "the median is no deviation");
        Assert.That(drawn[^700], Is.GreaterThan(900_000), "one in a hundred is a hitch");
        Assert.That(drawn[^1300], Is.LessThan(100));
    }

    [Test]
    public void Hitches_come_by_the_clock()
    {
        var sample = DelaySample.Of(Enumerable.Range(0, 1000).Select(i => i < 950 ? 0 : 1e6), 1000);
        ulong state = 5;
        int apart = Enumerable.Range(0, 100_000).Count(_ => sample.Draw(ref state, 1_000_000, 1_000_000) > 0);
        int close = Enumerable.Range(0, 100_000).Count(_ => sample.Draw(ref state, 100_000, 1_000_000) > 0);
        int far = Enumerable.Range(0, 100_000).Count(_ => sample.Draw(ref state, 2_000_000, 1_000_000) > 0);
        Assert.That(apart, Is.EqualTo(5_000).Within(400));
        Assert.That(far, Is.EqualTo(10_000).Within(600), "half as many arrivals");
        Assert.That(close, Is.EqualTo(500).Within(120), "ten times as many arrivals in the same time");
    }

    [Test]
    public void A_late_arrival_delays_what_is_behind_it_and_none_comes_before_the_link_allows()
    {
        ReplayWorkload workload = Workloads.Random(seed: 4, threads: 3, touches: 500, pages: 3000);
        var late = Costs with { ShapedDelays = DelaySample.Of([-90_000, -5000, 0, 0, 0, 0, 0, 20_000, 2_000_000], 9) };
        RunResult plain = Run(workload, Costs, 1), noisy = Run(workload, late, 1), again = Run(workload, late, 1), other = Run(workload, late, 2);
        Assert.That(Workloads.Digest(noisy), Is.EqualTo(Workloads.Digest(again)), "same seed, same result");
        Assert.That(Workloads.Digest(noisy), Is.Not.EqualTo(Workloads.Digest(other)));
        Assert.That(noisy.LatencyQuantile(1), Is.GreaterThan(plain.LatencyQuantile(1) + Duration.FromMilliseconds(1)));
        Assert.That(noisy.Latencies.Min(), Is.GreaterThan(Duration.FromMilliseconds(1)), "a round trip at least");
    }

    private static RunResult Run(ReplayWorkload workload, HostCosts costs, ulong seed) => Simulation.Run(
        workload, new ReplayOptions(PolicyCatalog.Parse("next-n:background=false,n=2"), Link, "link") { Costs = costs, Seed = seed });
}
