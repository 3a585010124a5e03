using NUnit.Framework;
using Testbed.Core;
using Testbed.Policies;
using Testbed.Replay;

namespace Replay.Tests;

/// <summary>
/// The transfer of a daemon over links of all kinds: all memory comes in the background, while a thread touches a random page every 2 ms.
/// </summary>
[TestFixture]
public sealed class AdaptiveTransferTests
{
    private const int Pages = 262_144;

    /// <summary>A lane of its own lets demand pass bulk by; in one queue it waits behind what the adapted flight lets queue up. What the
    /// reference host can take in is 8 Gbit/s.</summary>
    [TestCase(1e9, 1, 2, 0.95, 2)]
    [TestCase(1e9, 5, 2, 0.95, 2)]
    [TestCase(1e9, 20, 2, 0.95, 2)]
    [TestCase(2e8, 1, 2, 0.95, 2)]
    [TestCase(1e10, 1, 2, 0.75, 3)]
    [TestCase(1e9, 1, 1, 0.95, 3)]
    [TestCase(1e9, 20, 1, 0.95, 5)]
    public void Bulk_fills_the_link_and_hardly_delays_demand(double bits, double roundTrip, int lanes, double share, double delay)
    {
        var link = new LinkParameters(ByteRate.FromBitsPerSecond(bits), Duration.FromMilliseconds(roundTrip));
        RunResult run = Simulation.Run(Touches(), new ReplayOptions(PolicyCatalog.Parse("demand + criu"), link, "link")
        {
            Costs = HostCosts.Reference,
            Transfer = TransferOptions.Adaptive with { Lanes = lanes },
        });
        // The second half: the first moments belong to the program, and then it has to learn what the link is.
        double rate = link.Rate.TimeFor((long)Pages * PageNumber.Size / 2).Seconds / (run.TimeToResidency(1)!.Value - run.TimeToResidency(0.5)!.Value).Seconds;
        Duration p99 = run.LatencyQuantile(0.99);
        TestContext.Out.WriteLine($"{bits / 1e9} Gbit/s, {roundTrip} ms, {lanes} lanes: {rate:P1} of the link, demand p50 {run.LatencyQuantile(0.5)}, p99 {p99}, {run.Latencies.Count} waits, all in {run.TimeToResidency(1)!.Value - Instant.Zero}");
        using (Assert.EnterMultipleScope())
        {
            Assert.That(rate, Is.GreaterThan(share));
            Assert.That(p99, Is.LessThan(link.RoundTrip + Duration.FromMilliseconds(delay)));
        }
    }

    /// <summary>One queue for all, a short way, and a thread that hardly thinks, and needs four pages here and then four there: where bulk goes along
    /// with what is waited for, it waits less than without bulk, and than behind bulk that asks as it likes; and all is in nearly as soon.</summary>
    [Test]
    public void Bulk_that_goes_along_on_a_shared_lane_spares_a_busy_thread_its_waits()
    {
        TransferOptions shared = TransferOptions.Adaptive with { Lanes = 1 };
        (Duration alone, _) = Busy(shared, "demand");
        (Duration mixed, Instant together) = Busy(shared with { HeadStart = Duration.FromSeconds(100) }, "demand + criu");
        (Duration along, Instant end) = Busy(shared, "demand + criu");
        TestContext.Out.WriteLine($"waits without bulk {alone}, mixed {mixed}, along {along}; all in {together - Instant.Zero}, {end - Instant.Zero}");
        using (Assert.EnterMultipleScope())
        {
            Assert.That(along.Nanoseconds, Is.LessThan(alone.Nanoseconds / 2));
            Assert.That(along.Nanoseconds, Is.LessThan(mixed.Nanoseconds * 3 / 4));
            Assert.That(end.Nanoseconds, Is.LessThan(together.Nanoseconds * 3 / 2));
        }
    }

    private static (Duration Stall, Instant AllIn) Busy(TransferOptions transfer, string policy)
    {
        var link = new LinkParameters(ByteRate.FromBitsPerSecond(1e10), Duration.FromMicroseconds(100));
        RunResult run = Simulation.Run(Clusters(), new ReplayOptions(PolicyCatalog.Parse(policy), link, "link") { Costs = HostCosts.Reference, Transfer = transfer });
        return (run.TotalStall, run.TimeToResidency(1) ?? Instant.Never);
    }

    /// <summary>In each block of 16 pages, taken in random order, four that are touched.</summary>
    private static ReplayWorkload Clusters()
    {
        const int Block = 16;
        var random = new Random(1);
        int[] blocks = [.. Enumerable.Range(0, Pages / Block)];
        random.Shuffle(blocks);
        uint[] order = [.. blocks.Take(2000).SelectMany(block => Enumerable.Range(0, 4).Select(i => (uint)(block * Block + (i * 5 + 3) % Block)))];
        return Workload(order, thinkNanoseconds: 10_000);
    }

    private static ReplayWorkload Touches()
    {
        uint[] order = [.. Enumerable.Range(0, Pages).Select(i => (uint)i)];
        new Random(1).Shuffle(order);
        return Workload(order, thinkNanoseconds: 2_000_000);
    }

    private static ReplayWorkload Workload(uint[] order, long thinkNanoseconds)
    {
        var range = new PageRange(new PageNumber(16), Pages);
        var image = new MemoryImage([new MemoryArea(range, "", 3)], [range]);
        return new ReplayWorkload("touches", image, [new TouchSequence(order, [.. order.Select(_ => thinkNanoseconds)], [.. order.Select(_ => false)])]);
    }
}
