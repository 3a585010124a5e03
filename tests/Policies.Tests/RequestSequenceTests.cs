using NUnit.Framework;
using Testbed.Core;

namespace Policies.Tests;

/// <summary>What each policy asks for, in which order, page by page.</summary>
[TestFixture]
public sealed class RequestSequenceTests
{
    private const Cause D = Cause.Demand, P = Cause.Prefetch, B = Cause.Background;

    [Test]
    public void Demand_asks_for_nothing_but_the_page()
    {
        var bench = new PolicyBench("demand", Images.Of([(100, 50)], [(100, 50)]));
        bench.Fault(120);
        bench.Fault(110, thread: 1);
        bench.Settle();
        Assert.That(bench.TakeLog(), Is.EqualTo(new[] { (120ul, 1L, D), (110ul, 1L, D) }));
    }

    [Test]
    public void Criu_grows_by_64_KiB_up_to_4_MiB()
    {
        var bench = new PolicyBench("criu", Images.Of([(0x1000, 100_000)], [(0x1000, 100_000)]));
        ulong at = 0x1000;
        for (int i = 1; i <= 80; i++)
        {
            bench.Idle();
            bench.Idle();
            long expected = Math.Min(16 * i, 1024);
            Assert.That(bench.TakeLog(), Is.EqualTo(new[] { (at, expected, B) }), "one request, and no other before it has come");
            at += (ulong)expected;
            bench.Arrive();
        }
    }

    [Test]
    public void Criu_falls_back_to_64_KiB_with_a_fault_for_a_lazy_page_only()
    {
        var bench = new PolicyBench("criu", Images.Of([(1000, 2000)], [(1000, 1900)]));
        Step(bench, (1000, 16, B));
        Step(bench, (1016, 32, B));
        bench.Idle();
        Assert.That(bench.TakeLog(), Is.EqualTo(new[] { (1048ul, 48L, B) }));
        bench.Fault(1050, thread: 1);
        bench.Fault(2950, thread: 2);
        bench.Idle();
        Assert.That(bench.TakeLog(), Is.Empty, "in flight and hole: nothing changes");
        bench.Arrive();
        Step(bench, (1096, 64, B));
        bench.Fault(1500);
        bench.Idle();
        Assert.That(bench.TakeLog(), Is.EqualTo(new[] { (1500ul, 1L, D) }), "the page alone, and nothing behind it while it is away");
        bench.Arrive();
        Step(bench, (1160, 16, B));
        Step(bench, (1176, 32, B));
    }

    [Test]
    public void Criu_takes_ranges_from_the_lowest_up_and_never_over_a_border()
    {
        // 1010 is in already, 1020 to 1029 was not dumped, and another area begins right at 1040.
        var bench = new PolicyBench("criu", Images.Of([(1000, 40), (1040, 100)], [(1000, 20), (1030, 10), (1040, 100)]));
        bench.Fault(1010);
        bench.Arrive();
        bench.TakeLog();
        Step(bench, (1000, 10, B));
        Step(bench, (1011, 9, B));
        Step(bench, (1030, 10, B));
        Step(bench, (1040, 64, B));
        Step(bench, (1104, 36, B));
        bench.Idle();
        Assert.That(bench.TakeLog(), Is.Empty);
        Assert.That(bench.Service.IsComplete);
    }

