using NUnit.Framework;
using Testbed.Core;
using Testbed.Policies;
using Testbed.Replay;

namespace Replay.Tests;

/// <summary>What can be computed with a pencil. A page takes 32,768 ns on 1 Gbit/s.</summary>
[TestFixture]
public sealed class SimulationTests
{
    private const long PageTime = 32_768;
    private static readonly LinkParameters Link = new(ByteRate.FromBitsPerSecond(1e9), Duration.FromMilliseconds(1));

    private static readonly HostCosts Costs = new()
    {
        FaultDelivery = new Duration(3_000),
        ThreadWake = new Duration(5_000),
        RequestSend = new Duration(700),
        ServerPerRequest = new Duration(11_000),
        ServerPerPage = new Duration(300),
        InstallPerCall = new Duration(1_000),
        InstallPerPage = new Duration(400),
    };

    /// <summary>From the daemon's sight of a fault on an idle host and link to the wake-up, for one page.</summary>
    private static long OnePage => 700 + 11_000 + 300 + PageTime + 1_000_000 + 1_000 + 400;

    [Test]
    public void On_an_idle_link_a_page_costs_its_round_trip_its_size_and_the_hosts_work()
    {
        RunResult result = Run("demand", [Touches([0, 7, 3], think: 50_000)]);
        Assert.That(result.Latencies, Has.Count.EqualTo(3).And.All.EqualTo(new Duration(OnePage)));
        Assert.That(result.TotalStall, Is.EqualTo(new Duration(3 * OnePage)));
        // The recorded think time holds one delivery and one wake-up, which every waiting touch pays again.
        Assert.That(result.WorkloadTime, Is.EqualTo(new Duration(3 * (50_000 + OnePage))));
        Assert.That((result.DemandFaults, result.LateFaults, result.ZeroFaults, result.Bytes), Is.EqualTo((3, 0, 0, 3 * 4096)));
        Assert.That(result.TimeToResidency(0.99), Is.Null, "demand alone brings in no more than is touched");
    }

    [Test]
    public void A_page_that_is_in_costs_nothing_but_its_think_time()
    {
        RunResult result = Run("demand", [Touches([4, 4, 4, 4], think: 20_000)]);
        Assert.That(result.DemandFaults, Is.EqualTo(1));
        Assert.That(result.WorkloadTime, Is.EqualTo(new Duration(20_000 + OnePage + 3 * (20_000 - 8_000))));
    }

    [Test]
    public void A_hole_costs_an_install_and_no_link()
    {
        RunResult result = Run("demand", [Touches([90], think: 0)]);
        Assert.That((result.ZeroFaults, result.Bytes, result.TotalStall), Is.EqualTo((1, 0, new Duration(1_400))));
        Assert.That(result.Latencies, Is.Empty, "nothing had to come");
        Assert.That(result.WorkloadTime, Is.EqualTo(new Duration(3_000 + 1_400 + 5_000)));
    }

    [Test]
    public void Threads_that_fault_at_once_share_the_link()
    {
        var slow = new LinkParameters(ByteRate.FromBitsPerSecond(1e6), Duration.Zero);
        RunResult result = Run("demand", [Touches([0], 0), Touches([1], 0), Touches([2], 0)], link: slow, costs: new HostCosts());
        Assert.That(result.Latencies, Is.EqualTo(new[] { 32_768_000, 65_536_000, 98_304_000 }.Select(ns => new Duration(ns))));
    }

    [Test]
    public void Two_threads_that_wait_for_the_same_page_fetch_it_once()
    {
        RunResult result = Run("demand", [Touches([5], 0), Touches([5], 10_000)]);
        Assert.That((result.DemandFaults, result.LateFaults, result.Bytes), Is.EqualTo((2, 0, 4096)), "late is only what was asked for before anybody touched it");
        Assert.That(result.Latencies.Max(), Is.EqualTo(new Duration(OnePage)));
    }

    [Test]
    public void Criu_moves_everything_at_the_pace_of_one_request_after_the_other()
    {
        RunResult result = Run("criu", [], costs: new HostCosts(), pages: 64);
        // 16, 32, then the 16 that are left: each a round trip and its own bytes.
        long[] done = [1_000_000 + 16 * PageTime, 2_000_000 + 48 * PageTime, 3_000_000 + 64 * PageTime];
        Assert.That(result.TimeToResidency(1), Is.EqualTo(new Instant(done[2])));
        Assert.That(result.Installs.Select(i => i.Time.Nanoseconds), Is.SupersetOf(done));
        Assert.That(result.Installs, Is.All.Matches<InstallRecord>(i => i.Range.Count == 4), "a quantum of the link at a time");
    }

