using NUnit.Framework;
using Testbed.Core;

namespace Policies.Tests;

/// <summary>
/// Conformance vectors: known sequences of touches with exactly the pages that each policy's rules prefetch. Every
/// touch is done, with all that it caused, before the next; touches of pages that are in make no event.
/// </summary>
[TestFixture]
public sealed class ConformanceTests
{
    private const Cause P = Cause.Prefetch, B = Cause.Background;

    /// <summary>What is fetched from 4,096 pages at 0x10000, one area, at each of the touches.</summary>
    private static string Vector(string policy, IEnumerable<int> touches, IReadOnlyList<PageNumber>? recording = null, int thread = 0)
    {
        var bench = new PolicyBench(policy, Images.Of([(0x10000, 4096)], [(0x10000, 4096)]), null, recording);
        return Vector(bench, touches, thread);
    }

    private static string Vector(PolicyBench bench, IEnumerable<int> touches, int thread = 0)
    {
        var steps = new List<string>();
        foreach (int touch in touches)
        {
            ulong page = 0x10000 + (ulong)touch;
            _ = bench.Map.TryIndex(new PageNumber(page), out long index);
            if (bench.Map[index] == PageState.Resident)
                continue;
            bench.Fault(page, thread);
            var prefetched = bench.TakeLog().Where(r => r.Cause == P)
                .SelectMany(r => Enumerable.Range(0, (int)r.Count).Select(i => (int)(r.Page - 0x10000) + i));
            steps.Add($"{touch}:{string.Join(',', prefetched)}");
            while (bench.Arrive())
            {
            }
        }
        return string.Join(' ', steps);
    }

    private static int Misses(string policy, IEnumerable<int> touches) => Vector(policy, touches).Split(' ').Length;

    private static IEnumerable<int> Range(int first, int count, int step = 1) => Enumerable.Range(0, count).Select(i => first + i * step);

    private static PageNumber[] Recording(params int[] pages) => [.. pages.Select(p => new PageNumber(0x10000 + (ulong)p))];

    [TestCase(1, 1)]
    [TestCase(1, 2)]
    [TestCase(100, -1)]
    [TestCase(3000, -17)]
    public void Leap_has_15_misses_in_100_touches_of_one_stride(int first, int step) =>
        Assert.That(Misses("leap:background=false", Range(first, 100, step)), Is.EqualTo(15));

    [Test]
    public void Leap_doubles_its_window_with_hits() => Assert.That(
        Vector("leap:background=false", Range(1, 22)),
        Is.EqualTo("1: 2: 3:4 5:6,7 8:9,10,11,12 13:14,15,16,17,18,19,20,21 22:23,24,25,26,27,28,29,30"));

    [Test]
    public void Leap_fetches_nothing_without_a_trend_and_then_shrinks_by_halves() => Assert.That(
        Vector("leap:background=false,history=4,split=2", [1, 2, 3, 4, 5, 6, 7, 8, 1000, 2500, 700, 3900, 15]),
        Is.EqualTo("1: 2: 3:4 5:6,7 8:9,10,11,12 1000:1001,1002 2500:2501 700: 3900: 15:"),
        "a jump leaves 3 of 4 distances as they were; then there is no majority, and the latest trend lasts as long as the window");

    [Test]
    public void Leap_finds_the_majority_through_noise() => Assert.That(
        Vector("leap:background=false,history=8,split=2,max-window=2", [10, 13, 16, 500, 503, 506, 509, 512]),
        Is.EqualTo("10: 13: 16:19 500: 503:506 509:512,515"));

    [Test]
    public void Stride_goes_through_the_states_of_the_table() => Assert.That(
        Vector("stride:degree=2,background=false", [10, 14, 18, 22, 26, 30, 500, 504, 512, 900, 903, 1000, 1007, 1014]),
        Is.EqualTo("10: 14:18,22 26:30,34 500:504,508 512:516,520 900:904,908 903:906,909 1000: 1007: 1014:1021,1028"),
        "a steady stride outlives the jump to 500; after more surprises nothing is predicted until a stride comes twice");

    [Test]
    public void Stride_knows_threads_apart()
    {
        var bench = new PolicyBench("stride:degree=1,background=false", Images.Of([(0x10000, 4096)], [(0x10000, 4096)]));
        Assert.That(Vector(bench, [10], 0) + " " + Vector(bench, [1000], 1) + " " + Vector(bench, [12], 0) + " " + Vector(bench, [997], 1),
            Is.EqualTo("10: 1000: 12:14 997:994"));
    }

    [Test]
    public void Linux_swap_readahead_starts_with_8_and_stays_there_while_all_of_it_is_used() => Assert.That(
        Vector("linux-readahead:background=false", Range(100, 21)),
        Is.EqualTo("100:97,98,99,101,102,103,104 105:106,107,108,109,110,111,112 113:114,115,116,117,118,119,120"));

