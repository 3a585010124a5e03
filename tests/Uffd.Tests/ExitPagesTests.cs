using System.Buffers.Binary;
using NUnit.Framework;
using Testbed.Core;

namespace Testbed.Uffd.Tests;

/// <summary>The pages that the kernel touches when a thread ends, found one after the other as their content
/// comes.</summary>
public sealed class ExitPagesTests
{
    private readonly Dictionary<ulong, byte[]> _memory = [];

    [SetUp]
    public void Clear() => _memory.Clear();

    [Test]
    public void A_list_of_robust_mutexes_is_followed_from_page_to_page()
    {
        const ulong Head = 0x10_0008, Offset = unchecked((ulong)-32L);
        Put(Head, 0x20_0100);
        Put(Head + 8, Offset);
        Put(Head + 16, 0x50_0020);
        // Over a page border, with the bit that tells priority inheritance, and its futex on the page before.
        Put(0x20_0100, 0x30_0ffd);
        Put(0x30_0ffc, 0x40_0010);
        Put(0x40_0010, Head);
        var pages = new ExitPages([new ThreadExit(0, 0x60_0ffe, Head, 0x70_0000, 32)], (_, _) => null);
        Assert.That(Found(pages, isMissing: true), Is.EquivalentTo((ulong[])[0x100, 0x200, 0x300, 0x301, 0x3ff, 0x400, 0x500, 0x600, 0x601, 0x700]));
    }

    [Test]
    public void What_is_not_missing_is_read_here()
    {
        Put(0x10_0000, 0x20_0000);
        Put(0x20_0000, 0x30_0000);
        Put(0x30_0000, 0x10_0000);
        var pages = new ExitPages([new ThreadExit(0, 0, 0x10_0000, 0, 0)], (_, page) => Page(page.Value));
        Assert.That(Found(pages, isMissing: false), Is.EquivalentTo((ulong[])[0x100, 0x200, 0x300]));
    }

    [TestCase(0x20_0000ul, 0x20_0000ul, TestName = "Garbage ends: a node that is its own next")]
    [TestCase(0x20_0000ul, 0ul, TestName = "Garbage ends: a node without a next")]
    [TestCase(0xffff_ffff_ffff_f000ul, 0ul, TestName = "Garbage ends: an address of the kernel")]
    [TestCase(1ul, 0ul, TestName = "Garbage ends: nothing but the bit")]
    public void GarbageEnds(ulong first, ulong next)
    {
        Put(0x10_0000, first);
        Put(0x10_0008, ulong.MaxValue);
        Put(0x10_0010, 3);
        Put(0x20_0000, next);
        Assert.That(Found(new ExitPages([new ThreadExit(0, 0, 0x10_0000, 0, 0)], (_, _) => null), isMissing: true), Has.Count.LessThan(5));
    }

    [Test]
    public void A_list_without_end_is_followed_as_far_as_the_kernel_goes()
    {
        Put(0x10_0000, 0x1000_0000);
        for (ulong node = 0; node < 3000; node++)
            Put(0x1000_0000 + node * 0x1000, 0x1000_0000 + (node + 1) * 0x1000);
        Assert.That(Found(new ExitPages([new ThreadExit(0, 0, 0x10_0000, 0, 0)], (_, _) => null), isMissing: true), Has.Count.EqualTo(2049));
    }

    private static List<ulong> Drain(ExitPages pages)
    {
        List<ulong> taken = [];
        while (pages.TryTake(out _, out PageNumber page))
            taken.Add(page.Value);
        return taken;
    }

    private List<ulong> Found(ExitPages pages, bool isMissing)
    {
        List<ulong> all = [];
        for (List<ulong> next = Drain(pages); next.Count > 0; next = Drain(pages))
        {
            all.AddRange(next);
            foreach (ulong page in next)
            {
                if (!isMissing)
                    pages.IsHere(0, new PageNumber(page));
                else if (pages.Awaits(0, new PageNumber(page)))
                    pages.Came(0, new PageNumber(page), Page(page));
            }
        }
        Assert.That(pages.IsWaiting, Is.False);
        return all;
    }

    private byte[] Page(ulong page) => _memory.TryGetValue(page, out byte[]? bytes) ? bytes : _memory[page] = new byte[PageNumber.Size];

    private void Put(ulong address, ulong value)
    {
        Span<byte> bytes = stackalloc byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, value);
        for (int i = 0; i < bytes.Length; i++)
            Page((address + (ulong)i) >> PageNumber.Shift)[(address + (ulong)i) % PageNumber.Size] = bytes[i];
    }
}
