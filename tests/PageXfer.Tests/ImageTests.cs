using System.Runtime.InteropServices;
using Google.Protobuf;
using Testbed.Core;
using Testbed.PageXfer.Images;
using Testbed.PageXfer.Xfer;

namespace Testbed.PageXfer.Tests;

public sealed class ImageTests
{
    private Scratch _dir = null!;

    [SetUp]
    public void SetUp() => _dir = new Scratch();

    [TearDown]
    public void TearDown() => _dir.Dispose();

    [Test]
    public void PagemapGoldenBytes()
    {
        using (var sink = new LocalPageSink(_dir.Path, PagemapId.Task(7)))
        {
            sink.WritePagemap(new PageRange(new PageNumber(0x10), 2), PagemapFlags.Lazy | PagemapFlags.Present);
            sink.WritePages(new byte[2 * PageNumber.Size]);
            sink.WritePagemap(new PageRange(new PageNumber(0x12), 1), PagemapFlags.Lazy);
            sink.Complete();
        }
        // common magic, pagemap magic; {1: 1}; {1: 0x10000, 2: 0, 4: 6, 5: 2}; {1: 0x12000, 2: 0, 4: 2, 5: 1}
        Assert.That(Convert.ToHexString(File.ReadAllBytes(_dir["pagemap-7.img"])), Is.EqualTo(
            "19435654" + "25400856" + "02000000" + "0801" +
            "0A000000" + "08808004100020062802" + "0A000000" + "0880C004100020022801"));
        Assert.That(new FileInfo(_dir["pages-1.img"]).Length, Is.EqualTo(2 * PageNumber.Size));
    }

    [Test]
    public void OtherImagesGoldenBytes()
    {
        ProcessImages.Write(_dir.Path, new ProcessIdentity(5, 5, 4, [5, 6]), ProcessImages.NewLayout(
            [ProcessImages.NewArea(new PageRange(new PageNumber(1), 1), 3, true, false, 0, "[heap]")]));
        Assert.That(Convert.ToHexString(File.ReadAllBytes(_dir["inventory.img"])), Is.EqualTo(
            "16313158" + "06000000" + "080210012001"));
        Assert.That(Convert.ToHexString(File.ReadAllBytes(_dir["pstree.img"])), Is.EqualTo(
            "19435654" + "30302750" + "0C000000" + "0805" + "1000" + "1805" + "2004" + "2805" + "2806"));
        Assert.That(Convert.ToHexString(File.ReadAllBytes(_dir["mm-5.img"])), Is.EqualTo(
            "19435654" + "20284957" + "2D000000" +
            "08001000180020002800300038004000480050005800" + "6000" +
            "7213" + "088020" + "108040" + "1800" + "2000" + "2803" + "3022" + "38A104" + "4001"));
    }

    [Test]
    public void CoreIdsAndServiceFilesGoldenBytes()
    {
        ImageFile.Write(_dir["core-5.img"], ImageMagic.Core, new CoreEntry
        {
            Mtype = 1,
            Tc = new TaskCoreEntry { TaskState = 2, ExitCode = 7, Personality = 0, Flags = 0, BlkSigset = 0, Comm = "ab" },
            Ids = new KernelObjectIds { VmId = 1, FilesId = 2, FsId = 3, SighandId = 4, PidNsId = 5 },
        });
        ImageFile.Write(_dir["ids-5.img"], ImageMagic.Ids, new KernelObjectIds { VmId = 1, FilesId = 2, FsId = 3, SighandId = 4, TimeNsId = 9 });
        ImageFile.Write(_dir["stats-dump"], ImageMagic.Stats, new StatsEntry
        {
            Dump = new DumpStatsEntry { FreezingTime = 1, FrozenTime = 2, MemdumpTime = 3, MemwriteTime = 4, PagesScanned = 5, PagesSkippedParent = 6, PagesWritten = 7, PagesLazy = 8 },
        });
        Assert.That(Convert.ToHexString(File.ReadAllBytes(_dir["core-5.img"])), Is.EqualTo(
            "19435654" + "47380555" + "1E000000" + "0801" + "1A0E" + "0802" + "1007" + "1800" + "2000" + "2800" + "32026162" + "220A" + "08011002180320042805"));
        Assert.That(Convert.ToHexString(File.ReadAllBytes(_dir["ids-5.img"])), Is.EqualTo(
            "19435654" + "30204354" + "0A000000" + "08011002180320046009"));
        Assert.That(Convert.ToHexString(File.ReadAllBytes(_dir["stats-dump"])), Is.EqualTo(
            "40591055" + "06330957" + "12000000" + "0A10" + "08011002180320042805300638074808"));
        Assert.That(ImageFile.ReadOne(_dir["stats-dump"], ImageMagic.Stats, StatsEntry.Parser).Dump.PagesLazy, Is.EqualTo(8));
        AssertBad(() => ImageFile.ReadOne(_dir["stats-dump"], ImageMagic.Core, CoreEntry.Parser), "stats-dump: magic is 0x55105940", "expected 0x54564319");
    }

