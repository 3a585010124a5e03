using NUnit.Framework;
using Testbed.Core;

namespace Testbed.Uffd.Tests;

/// <summary>Mappings as the kernel writes them, and which of them are taken.</summary>
public sealed class ProcMapsTests
{
    private const string Smaps = """
        5581c0400000-5581c0421000 r-xp 00002000 fe:01 247270                     /usr/bin/a name with  spaces
        Rss:                  20 kB
        Swap:                  0 kB
        VmFlags: rd ex mr mw me
        5581c1000000-5581c1021000 rw-p 00000000 00:00 0                          [heap]
        Rss:                 132 kB
        Swap:                  8 kB
        VmFlags: rd wr mr mw me ac
        7f0000000000-7f0000400000 ---p 00000000 00:00 0
        Rss:                   0 kB
        Swap:                  0 kB
        VmFlags: mr mw me nr
        7f0000400000-7f0000500000 rw-p 00000000 00:00 0
        Rss:                 100 kB
        Swap:                  0 kB
        VmFlags: rd wr mr mw me lo ac
        7f0000500000-7f0000600000 rw-s 00000000 00:01 5                          /dev/zero (deleted)
        Rss:                 100 kB
        Swap:                  0 kB
        VmFlags: rd wr sh mr mw me ms
        7f0000600000-7f0000800000 rw-p 00000000 00:00 0                          [anon:big]
        Rss:                   0 kB
        Swap:                  0 kB
        VmFlags: rd wr mr mw me ht
        7f0000800000-7f0000900000 rw-p 00000000 00:00 0                          [anon:own uffd]
        Rss:                 100 kB
        Swap:                  0 kB
        VmFlags: rd wr mr mw me um
        7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0                          [stack]
        Rss:                  20 kB
        Swap:                  0 kB
        VmFlags: rd wr mr mw me gd ac
        7ffc00100000-7ffc00104000 r--p 00000000 00:00 0                          [vvar]
        Rss:                   0 kB
        Swap:                  0 kB
        VmFlags: rd mr pf io de dd
        ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
        """;

    private static List<Mapping> Parse()
    {
        List<Mapping> mappings = [];
        ProcMaps.Parse(new StringReader(Smaps), mappings);
        return mappings;
    }

    [Test]
    public void EveryFieldIsRead()
    {
        List<Mapping> mappings = Parse();
        Assert.That(mappings, Has.Count.EqualTo(10));
        Assert.That(mappings[0], Is.EqualTo(new Mapping(
            PageRange.Between(PageNumber.Of(0x5581c0400000), PageNumber.Of(0x5581c0421000)), 5, false, 0x2000, (0xfe << 20) | 1, 247270,
            "/usr/bin/a name with  spaces", " rd ex mr mw me ", 20 * 1024, 0)));
        Assert.That(mappings[1].SwappedBytes, Is.EqualTo(8192));
        Assert.That(mappings[3].IsLocked);
        Assert.That(mappings[4].IsShared);
        Assert.That(mappings[7].GrowsDown);
        Assert.That(mappings[9].Range.Start.Address, Is.EqualTo(0xffffffffff600000));
    }

    [TestCase(RegionSelection.Heap, "1")]
    [TestCase(RegionSelection.Anon, "1 3")]
    [TestCase(RegionSelection.All, "1 3 7")]
    public void TheSelectionIsWhatItSays(RegionSelection selection, string expected)
    {
        List<Mapping> mappings = Parse();
        List<SkippedMapping> skipped = [];
        IReadOnlyList<Mapping> chosen = ProcMaps.Select(mappings, selection, skipped);
        Assert.That(string.Join(' ', chosen.Select(m => mappings.IndexOf(m))), Is.EqualTo(expected));
        Assert.That(string.Join(' ', skipped.Select(s => mappings.IndexOf(s.Mapping))), Is.EqualTo(selection == RegionSelection.Heap ? "" : "5 6"));
    }
}

/// <summary>Sets of pages against the same sets as bits.</summary>
public sealed class PageRangesTests
{
    [Test]
    public void SetOperationsAreThoseOfBits([Range(1, 50)] int seed)
    {
        Random random = new(seed);
        (List<PageRange> a, bool[] x) = Make(random);
        (List<PageRange> b, bool[] y) = Make(random);
        Assert.That(Bits(PageRanges.Intersect(a, b)), Is.EqualTo(x.Zip(y, (p, q) => p && q)));
        Assert.That(Bits(PageRanges.Subtract(a, b)), Is.EqualTo(x.Zip(y, (p, q) => p && !q)));
        Assert.That(Bits(PageRanges.Normalize([.. b, .. a])), Is.EqualTo(x.Zip(y, (p, q) => p || q)));
    }

    private static (List<PageRange>, bool[]) Make(Random random)
    {
        List<PageRange> ranges = [];
        for (int at = random.Next(5); at < 90;)
        {
            int count = random.Next(1, 9);
            ranges.Add(new PageRange(new PageNumber((ulong)at), count));
            at += count + random.Next(0, 6);
        }
        return (ranges, Bits(ranges));
    }

    private static bool[] Bits(IEnumerable<PageRange> ranges)
    {
        bool[] bits = new bool[120];
        foreach (PageRange range in ranges)
        {
            for (int i = 0; i < range.Count; i++)
            {
                int page = (int)range.Start.Value + i;
                Assert.That(bits[page], Is.False, "overlap");
                bits[page] = true;
            }
        }
        return bits;
    }
}
