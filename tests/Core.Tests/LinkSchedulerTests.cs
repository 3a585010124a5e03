using NUnit.Framework;
using Testbed.Core;

namespace Core.Tests;

/// <summary>1 Gbit/s carries a page in 32,768 ns and a quantum of 16 KiB in 131,072 ns.</summary>
[TestFixture]
public sealed class LinkSchedulerTests
{
    private const long Page = 4096, Quantum = 16384, PageTime = 32_768, QuantumTime = 131_072, RoundTrip = 1_000_000;
    private static readonly LinkParameters Gigabit = new(ByteRate.FromBitsPerSecond(1e9), new Duration(RoundTrip));

    [Test]
    public void One_reply_takes_its_size_over_the_rate_and_one_round_trip()
    {
        var link = new LinkScheduler(Gigabit, 1);
        Assert.That(link.NextStart, Is.EqualTo(Instant.Never));
        link.Enqueue(0, 7, Page, new Instant(500));
        Assert.That(link.NextStart, Is.EqualTo(new Instant(500)));
        Assert.That(link.TryDepart(new Instant(499), out _), Is.False);
        Assert.That(link.TryDepart(new Instant(500), out Departure d));
        Assert.That(d, Is.EqualTo(new Departure(0, 7, Page, true, new Instant(500 + PageTime + RoundTrip))));
        Assert.That(link.NextStart, Is.EqualTo(Instant.Never));
    }

    [Test]
    public void A_queue_of_replies_on_one_lane_goes_out_back_to_back_in_order()
    {
        var link = new LinkScheduler(Gigabit, 1);
        for (int i = 0; i < 100; i++)
            link.Enqueue(0, i, Page, Instant.Zero);
        List<Departure> out_ = DrainAt(link, long.MaxValue - 1);
        Assert.That(out_.Select(d => d.Tag), Is.EqualTo(Enumerable.Range(0, 100)));
        Assert.That(out_.Select(d => d.Due.Nanoseconds), Is.EqualTo(Enumerable.Range(1, 100).Select(i => i * PageTime + RoundTrip)));
    }

    [Test]
    public void A_large_reply_goes_in_quanta_of_which_the_last_says_so()
    {
        var link = new LinkScheduler(Gigabit, 1);
        link.Enqueue(0, 1, 2 * Quantum + Page, Instant.Zero);
        Assert.That(DrainAt(link, long.MaxValue - 1), Is.EqualTo(new[]
        {
            new Departure(0, 1, Quantum, false, new Instant(QuantumTime + RoundTrip)),
            new Departure(0, 1, Quantum, false, new Instant(2 * QuantumTime + RoundTrip)),
            new Departure(0, 1, Page, true, new Instant(2 * QuantumTime + PageTime + RoundTrip)),
        }));
    }

    [Test]
    public void Two_lanes_that_are_always_busy_get_half_each()
    {
        var link = new LinkScheduler(Gigabit, 2);
        for (int i = 0; i < 50; i++)
        {
            link.Enqueue(0, i, 4 * Quantum, Instant.Zero);
            link.Enqueue(1, i, 4 * Quantum, Instant.Zero);
        }
        long[] bytes = new long[2];
        foreach (Departure d in DrainAt(link, long.MaxValue - 1))
        {
            bytes[d.Lane] += d.Bytes;
            Assert.That(Math.Abs(bytes[0] - bytes[1]), Is.LessThanOrEqualTo(Quantum));
        }
    }

    [Test]
    public void A_page_waits_for_one_quantum_of_bulk_and_not_for_all_of_it()
    {
        var link = new LinkScheduler(Gigabit, 2);
        link.Enqueue(1, 1, 1 << 20, Instant.Zero);
        Assert.That(link.TryDepart(Instant.Zero, out _));
        link.Enqueue(0, 2, Page, new Instant(10));
        Assert.That(link.TryDepart(new Instant(QuantumTime), out Departure d));
        Assert.That((d.Lane, d.Tag, d.Due), Is.EqualTo((0, 2, new Instant(QuantumTime + PageTime + RoundTrip))));
    }

    [Test]
    public void A_late_caller_loses_no_bandwidth()
    {
        LinkScheduler early = Loaded(), late = Loaded();
        var step = new List<Departure>();
        while (early.NextStart != Instant.Never)
            step.AddRange(DrainAt(early, early.NextStart.Nanoseconds));
        Assert.That(DrainAt(late, 3600L * 1_000_000_000), Is.EqualTo(step));

        static LinkScheduler Loaded()
        {
            var link = new LinkScheduler(Gigabit, 3);
            for (int i = 0; i < 40; i++)
                link.Enqueue(i % 3, i, 1000 + i * 3777, new Instant(i * 90_000));
            return link;
        }
    }

    [Test]
    public void Without_a_rate_replies_are_limited_by_nothing_but_their_readiness()
    {
        var link = new LinkScheduler(LinkParameters.Unshaped, 2);
        link.Enqueue(0, 1, 1 << 20, new Instant(5));
        link.Enqueue(1, 2, Page, new Instant(9));
        List<Departure> all = DrainAt(link, 9);
        Assert.That(all.Where(d => d.IsLast).Select(d => (d.Tag, d.Due)), Is.EqualTo(new[] { (1, new Instant(5)), (2, new Instant(9)) }));
    }

    [Test]
    public void A_lane_that_was_cut_sends_nothing_more_and_holds_nobody_up()
    {
        var link = new LinkScheduler(Gigabit, 2);
        for (int i = 0; i < 20; i++)
            link.Enqueue(0, i, Page, Instant.Zero);
        link.Enqueue(1, 99, Page, Instant.Zero);
        link.Clear(0);
        Assert.That(DrainAt(link, long.MaxValue - 1).Select(d => d.Tag), Is.EqualTo(new[] { 99 }));
        link.Enqueue(0, 5, Page, new Instant(1));
        Assert.That(DrainAt(link, long.MaxValue - 1).Single().Tag, Is.EqualTo(5));
    }

    [Test]
    public void Whatever_comes_every_byte_departs_once_and_never_two_at_a_time()
    {
        for (int seed = 0; seed < 200; seed++)
        {
            var random = new Random(seed);
            var link = new LinkScheduler(Gigabit with { RoundTrip = Duration.Zero }, 3);
            var left = new Dictionary<int, long>();
            long now = 0, free = 0;
            for (int i = 0; i < 60; i++)
            {
                long bytes = random.Next(1, 100_000);
                left[i] = bytes;
                link.Enqueue(random.Next(3), i, bytes, new Instant(now));
                now += random.Next(400_000);
                foreach (Departure d in DrainAt(link, i == 59 ? long.MaxValue - 1 : now))
                {
                    long time = (long)Math.Ceiling(d.Bytes * 8.0);
                    Assert.That(d.Due.Nanoseconds - time, Is.GreaterThanOrEqualTo(free), $"seed {seed}");
                    free = d.Due.Nanoseconds;
                    left[d.Tag] -= d.Bytes;
                    Assert.That(left[d.Tag] == 0, Is.EqualTo(d.IsLast), $"seed {seed}");
                }
            }
            Assert.That(left.Values, Is.All.Zero, $"seed {seed}");
        }
    }

    private static List<Departure> DrainAt(LinkScheduler link, long now)
    {
        var all = new List<Departure>();
        while (link.TryDepart(new Instant(now), out Departure d))
            all.Add(d);
        return all;
    }
}