    [Test]
    public void TreeWithAZombieIsRead()
    {
        Sample.Write(_dir.Path);
        ImageFile.Write(_dir["pstree.img"], ImageMagic.Pstree,
            new PstreeEntry { Pid = Sample.Pid, Ppid = 0, Pgid = 42, Sid = 40 }, new PstreeEntry { Pid = 50, Ppid = Sample.Pid, Pgid = 42, Sid = 40 });
        ImageFile.Write(_dir["core-50.img"], ImageMagic.Core, new CoreEntry
        {
            Mtype = 1,
            Tc = new TaskCoreEntry { TaskState = 2, ExitCode = 7, Personality = 0, Flags = 0, BlkSigset = 0, Comm = "gone" },
        });
        using var images = ImageDirectory.Open(_dir.Path);
        Assert.That(images.Processes.Select(p => (p.Pid, images.HasMemory(p.Pid))), Is.EqualTo([(Sample.Pid, true), (50u, false)]));
        Assert.That(images.Core(50).Tc.TaskState, Is.EqualTo(2));
        Assert.That(images.Core(Sample.Pid).Tc.Comm, Is.Empty);
        AssertBad(() => images.Layout(50), "no memory of a process 50");
        AssertBad(() => images.Ids(50), "ids-50.img");
    }

    [Test]
    public void WhatIsWrittenIsRead()
    {
        Sample.Write(_dir.Path);
        using var images = ImageDirectory.Open(_dir.Path);
        Assert.That(images.Processes.Select(p => p.Pid), Is.EqualTo([Sample.Pid]));
        Assert.That(images.Processes[0].Threads, Is.EqualTo([42u, 43u, 44u]));
        Assert.That(images.Layout(Sample.Pid).Vmas, Has.Count.EqualTo(4));
        foreach (PageRange range in Sample.Present)
        {
            var bytes = new byte[range.Bytes];
            images.ReadPages(Sample.Pid, range, bytes);
            Assert.That(bytes.AsSpan().SequenceEqual(Sample.Content(range)), Is.True);
        }
        Assert.That(images.Available(Sample.Pid, new PageRange(Sample.Heap + 50, 10_000)), Is.EqualTo(550));
        Assert.That(images.Available(Sample.Pid, new PageRange(Sample.Arena + 49, 10)), Is.EqualTo(1));
        Assert.That(images.Available(Sample.Pid, new PageRange(Sample.Arena + 50, 10)), Is.Zero);
        Assert.That(images.Available(Sample.Pid, new PageRange(new PageNumber(0), 10)), Is.Zero);
        Assert.That(Directory.GetFiles(_dir.Path, "*.tmp"), Is.Empty);
    }

    [Test]
    public void LazyMemoryIsSplitAtAreaBorders()
    {
        Sample.Write(_dir.Path);
        using var images = ImageDirectory.Open(_dir.Path);
        MemoryImage memory = images.LazyMemory(Sample.Pid);
        Assert.That(memory.Areas.Select(a => a.Name), Is.EqualTo(["[heap]", "", ""]));
        Assert.That(memory.Present, Is.EqualTo(Sample.Present));
    }