    [Test]
    public void A_prefetch_is_useful_late_or_unused()
    {
        // 0 is asked for, and 1 to 8 behind it. 1 is touched at once when 0 is in: later than its own arrival. 8, by the
        // other thread, while it is on its way. The others never.
        RunResult result = Run(
            "next-n:n=8,background=false", [Touches([0, 1], think: 900_000), Touches([8], think: 1_200_000)]);
        Assert.That(result.Prefetch, Is.EqualTo(new PrefetchCounts(Issued: 8 + 8, Useful: 1, Late: 1, Unused: 14)));
        Assert.That((result.DemandFaults, result.LateFaults), Is.EqualTo((1, 1)));
    }

    [Test]
    public void The_first_response_comes_when_the_last_thread_that_it_needs_is_there_and_its_tail_is_done()
    {
        TouchSequence a = Touches([0, 1, 2], think: 100_000) with { BeforeFirstResponse = 2 };
        TouchSequence b = Touches([10, 11, 12], think: 100_000) with { BeforeFirstResponse = 1 };
        RunResult result = Run("demand", [a, b], tail: new Duration(77));
        RunResult alone = Run("demand", [a], tail: new Duration(77));
        Assert.That(alone.TimeToFirstResponse, Is.EqualTo(new Duration(2 * (100_000 + OnePage) + 77)));
        Assert.That(result.TimeToFirstResponse, Is.GreaterThanOrEqualTo(alone.TimeToFirstResponse).And.LessThan(result.WorkloadTime));
        Assert.That(Run("demand", [a]).TimeToFirstResponse, Is.Null, "the workload defines none");
    }

    [TestCaseSource(typeof(PolicyCatalog), nameof(PolicyCatalog.Names))]
    public void The_same_again_is_the_same_to_the_last_bit(string policy)
    {
        ReplayWorkload workload = Workloads.Random(seed: 3, threads: 4, touches: 3000, pages: 5000);
        var options = new ReplayOptions(PolicyCatalog.Parse(policy), Link, "link") { Costs = Costs };
        RunResult first = Simulation.Run(workload, options), second = Simulation.Run(workload, options);
        Assert.That(Workloads.Digest(second), Is.EqualTo(Workloads.Digest(first)));
        Assert.That(second.CommandHash, Is.EqualTo(first.CommandHash));
    }

    [Test]
    public void Counts_add_up([Range(0, 9)] int seed, [Values(1, 4)] int threads)
    {
        foreach (string policy in PolicyCatalog.Names)
        {
            ReplayWorkload workload = Workloads.Random(seed, threads, touches: 600, pages: 900);
            RunResult r = Simulation.Run(workload, new ReplayOptions(PolicyCatalog.Parse(policy), Link, "link") { Costs = Costs });
            PrefetchCounts p = r.Prefetch;
            Assert.That(p.Useful + p.Late + p.Unused, Is.EqualTo(p.Issued), policy);
            Assert.That(new[] { p.Useful, p.Late, p.Unused }, Is.All.GreaterThanOrEqualTo(0), policy);
            Assert.That(r.Latencies, Has.Count.EqualTo(r.DemandFaults + r.LateFaults), policy);
            Assert.That(r.Bytes, Is.EqualTo(r.Residency[^1].Pages * 4096), "each page comes once");
            if (policy != "demand")
                Assert.That(r.Residency[^1].Pages, Is.EqualTo(workload.Image.PresentPages), policy);
            Assert.That(r.Residency.Select(s => s.Pages), Is.Ordered, policy);
        }
    }

    [Test]
    public void A_policy_that_knows_the_future_is_better_than_one_that_waits()
    {
        ReplayWorkload workload = Workloads.Random(seed: 5, threads: 1, touches: 2000, pages: 4000);
        TimeSpan Stall(string policy) => TimeSpan.FromSeconds(Simulation.Run(
            workload, new ReplayOptions(PolicyCatalog.Parse(policy), Link, "link") { Costs = Costs }).TotalStall.Seconds);
        Assert.That(Stall("working-set"), Is.LessThan(Stall("demand") / 5));
    }

    private static TouchSequence Touches(uint[] pages, long think) => new(
        pages, [.. pages.Select(_ => think)], new bool[pages.Length]);

    /// <summary>One area, of which the last pages were not dumped.</summary>
    private static RunResult Run(
        string policy, TouchSequence[] threads, LinkParameters? link = null, HostCosts? costs = null, long pages = 80, Duration? tail = null)
    {
        var image = new MemoryImage(
            [new MemoryArea(new PageRange(new PageNumber(16), pages + 20), "", 3)], [new PageRange(new PageNumber(16), pages)]);
        var workload = new ReplayWorkload("pencil", image, threads) { FirstResponseTail = tail };
        return Simulation.Run(workload, new ReplayOptions(PolicyCatalog.Parse(policy), link ?? Link, "link") { Costs = costs ?? Costs });
    }
}