    /// <summary>CRIU's daemon as its source describes it: a sorted list of ranges, and a transfer length.</summary>
    [Test]
    public void Criu_does_what_the_list_of_ranges_of_CRIU_would_do([Range(0, 99)] int seed)
    {
        var random = new Random(seed);
        MemoryImage image = Images.Any(random, 5, 3000);
        var bench = new PolicyBench("criu", image);
        List<PageRange> ranges = Merged(image);
        var inFlight = new List<PageRange>();
        var expected = new List<(ulong, long, Cause)>();
        long length = 16;
        for (int i = 0; i < 400; i++)
        {
            switch (random.Next(4))
            {
                case 0:
                    PageRange area = image.Areas[random.Next(image.Areas.Count)].Range;
                    PageNumber page = area.Start + random.NextInt64(area.Count);
                    if (!inFlight.Exists(r => r.Contains(page)) && Take(ranges, PageRange.Single(page)))
                    {
                        inFlight.Add(PageRange.Single(page));
                        expected.Add((page.Value, 1, D));
                        length = 16;
                    }
                    bench.Fault(page.Value, random.Next(3));
                    break;
                case 1:
                    if (ranges.Count > 0 && inFlight.Count == 0)
                    {
                        PageRange next = ranges[0] with { Count = Math.Min(ranges[0].Count, length) };
                        Take(ranges, next);
                        inFlight.Add(next);
                        expected.Add((next.Start.Value, next.Count, B));
                        length = Math.Min(1024, length + 16);
                    }
                    bench.Idle();
                    break;
                default:
                    if (bench.Arrive())
                        inFlight.RemoveAt(0);
                    break;
            }
        }
        Assert.That(bench.TakeLog(), Is.EqualTo(expected));
    }

    /// <summary>A pagemap entry is as long as it can be within its area.</summary>
    private static List<PageRange> Merged(MemoryImage image)
    {
        var merged = new List<PageRange>();
        foreach (PageRange range in image.Present)
        {
            bool joins = merged.Count > 0 && merged[^1].End == range.Start && image.Areas.All(a => a.Range.Start != range.Start);
            if (joins)
                merged[^1] = merged[^1] with { Count = merged[^1].Count + range.Count };
            else
                merged.Add(range);
        }
        return merged;
    }

    private static bool Take(List<PageRange> ranges, PageRange part)
    {
        int i = ranges.FindIndex(r => r.Contains(part.Start));
        if (i < 0)
            return false;
        PageRange whole = ranges[i];
        ranges.RemoveAt(i);
        PageRange[] rest = [PageRange.Between(whole.Start, part.Start), PageRange.Between(part.End, whole.End)];
        ranges.InsertRange(i, rest.Where(r => !r.IsEmpty));
        return true;
    }

    [Test]
    public void Next_n_takes_the_pages_behind_the_fault_up_to_the_end_of_the_area()
    {
        var bench = new PolicyBench("next-n:n=4,background=false", Images.Of([(100, 20), (120, 20)], [(100, 40 - 20), (120, 20)]));
        bench.Fault(105);
        Assert.That(bench.TakeLog(), Is.EqualTo(new[] { (105ul, 1L, D), (106ul, 4L, P) }));
        bench.Fault(103, thread: 1);
        Assert.That(bench.TakeLog(), Is.EqualTo(new[] { (103ul, 1L, D), (104ul, 1L, P) }), "what is on its way is not asked for again");
        bench.Fault(107, thread: 2);
        Assert.That(bench.TakeLog(), Is.EqualTo(new[] { (110ul, 2L, P) }), "a late prefetch moves the window on");
        bench.Fault(118, thread: 3);
        Assert.That(bench.TakeLog(), Is.EqualTo(new[] { (118ul, 1L, D), (119ul, 1L, P) }), "not over the border");
        bench.Fault(119, thread: 4);
        bench.Settle();
        Assert.That(bench.TakeLog(), Is.Empty);
    }

    [Test]
    public void Next_n_fills_the_rest_in_address_order_within_its_budget()
    {
        var transfer = new TransferOptions { Lanes = 3, MaxInFlight = 12 * 4096, MaxRequest = 8 * 4096 };
        var bench = new PolicyBench("next-n:n=4", Images.Of([(100, 60)], [(100, 20), (130, 30)]), transfer);
        bench.Fault(110);
        bench.Idle();
        Assert.That(bench.TakeLog(), Is.EqualTo(new[] { (110ul, 1L, D), (111ul, 4L, P), (100ul, 8L, B), (108ul, 2L, B), (115ul, 2L, B) }));
    }