    /// <summary>As CRIU 4.2 writes them: behind all areas, within areas, and with nothing but their ends and their
    /// kind.</summary>
    [Test]
    public void Guard_pages_have_no_content_and_no_order_when_an_image_lists_them()
    {
        Sample.Write(_dir.Path);
        PageRange inHeap = new(Sample.Heap + 20, 3), overBorder = new(Sample.Heap + 98, 4), inHole = new(Sample.Arena + 60, 1);
        List<byte> mm = [.. File.ReadAllBytes(_dir["mm-42.img"])];
        foreach (PageRange guard in (PageRange[])[inHole, overBorder, inHeap])
        {
            List<byte> entry = [];
            // start, end, pgoff, shmid, prot, flags, status, fd -1 (zigzag)
            ulong[] values = [guard.Start.Address, guard.End.Address, 0, 0, 0, 0, 1 << 16, 1];
            for (int field = 0; field < values.Length; field++)
                entry.AddRange([(byte)((field + 1) << 3), .. Varint(values[field])]);
            mm.AddRange([0x72, .. Varint((ulong)entry.Count), .. entry]);
        }
        // The length of the record, behind the two magic words.
        BitConverter.GetBytes(mm.Count - 12).CopyTo(CollectionsMarshal.AsSpan(mm)[8..]);
        File.WriteAllBytes(_dir["mm-42.img"], [.. mm]);
        using var images = ImageDirectory.Open(_dir.Path);
        MemoryImage memory = images.LazyMemory(Sample.Pid);
        Assert.That(memory.Areas, Has.Count.EqualTo(3));
        Assert.That(memory.Present, Is.EqualTo(new PageRange[]
        {
            new(Sample.Heap, 20), new(Sample.Heap + 23, 75), new(Sample.Heap + 102, 498), new(Sample.Arena, 50), new(Sample.Arena + 150, 150),
        }));
    }

    [Test]
    public void Areas_that_fork_wipes_are_known_from_their_advice()
    {
        Sample.Write(_dir.Path);
        MmEntry layout = ImageFile.ReadOne(_dir["mm-42.img"], ImageMagic.Mm, MmEntry.Parser);
        layout.Vmas[1].Madv = (1 << 18) | (1 << 16);
        layout.Vmas[3].Madv = 1 << 10;
        ImageFile.Write(_dir["mm-42.img"], ImageMagic.Mm, layout);
        using var images = ImageDirectory.Open(_dir.Path);
        Assert.That(images.WipedOnFork(Sample.Pid), Is.EqualTo(new[] { new PageRange(Sample.Heap, 100) }));
    }

    private static byte[] Varint(ulong value)
    {
        List<byte> bytes = [];
        for (; value >= 0x80; value >>= 7)
            bytes.Add((byte)(value | 0x80));
        return [.. bytes, (byte)value];
    }

    [Test]
    public void ParentChainIsResolved()
    {
        string first = Directory.CreateDirectory(_dir["1"]).FullName;
        string second = Directory.CreateDirectory(_dir["2"]).FullName;
        string third = Directory.CreateDirectory(_dir["3"]).FullName;
        Sample.Write(first);
        File.CreateSymbolicLink(Path.Combine(second, "parent"), "../1");
        File.CreateSymbolicLink(Path.Combine(third, "parent"), "../2");
        foreach ((string dir, int version) in new[] { (second, 2), (third, 3) })
        {
            using var sink = new LocalPageSink(dir, PagemapId.Task(Sample.Pid));
            Assert.That(sink.HasParent, Is.True);
            // Page 100 + version is new, all around it is as before, across the border of two runs.
            var changed = PageRange.Single(Sample.Heap + 100 + version);
            sink.WritePagemap(new PageRange(Sample.Heap, 100 + version), PagemapFlags.Parent | PagemapFlags.Lazy);
            sink.WritePagemap(changed, PagemapFlags.Present | PagemapFlags.Lazy);
            sink.WritePages(Sample.Content(changed, version));
            sink.WritePagemap(PageRange.Between(changed.End, Sample.Heap + 600), PagemapFlags.Parent | PagemapFlags.Lazy);
            sink.Complete();
            Sample.WriteOthers(dir);
        }
        using var images = ImageDirectory.Open(third);
        var heap = new PageRange(Sample.Heap, 600);
        Assert.That(images.Available(Sample.Pid, heap), Is.EqualTo(600));
        var bytes = new byte[heap.Bytes];
        images.ReadPages(Sample.Pid, heap, bytes);
        for (int i = 0; i < 600; i++)
        {
            int version = i is 102 or 103 ? i - 100 : 0;
            byte[] expected = Sample.Content(PageRange.Single(Sample.Heap + i), version);
            Assert.That(bytes.AsSpan(i * PageNumber.Size, PageNumber.Size).SequenceEqual(expected), Is.True, $"page {i}");
        }
    }