    [Test]
    public void Linux_swap_readahead_shrinks_by_halves_on_random_faults() => Assert.That(
        Vector("linux-readahead:background=false", [100, 1000, 2000, 3000, 500, 501, 502]),
        Is.EqualTo("100:97,98,99,101,102,103,104 1000:999,1001,1002 2000:2001 3000: 500: 501:502"));

    [Test]
    public void Linux_swap_readahead_looks_behind_when_faults_descend() => Assert.That(
        Vector("linux-readahead:background=false", [100, 1000, 2000, 3000, 500, 499, 497]),
        Is.EqualTo("100:97,98,99,101,102,103,104 1000:999,1001,1002 2000:2001 3000: 500: 499:498 497:494,495,496"));

    [Test]
    public void Linux_swap_readahead_stays_within_the_2_MiB_of_a_page_table() => Assert.That(
        Vector("linux-readahead:background=false", [512, 1535]), Is.EqualTo("512:513,514,515,516 1535:1534"));

    [Test]
    public void Linux_read_around_takes_half_before_and_half_behind() => Assert.That(
        Vector("linux-readahead:rules=file,cluster=2,background=false", [100, 1, 4095, 102]),
        Is.EqualTo("100:98,99,101 1:0,2 4095:4093,4094 102:103"));

    [Test]
    public void Linux_sequential_readahead_doubles_from_the_second_neighbour_on() => Assert.That(
        Vector("linux-readahead:rules=sequential,cluster=4,background=false", Range(100, 40).Append(700)),
        Is.EqualTo("100: 101:102 103:104,105,106 107:108,109,110,111,112,113,114 "
            + "115:116,117,118,119,120,121,122,123,124,125,126,127,128,129,130 131:132,133,134,135,136,137,138,139,140,141,142,143,144,145,146 700:"));

    [Test]
    public void Linux_sequential_readahead_of_128_KiB_begins_with_four_pages() => Assert.That(
        Vector("linux-readahead:rules=sequential,background=false", Range(100, 12)),
        Is.EqualTo("100: 101:102,103,104 105:106,107,108,109,110,111,112"));

    [Test]
    public void Limit_cuts_what_is_proposed_on_a_fault() => Assert.That(
        Vector("linux-readahead:rules=file,cluster=3,background=false limit 5", [100]), Is.EqualTo("100:96,97,98,99"),
        "the page itself is one of the first five");

    [Test]
    public void Then_asks_the_second_where_the_first_has_nothing_to_say() => Assert.That(
        Vector("markov:degree=2 then next-n:n=2,background=false", [50, 7, 60], Recording(7, 50, 12)),
        Is.EqualTo("50:12 7: 60:61,62"), "the successors of 7 are in, but the first had something to say");

    [Test]
    public void Plus_takes_prefetch_from_the_first_alone() => Assert.That(
        Vector("markov:degree=1 + next-n:n=2,background=false", [50, 60], Recording(7, 50, 12)), Is.EqualTo("50:12 60:"));

    [Test]
    public void The_background_is_the_second_ones_once_the_first_has_said_all()
    {
        Assert.That(Idle("working-set + qemu", Recording(30, 10)).Take(2), Is.EqualTo(new[] { (30, 1L), (10, 1) }));
        Assert.That(Idle("working-set then qemu", Recording(30, 10)).Skip(2).Take(3), Is.EqualTo(new[] { (0, 10L), (11, 16), (27, 3) }));
        Assert.That(Idle("working-set then hot-first:region=8", Recording(30, 10)).Skip(2).Take(4), Is.EqualTo(new[] { (8, 2L), (11, 5), (24, 6), (31, 1) }));
    }

    [Test]
    public void Of_several_recordings_any_or_all()
    {
        var several = new Recordings([Recording(30, 10, 20), Recording(10, 40, 20)]);
        Assert.That(several.Select(p => (int)(p.Value - 0x10000)), Is.EqualTo(new[] { 30, 10, 40, 20 }), "by the earliest place");
        Assert.That(Idle("working-set:background=false", several).Select(r => r.Item1), Is.EqualTo(new[] { 30, 10, 40, 20 }));
        Assert.That(Idle("working-set:recorded-in=all,background=false", several).Select(r => r.Item1), Is.EqualTo(new[] { 10, 20 }));
        Assert.That(Idle("faasnap:recorded-in=all,gap=0,background=false", several).Select(r => r.Item1), Is.EqualTo(new[] { 10, 20 }));
        Assert.That(Vector("markov:degree=1,background=false", [10, 30], several), Is.EqualTo("10:20,40 30:"), "what followed 10 in each; it followed 30 in one");
    }

