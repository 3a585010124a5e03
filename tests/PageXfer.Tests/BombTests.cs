using System.Buffers.Binary;
using Google.Protobuf;
using Testbed.Core;
using Testbed.PageXfer.Images;

namespace Testbed.PageXfer.Tests;

/// <summary>Images that claim far more than they hold: one line says so, and no room was made for it.</summary>
public sealed class BombTests
{
    private Scratch _dir = null!;

    [SetUp]
    public void SetUp()
    {
        _dir = new Scratch();
        Sample.Write(_dir.Path);
    }

    [TearDown]
    public void TearDown() => _dir.Dispose();

    [TestCase(0x1000UL << 16, 0x7ffffffff000UL)]
    [TestCase(0x1000UL << 16, 0xfffffffffffff000UL)]
    [TestCase(1UL << 63, 0xfffffffffffff000UL)]
    public void Images_are_refused_when_an_area_is_the_whole_address_space(ulong start, ulong end)
    {
        AddArea(start, end);
        Refused("private anonymous areas");
    }

    /// <summary>Reserved and not used, as sanitizers and Java do.</summary>
    [Test]
    public void Images_are_taken_when_an_area_has_sixteen_tebibytes()
    {
        AddArea(0x0100_0000_0000, 0x0100_0000_0000 + (16UL << 40), before: true);
        using ImageDirectory images = ImageDirectory.Open(_dir.Path);
        Assert.That(images.LazyMemory(Sample.Pid).TotalPages, Is.GreaterThan((16L << 40) / PageNumber.Size));
    }

    [Test]
    public void Image_is_refused_when_it_holds_millions_of_empty_messages()
    {
        // An empty message takes two bytes in the file, and a hundred when it was read.
        var record = new byte[40 << 20];
        byte tag = (byte)(MmEntry.VmasFieldNumber << 3 | 2);
        for (int i = 0; i < record.Length; i += 2)
            record[i] = tag;
        using (FileStream file = File.Create(_dir[$"mm-{Sample.Pid}.img"]))
        {
            ImageFile.WriteHead(file, ImageMagic.Mm);
            var length = new byte[4];
            BinaryPrimitives.WriteInt32LittleEndian(length, record.Length);
            file.Write(length);
            file.Write(record);
        }
        Refused("fields in");
    }

    [Test]
    public void Images_are_refused_when_a_directory_is_its_own_parent()
    {
        _ = Directory.CreateSymbolicLink(_dir["parent"], ".");
        string path = _dir[PagemapId.Task(Sample.Pid).FileName];
        using (FileStream file = File.Open(path, FileMode.Append))
            ImageFile.WriteRecord(file, new PagemapEntry { Vaddr = 0x7fff_0000_0000, CompatNrPages = 1, NrPages = 1, Flags = (uint)PagemapFlags.Parent });
        Refused("its own parent");
    }

    /// <summary>A pagemap of some bytes can claim pages up to the end of the address space, if their file is as long: a hole in it is.</summary>
    [Test]
    public void Pages_that_are_a_hole_in_a_file_take_no_memory()
    {
        const long pages = 1L << 30;
        using (FileStream file = File.Create(_dir["pages-9.img"]))
        {
            try
            {
                file.SetLength(pages * PageNumber.Size);
            }
            catch (IOException e)
            {
                Assert.Ignore($"SKIPPED: no file of 4 TiB can be made here ({e.Message})");
            }
        }
        ImageFile.Write(_dir["pagemap-42.img"], ImageMagic.Pagemap, new PagemapHead { PagesId = 9 },
            new PagemapEntry { Vaddr = 0x10000, CompatNrPages = 0, NrPages = pages, Flags = (uint)PagemapFlags.Present });
        long before = GC.GetAllocatedBytesForCurrentThread();
        using PageReader reader = PageReader.Open(_dir.Path, PagemapId.Task(42));
        Assert.That(reader.Available(new PageRange(new PageNumber(16), pages)), Is.EqualTo(pages));
        Assert.That(GC.GetAllocatedBytesForCurrentThread() - before, Is.LessThan(1 << 20));
    }

    private void AddArea(ulong start, ulong end, bool before = false)
    {
        string path = _dir[$"mm-{Sample.Pid}.img"];
        MmEntry mm = ImageFile.ReadOne(path, ImageMagic.Mm, MmEntry.Parser);
        VmaEntry huge = mm.Vmas[^1].Clone();
        (huge.Start, huge.End) = (start, end);
        VmaEntry[] others = [.. mm.Vmas.Where(v => v.End <= start || (before && v.Start >= end))];
        mm.Vmas.Clear();
        mm.Vmas.AddRange(others.Append(huge).OrderBy(v => v.Start));
        ImageFile.Write(path, ImageMagic.Mm, mm);
    }

    private void Refused(string says)
    {
        long before = GC.GetAllocatedBytesForCurrentThread();
        BadInputException e = Assert.Throws<BadInputException>(() =>
        {
            using ImageDirectory images = ImageDirectory.Open(_dir.Path);
            _ = images.LazyMemory(Sample.Pid);
        })!;
        Assert.That(e.Message, Does.Contain(says).And.Not.Contain("\n"));
        Assert.That(GC.GetAllocatedBytesForCurrentThread() - before, Is.LessThan(100L << 20), "bytes allocated");
    }
}