    [Test]
    public void ParentRangeThatParentLacksIsRefused()
    {
        string first = Directory.CreateDirectory(_dir["1"]).FullName;
        string second = Directory.CreateDirectory(_dir["2"]).FullName;
        Sample.Write(first);
        File.CreateSymbolicLink(Path.Combine(second, "parent"), "../1");
        using (var sink = new LocalPageSink(second, PagemapId.Task(Sample.Pid)))
            AssertBad(() => sink.WritePagemap(new PageRange(Sample.Heap, 601), PagemapFlags.Parent), "parent");
        Assert.That(Directory.GetFiles(second, "pag*"), Is.Empty, "nothing half-written");
    }

    [Test]
    public void ParentLoopIsRefused()
    {
        File.CreateSymbolicLink(_dir["parent"], ".");
        WritePagemap(new PagemapEntry { Vaddr = 0x1000, CompatNrPages = 0, NrPages = 1, Flags = 1 });
        AssertBad(() => PageReader.Open(_dir.Path, PagemapId.Task(1)), "loop");
    }

    [Test]
    public void OldPagemapEntriesAreUnderstood()
    {
        WritePagemap(
            new PagemapEntry { Vaddr = 0x1000, CompatNrPages = 3 },
            new PagemapEntry { Vaddr = 0x9000, CompatNrPages = 2, InParent = true });
        Pagemap pagemap = Pagemap.Read(_dir["pagemap-1.img"]);
        Assert.That(pagemap.Runs, Is.EqualTo(new[]
        {
            new PagemapRun(new PageRange(new PageNumber(1), 3), PagemapFlags.Present, 0),
            new PagemapRun(new PageRange(new PageNumber(9), 2), PagemapFlags.Parent, -1),
        }));
    }

    [Test]
    public void LazyOnlyEntriesTakeNoRoomInPages()
    {
        WritePagemap(
            new PagemapEntry { Vaddr = 0x1000, CompatNrPages = 0, NrPages = 3, Flags = 2 },
            new PagemapEntry { Vaddr = 0x4000, CompatNrPages = 0, NrPages = 1, Flags = 4 });
        File.WriteAllBytes(_dir["pages-1.img"], Sample.Content(PageRange.Single(new PageNumber(4))));
        using PageReader pages = PageReader.Open(_dir.Path, PagemapId.Task(1));
        Assert.That(pages.Available(new PageRange(new PageNumber(3), 2)), Is.Zero);
        var bytes = new byte[PageNumber.Size];
        pages.Read(PageRange.Single(new PageNumber(4)), bytes);
        Assert.That(bytes, Is.EqualTo(Sample.Content(PageRange.Single(new PageNumber(4)))));
        AssertBad(() => pages.Read(PageRange.Single(new PageNumber(3)), bytes), "not in the images");
    }

    [Test]
    public void UnknownFieldsSurvive()
    {
        // Field 13 (a string) and 99 (a number) are not in our inventory.
        byte[] record = [0x08, 0x02, 0x6a, 0x03, (byte)'r', (byte)'u', (byte)'n', 0x98, 0x06, 0x05];
        InventoryEntry entry = InventoryEntry.Parser.ParseFrom(record);
        ImageFile.Write(_dir["inventory.img"], ImageMagic.Inventory, entry);
        InventoryEntry again = ImageFile.ReadOne(_dir["inventory.img"], ImageMagic.Inventory, InventoryEntry.Parser);
        Assert.That(again.ToByteArray(), Is.EqualTo(record));
    }

    [TestCase(0x1001ul, 1ul, "multiple")]
    [TestCase(0x1000ul, 0ul, "nr_pages")]
    [TestCase(0x1000ul, ulong.MaxValue, "nr_pages")]
    [TestCase(0xfffffffffffff000ul, 2ul, "nr_pages")]
    [TestCase(0x1000ul, 1ul << 40, "pages-1.img")]
    public void AbsurdEntriesAreRefused(ulong vaddr, ulong pages, string says)
    {
        WritePagemap(new PagemapEntry { Vaddr = vaddr, CompatNrPages = 0, NrPages = pages, Flags = 4 });
        File.WriteAllBytes(_dir["pages-1.img"], new byte[PageNumber.Size]);
        AssertBad(() => PageReader.Open(_dir.Path, PagemapId.Task(1)), says);
    }