    [Test]
    public void Aligned_next_n_takes_the_block_by_address()
    {
        var bench = new PolicyBench("next-n:n=16,aligned=true,background=false", Images.Of([(0x10003, 40)], [(0x10003, 40)]));
        Assert.That(Vector(bench, [5, 21, 42]), Is.EqualTo(
            "5:3,4,6,7,8,9,10,11,12,13,14,15 21:16,17,18,19,20,22,23,24,25,26,27,28,29,30,31 42:32,33,34,35,36,37,38,39,40,41"));
    }

    [Test]
    public void Next_n_of_the_first_faults_leaves_the_others_alone()
    {
        var bench = new PolicyBench("next-n:n=4,aligned=true,faults=2,background=false", Images.Of([(0x10000, 40)], [(0x10000, 40)]));
        Assert.That(Vector(bench, [5, 21, 30, 38]), Is.EqualTo("5:4,6,7 21:20,22,23 30: 38:"));
    }

    [Test]
    public void Qemu_goes_on_from_the_requested_page_and_around_the_end() => Assert.That(
        Qemu("qemu"), Is.EqualTo(new[] { (100, 4), (121, 4), (131, 4), (135, 4), (139, 1), (104, 3), (107, 3), (111, 1) }),
        "of two requests the last");

    [Test]
    public void Qemu_with_preempt_keeps_the_first_hint_until_it_is_used() => Assert.That(
        Qemu("qemu:preempt=true"), Is.EqualTo(new[] { (100, 4), (121, 4), (111, 4), (115, 4), (119, 1), (125, 3), (128, 2), (131, 2) }),
        "of two requests the first");

    private static (int, int)[] Qemu(string policy)
    {
        var transfer = new TransferOptions { MaxInFlight = 4 * 4096 };
        var bench = new PolicyBench(policy, Images.Of([(100, 40)], [(100, 40)]), transfer);
        var background = new List<(int, int)>();
        Step();
        bench.Fault(120);
        Step();
        bench.Fault(110, thread: 1);
        bench.Fault(130, thread: 2);
        for (int i = 0; i < 4; i++)
            Step();
        return [.. background];

        void Step()
        {
            bench.Idle();
            while (bench.Arrive())
            {
            }
            background.AddRange(bench.TakeLog().Where(r => r.Cause == B).Select(r => ((int)r.Page, (int)r.Count)));
        }
    }

    [Test]
    public void Spatial_repeats_a_footprint_at_the_same_trigger_every_second_time() => Assert.That(
        Vector("spatial:region=16,active=1,background=false", [2, 5, 7, 18, 21, 34, 39, 50, 66]),
        Is.EqualTo("2: 5: 7: 18:21,23 34: 39: 50:55 66:"),
        "region 0 taught 2, 5, 7; region 2 was withheld, and taught 2, 7");

    [Test]
    public void Markov_follows_the_recording_from_the_fault() => Assert.That(
        Vector("markov:degree=3,background=false", [50, 7, 11, 90], Recording(7, 50, 12, 11, 90, 50, 30)),
        Is.EqualTo("50:11,12,90 7:"), "neighbours in one request; the successors of 7 are in");

    [Test]
    public void Delta_correlation_repeats_what_followed_two_distances() => Assert.That(
        Vector("delta-correlation:degree=3,background=false", [10, 11, 13, 14, 16, 17, 19, 20, 22]),
        Is.EqualTo("10: 11: 13: 14: 16:17,19,20 22:23,25,26"), "1, 2, 1, 2: then 1, 2, 1, and on");

    [Test]
    public void Distance_takes_the_followers_of_a_distance_latest_first() => Assert.That(
        Vector("distance:background=false", [10, 11, 13, 14, 24, 25]),
        Is.EqualTo("10: 11: 13: 14:16 24: 25:35,27"), "after 1 came 2, and then 10");

    [Test]
    public void Working_set_sorted_merges_runs() => Assert.That(
        Idle("working-set:order=sorted,background=false", Recording(30, 11, 20, 10, 12)),
        Is.EqualTo(new[] { (10, 3L), (20, 1), (30, 1) }));

    [Test]
    public void Faasnap_merges_over_gaps_and_a_region_takes_its_lowest_group() => Assert.That(
        Idle("faasnap:group=2,gap=2,background=false", Recording(500, 100, 300, 103, 10, 305, 301, 106)),
        Is.EqualTo(new[] { (100, 7L), (500, 1), (300, 2), (10, 1), (305, 1) }),
        "groups of two: 500 and 100, 300 and 103, 10 and 305, 301 and 106; two pages lie between 103 and 106, three between 301 and 305");