    [Test]
    public void Bubbling_grows_both_ways_from_the_fault_in_turn()
    {
        var transfer = new TransferOptions { Lanes = 3, MaxInFlight = 10 * 4096 };
        var bench = new PolicyBench("bubbling:chunk=2", Images.Of([(100, 100)], [(100, 100)]), transfer);
        bench.Fault(150);
        bench.Idle();
        Assert.That(bench.TakeLog(), Is.EqualTo(new[]
        {
            (150ul, 1L, D), (151ul, 2L, P), (148ul, 2L, P), (153ul, 2L, P), (146ul, 2L, P), (155ul, 2L, P),
        }));
        bench.Fault(103, thread: 1);
        bench.Arrive();
        bench.Arrive();
        bench.Arrive();
        bench.Idle();
        Assert.That(bench.TakeLog(), Is.EqualTo(new[] { (103ul, 1L, D), (104ul, 2L, P), (101ul, 2L, P) }), "a new centre");
        while (bench.OnTheWire > 0)
            bench.Arrive();
        bench.Idle();
        Assert.That(bench.TakeLog(), Is.EqualTo(new[]
        {
            (106ul, 2L, P), (100ul, 1L, P), (108ul, 2L, P), (110ul, 2L, P), (112ul, 2L, P), (114ul, 1L, P),
        }), "one end reached: all turns are the other's");
    }

    [Test]
    public void Bubbling_steps_over_what_is_in_and_over_holes_and_borders()
    {
        var transfer = new TransferOptions { Lanes = 3, MaxInFlight = 12 * 4096 };
        var bench = new PolicyBench("bubbling:chunk=4", Images.Of([(100, 20), (120, 20)], [(100, 14), (117, 3), (120, 20)]), transfer);
        bench.Fault(118);
        bench.Idle();
        Assert.That(bench.TakeLog(), Is.EqualTo(new[] { (118ul, 1L, D), (119ul, 1L, P), (117ul, 1L, P), (120ul, 4L, P), (110ul, 4L, P), (124ul, 2L, P) }));
        bench.Fault(115, thread: 1);
        Assert.That(bench.TakeLog(), Is.Empty, "a hole");
    }

    [Test]
    public void Working_set_follows_the_recording_and_only_then_the_addresses()
    {
        var transfer = new TransferOptions { Lanes = 3, MaxInFlight = 4 * 4096 };
        PageNumber[] recording = [.. new ulong[] { 150, 151, 152, 110, 999, 110, 130, 131, 150 }.Select(p => new PageNumber(p))];
        var bench = new PolicyBench("working-set", Images.Of([(100, 60)], [(100, 60)]), transfer, recording);
        bench.Fault(151);
        bench.Idle();
        Assert.That(bench.TakeLog(), Is.EqualTo(new[] { (151ul, 1L, D), (150ul, 1L, P), (152ul, 1L, P), (110ul, 1L, P), (130ul, 1L, P) }));
        bench.Idle();
        Assert.That(bench.TakeLog(), Is.Empty, "the rest waits until the recording is through");
        while (bench.OnTheWire > 0)
            bench.Arrive();
        bench.Idle();
        Assert.That(bench.TakeLog(), Is.EqualTo(new[] { (131ul, 1L, P), (100ul, 4L, B) }));
    }

    [Test]
    public void Working_set_without_background_ends_with_the_recording()
    {
        var bench = new PolicyBench("working-set:background=false", Images.Of([(100, 60)], [(100, 60)]), null, [new PageNumber(140)]);
        bench.Settle();
        Assert.That(bench.TakeLog(), Is.EqualTo(new[] { (140ul, 1L, P) }));
    }

    private static void Step(PolicyBench bench, (ulong, long, Cause) expected)
    {
        bench.Idle();
        Assert.That(bench.TakeLog(), Is.EqualTo(new[] { expected }));
        bench.Arrive();
    }
}