    [TestCase(0x3000ul, TestName = "unsorted")]
    [TestCase(0x5000ul, TestName = "overlapping")]
    public void DisorderIsRefused(ulong second)
    {
        WritePagemap(
            new PagemapEntry { Vaddr = 0x4000, CompatNrPages = 0, NrPages = 2, Flags = 2 },
            new PagemapEntry { Vaddr = second, CompatNrPages = 0, NrPages = 2, Flags = 2 });
        AssertBad(() => PageReader.Open(_dir.Path, PagemapId.Task(1)), "sorted and without overlap");
    }

    [Test]
    public void PagesFileTooShortIsRefused()
    {
        Sample.Write(_dir.Path);
        using (FileStream pages = File.OpenWrite(_dir["pages-1.img"]))
            pages.SetLength(pages.Length - 1);
        AssertBad(() => ImageDirectory.Open(_dir.Path), "pages-1.img: has");
    }

    [TestCase("inventory.img", "0x58313116")]
    [TestCase("pstree.img", "0x50273030")]
    [TestCase("mm-42.img", "0x57492820")]
    [TestCase("pagemap-42.img", "0x56084025")]
    public void WrongMagicIsNamed(string file, string expected)
    {
        Sample.Write(_dir.Path);
        byte[] bytes = File.ReadAllBytes(_dir[file]);
        bytes[file == "inventory.img" ? 0 : 4] ^= 1;
        File.WriteAllBytes(_dir[file], bytes);
        AssertBad(() => ImageDirectory.Open(_dir.Path), $"{file}: magic is", expected);
    }

    [TestCase("inventory.img")]
    [TestCase("pstree.img")]
    [TestCase("mm-42.img")]
    [TestCase("pagemap-42.img")]
    [TestCase("pages-1.img")]
    public void MissingFileIsNamed(string file)
    {
        Sample.Write(_dir.Path);
        File.Delete(_dir[file]);
        AssertBad(() => ImageDirectory.Open(_dir.Path), file);
    }

    [Test]
    public void SinkRefusesDisorderAndLeavesNothing()
    {
        using (var sink = new LocalPageSink(_dir.Path, PagemapId.Task(1)))
        {
            sink.WritePagemap(new PageRange(new PageNumber(9), 1), PagemapFlags.Present);
            AssertBad(() => sink.WritePagemap(new PageRange(new PageNumber(10), 1), PagemapFlags.Lazy), "missing");
            AssertBad(() => sink.WritePages(new byte[PageNumber.Size + 1]), "at most");
            AssertBad(sink.Complete, "missing");
            sink.WritePages(new byte[PageNumber.Size]);
            AssertBad(() => sink.WritePagemap(new PageRange(new PageNumber(9), 1), PagemapFlags.Lazy), "sorted");
        }
        Assert.That(Directory.GetFileSystemEntries(_dir.Path), Is.Empty);
    }

    [Test]
    public void PagesFileOfEarlierDumpIsNotTouched()
    {
        File.WriteAllText(_dir["pages-1.img"], "old");
        Sample.Write(_dir.Path);
        Assert.That(File.ReadAllText(_dir["pages-1.img"]), Is.EqualTo("old"));
        using var images = ImageDirectory.Open(_dir.Path);
        Assert.That(images.Pages(Sample.Pid).Pagemap.PagesId, Is.EqualTo(2));
    }

    private void WritePagemap(params PagemapEntry[] entries) =>
        ImageFile.Write(_dir["pagemap-1.img"], ImageMagic.Pagemap, [new PagemapHead { PagesId = 1 }, .. entries]);

    private static void AssertBad(Action action, params string[] says)
    {
        BadInputException e = Assert.Throws<BadInputException>(() => action())!;
        foreach (string text in says)
            Assert.That(e.Message, Does.Contain(text));
        Assert.That(e.Message, Does.Not.Contain('\n'));
    }
}