    [Test]
    public void Oracle_keeps_the_order_and_batches_only_when_told()
    {
        PageNumber[] future = Recording(30, 10, 31, 11, 12, 29);
        Assert.That(Idle("oracle:background=false", future), Is.EqualTo(new[] { (30, 1L), (10, 1), (31, 1), (11, 1), (12, 1), (29, 1) }));
        Assert.That(Idle("oracle:batch=2,background=false", future), Is.EqualTo(new[] { (30, 2L), (10, 2), (12, 1), (29, 1) }));
    }

    private static (int, long)[] Idle(string policy, IReadOnlyList<PageNumber> recording)
    {
        var bench = new PolicyBench(policy, Images.Of([(0x10000, 4096)], [(0x10000, 4096)]), null, recording);
        bench.Settle();
        return [.. bench.TakeLog().Select(r => ((int)(r.Page - 0x10000), r.Count))];
    }

    [Test]
    public void Hot_first_takes_the_regions_with_most_touches_and_faults()
    {
        var transfer = new TransferOptions { MaxInFlight = 4 * 4096 };
        var bench = new PolicyBench("hot-first:region=4", Images.Of([(0x10000, 20)], [(0x10000, 20)]), transfer, Recording(17, 18, 9));
        var order = new List<int>();
        Step();
        bench.Fault(0x10005);
        bench.Fault(0x10006, thread: 1);
        for (int i = 0; i < 5; i++)
            Step();
        Assert.That(order, Is.EqualTo(new[] { 16, 4, 7, 8, 10, 0, 2, 12, 14 }));

        void Step()
        {
            bench.Idle();
            while (bench.Arrive())
            {
            }
            order.AddRange(bench.TakeLog().Where(r => r.Cause == B).Select(r => (int)(r.Page - 0x10000)));
        }
    }

    [Test]
    public void Bubbling_with_pivots_grows_the_latest_few_in_turn()
    {
        var transfer = new TransferOptions { MaxInFlight = 8 * 4096 };
        var bench = new PolicyBench("bubbling:chunk=1,pivots=2", Images.Of([(0x10000, 4096)], [(0x10000, 4096)]), transfer);
        Assert.That(Vector(bench, [100, 200, 300]), Is.EqualTo("100: 200: 300:"));
        bench.Idle();
        Assert.That(bench.TakeLog().Select(r => (int)(r.Page - 0x10000)), Is.EqualTo(new[] { 301, 201, 299, 199, 302, 202, 298, 198 }), "100 gave way");
    }

    [Test]
    public void Adaptive_earns_its_depth_probe_by_probe() => Assert.That(
        Vector("adaptive:background=false", Range(100, 19)),
        Is.EqualTo("100: 101:102 103: 104:105 106:107,108,109 110:111,112,113,114,115,116,117 118:119,120,121,122,123,124,125,126,127,128,129,130,131,132,133"));

    [Test]
    public void Adaptive_learns_strides_and_recordings_the_same_way()
    {
        Assert.That(Misses("adaptive:background=false", Range(100, 100, 7)), Is.LessThan(20));
        int[] order = [.. Range(0, 200).Select(i => i * 1237 % 4096)];
        Assert.That(Vector("adaptive:recorded=true,background=false", order, Recording(order)).Split(' '), Has.Length.LessThan(30));
        Assert.That(Misses("adaptive:background=false", order), Is.GreaterThan(150), "it is not told to use one");
    }

    /// <summary>A stride that has earned all depth turns into chance: what is fetched in vain from then on is bounded.</summary>
    [TestCase(1)]
    [TestCase(-1)]
    [TestCase(7)]
    public void Adaptive_bounds_the_harm_when_a_pattern_ends(int step)
    {
        var bench = new PolicyBench("adaptive:background=false", Images.Of([(0x10000, 4_000_000)], [(0x10000, 4_000_000)]));
        var random = new Random(1);
        _ = Vector(bench, Range(2_000_000, 2000, step));
        string fetched = Vector(bench, Enumerable.Range(0, 5000).Select(_ => random.Next(4_000_000)));
        int pages = fetched.Split(' ').Sum(s => s.Split(':')[1].Split(',', StringSplitOptions.RemoveEmptyEntries).Length);
        Assert.That(pages, Is.LessThan(300));
    }

    [Test]
    public void Adaptive_does_no_harm_where_nothing_can_be_predicted()
    {
        var bench = new PolicyBench("adaptive:background=false", Images.Of([(0x10000, 4_000_000)], [(0x10000, 4_000_000)]));
        var random = new Random(1);
        string fetched = Vector(bench, Enumerable.Range(0, 3000).Select(_ => random.Next(4_000_000)));
        Assert.That(fetched.Split(' ').Sum(step => step.Split(':')[1].Split(',', StringSplitOptions.RemoveEmptyEntries).Length), Is.LessThan(30));
    }
}
