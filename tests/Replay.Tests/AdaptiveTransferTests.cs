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

    /// <summary>One queue for all, a short way, and a thread that hardly thinks: where bulk and demand take turns, half of the waits or more are as
    /// short as if there were no bulk, and until all is in it takes less than twice as long.</summary>
    [Test]
    public void Turns_on_a_shared_lane_keep_a_busy_thread_going()
    {
        (Duration alone, _, _) = Busy(TransferOptions.Adaptive with { Lanes = 1 }, "demand");
        (Duration mixed, long sooner, Instant together) = Busy(TransferOptions.Adaptive with { Lanes = 1, BulkTurn = Duration.Zero }, "demand + criu");
        (Duration turns, long served, Instant end) = Busy(TransferOptions.Adaptive with { Lanes = 1 }, "demand + criu");
        TestContext.Out.WriteLine($"p50 without bulk {alone}, mixed {mixed}, turns {turns}; waits in 500 ms {sooner}, {served}; all in {together - Instant.Zero}, {end - Instant.Zero}");
        using (Assert.EnterMultipleScope())
        {
            Assert.That(turns.Nanoseconds, Is.LessThan(alone.Nanoseconds * 1.1));
            Assert.That(served, Is.GreaterThan(sooner * 3 / 2));
            Assert.That(end.Nanoseconds, Is.LessThan(together.Nanoseconds * 2));
        }
    }

    private static (Duration P50, long Served, Instant AllIn) Busy(TransferOptions transfer, string policy)
    {
        var link = new LinkParameters(ByteRate.FromBitsPerSecond(1e10), Duration.FromMicroseconds(100));
        RunResult run = Simulation.Run(Touches(thinkNanoseconds: 10_000), new ReplayOptions(PolicyCatalog.Parse(policy), link, "link") { Costs = HostCosts.Reference, Transfer = transfer });
        return (run.LatencyQuantile(0.5), run.ResolvedAt.Count(t => t < Instant.Zero + Duration.FromMilliseconds(500)), run.TimeToResidency(1)!.Value);
    }

    private static ReplayWorkload Touches(long thinkNanoseconds = 2_000_000)
    {
        var random = new Random(1);
        var range = new PageRange(new PageNumber(16), Pages);
        var image = new MemoryImage([new MemoryArea(range, "", 3)], [range]);
        uint[] order = [.. Enumerable.Range(0, Pages).Select(i => (uint)i)];
        random.Shuffle(order);
        return new ReplayWorkload("touches", image, [new TouchSequence(order, [.. order.Select(_ => thinkNanoseconds)], [.. order.Select(_ => false)])]);
    }
}
