using CsCheck;
using NUnit.Framework;
using Testbed.Core;

namespace Core.Tests;

[TestFixture]
public sealed class PageMapTests
{
    /// <summary>Areas with gaps (also none), sizes around the word border; some pages present.</summary>
    private static readonly Gen<(MemoryImage Image, PageState[] Naive, PageNumber[] Pages)> GenMemory =
        Gen.Select(Gen.Int[0, 3], Gen.Int[1, 150], Gen.Int[0, 5]).Array[1, 5].SelectMany(areas =>
        Gen.Bool.Array[areas.Sum(a => a.Item2)].Select(present => Build(areas, present)));

    private static (MemoryImage, PageState[], PageNumber[]) Build((int Gap, int Count, int)[] areas, bool[] present)
    {
        var list = new List<MemoryArea>();
        var pages = new List<PageNumber>();
        ulong at = 1000;
        foreach ((int gap, int count, _) in areas)
        {
            at += (ulong)gap;
            list.Add(new MemoryArea(new PageRange(new PageNumber(at), count), "", 3));
            for (int i = 0; i < count; i++)
                pages.Add(new PageNumber(at++));
        }
        PageRange[] ranges = [.. pages.Where((_, i) => present[i]).Select(PageRange.Single)];
        return (new MemoryImage(list, ranges), [.. present.Select(p => p ? PageState.Lazy : PageState.Hole)], [.. pages]);
    }

    [Test]
    public void Agrees_with_an_array_of_states()
    {
        Gen.Select(GenMemory, Gen.Select(Gen.Int[0, 999], Gen.Int[0, 200], Gen.Int[0, 3], Gen.Bool).Array[0, 30]).Sample((memory, steps) =>
        {
            (MemoryImage image, PageState[] naive, PageNumber[] pages) = memory;
            var map = new PageMap(image);
            foreach ((int from, int length, int to, bool one) in steps)
            {
                int index = from % naive.Length;
                int count = one ? 1 : Math.Min(length, naive.Length - index);
                var state = (PageState)to;
                if (one)
                    map.Set(index, state);
                else
                    map.SetRange(index, count, state);
                Array.Fill(naive, state, index, count);
                Compare(map, naive, pages);
                Scan(map, naive, index, Math.Min(index + length, naive.Length));
            }
        }, iter: 150);
    }

    private static void Compare(PageMap map, PageState[] naive, PageNumber[] pages)
    {
        Check(map.Count == naive.Length, "count");
        Check(map.LazyPages == naive.Count(s => s == PageState.Lazy), "lazy");
        Check(map.InFlightPages == naive.Count(s => s == PageState.InFlight), "in flight");
        for (int i = 0; i < naive.Length; i++)
        {
            Check(map[i] == naive[i], $"state of {i}");
            Check(map.TryIndex(pages[i], out long index) && index == i, $"index of {pages[i]}");
            Check(map.PageAt(i) == pages[i], $"page {i}");
            (long first, long end) = map.AreaBounds(i);
            Check(first <= i && i < end && pages[i] - pages[first] == i - first, $"area of {i}");
            Check(end == naive.Length || map.AreaBounds(end).First == end, $"area behind {i}");
        }
        Check(!map.TryIndex(pages[0] - 1, out _) && !map.TryIndex(pages[^1] + 1, out _), "outside");
    }

    private static void Scan(PageMap map, PageState[] naive, int from, int end)
    {
        int next = Array.FindIndex(naive, from, end - from, s => s == PageState.Lazy);
        Check(map.NextLazy(from, end) == next, $"next lazy in {from}..{end}");
        int last = end - 1;
        int previous = last < from ? -1 : Array.FindLastIndex(naive, last, last - from + 1, s => s == PageState.Lazy);
        Check(map.PreviousLazy(last, from) == previous, $"previous lazy in {from}..{end}");
        foreach (PageState state in Enum.GetValues<PageState>())
        {
            int stop = Array.FindIndex(naive, from, end - from, s => s != state);
            Check(map.Run(from, end, state) == (stop < 0 ? end : stop) - from, $"run of {state} in {from}..{end}");
        }
    }

    [Test]
    public void A_fork_is_a_copy_in_which_nothing_is_in_flight()
    {
        Gen.Select(GenMemory, Gen.Int[0, 3].Array[700]).Sample((memory, states) =>
        {
            (MemoryImage image, PageState[] naive, PageNumber[] pages) = memory;
            var parent = new PageMap(image);
            for (int i = 0; i < naive.Length; i++)
                parent.Set(i, naive[i] = (PageState)states[i % states.Length]);
            PageMap child = parent.Fork();
            Compare(child, [.. naive.Select(s => s == PageState.InFlight ? PageState.Lazy : s)], pages);
            child.SetRange(0, child.Count, PageState.Resident);
            Compare(parent, naive, pages);
        }, iter: 150);
    }

    [Test]
    public void A_tebibyte_fits_and_its_last_page_is_found()
    {
        const long pages = 1L << 28;
        var map = new PageMap(Images.Of([(16, pages)], [(16 + (ulong)pages - 1, 1)]));
        Assert.That(map.NextLazy(0, map.Count), Is.EqualTo(pages - 1));
        Assert.That(map.PreviousLazy(pages - 1, 0), Is.EqualTo(pages - 1));
        Assert.That(map.PreviousLazy(pages - 2, 0), Is.EqualTo(-1));
    }

    [TestCase("100+0", "", Description = "empty area")]
    [TestCase("100+5 104+5", "", Description = "areas overlap")]
    [TestCase("100+5 90+5", "", Description = "areas unsorted")]
    [TestCase("100+5", "99+2", Description = "present outside")]
    [TestCase("100+5 105+5", "104+2", Description = "present over a border")]
    [TestCase("100+9", "102+2 103+2", Description = "present overlaps")]
    public void An_image_that_contradicts_itself_is_bad_input(string areas, string present)
    {
        static (ulong, long)[] Parse(string s) =>
            [.. s.Split(' ', StringSplitOptions.RemoveEmptyEntries).Select(x => x.Split('+')).Select(x => (ulong.Parse(x[0]), long.Parse(x[1])))];
        Assert.That(() => Images.Of(Parse(areas), Parse(present)), Throws.TypeOf<BadInputException>());
    }

    /// <summary>Samples throw: a plain check is quicker than a constraint, and there are millions.</summary>
    private static void Check(bool holds, string what)
    {
        if (!holds)
            throw new InvalidOperationException(what);
    }
}
