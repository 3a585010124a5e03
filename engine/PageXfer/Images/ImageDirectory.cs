using Microsoft.Win32.SafeHandles;
using Testbed.Core;
using Testbed.PageXfer.Xfer;

namespace Testbed.PageXfer.Images;

/// <summary>
/// A directory of images as CRIU (format 1.1) or the testbed writes it: which processes, which areas, which pages.
/// Everything is checked when it is opened. Pages may be read from several threads at once.
/// </summary>
public sealed class ImageDirectory : IPageSource, IDisposable
{
    private const uint SupportedVersion = 2;

    // A state of two bits is kept for each page that is restored lazily: 64 MiB for a TiB, of which only what is used takes memory. Sanitizers
    // and runtimes reserve up to 20 TiB, all processes of a tree together.
    private const long LazyPagesMax = 1L << 33;

    private readonly Dictionary<uint, PageReader> _pages = [];
    private readonly Dictionary<uint, MmEntry> _layouts = [];
    private long _lazyPages;

    /// <summary>Where it is.</summary>
    public string Path { get; }

    /// <summary>What inventory.img says.</summary>
    public InventoryEntry Inventory { get; }

    /// <summary>The process tree, parents before children. Zombies are in it too; they have no memory.</summary>
    public IReadOnlyList<PstreeEntry> Processes { get; }

    /// <summary>Opens all images in a directory.</summary>
    /// <exception cref="BadInputException">An image is missing, malformed or does not fit the others.</exception>
    public static ImageDirectory Open(string path) => new(path);

    private ImageDirectory(string path)
    {
        Path = path;
        if (!Directory.Exists(path))
            throw new BadInputException($"{path}: no such directory; expected a directory of CRIU images");
        Inventory = ImageFile.ReadOne(In("inventory.img"), ImageMagic.Inventory, InventoryEntry.Parser);
        if (Inventory.ImgVersion != SupportedVersion)
            throw new BadInputException($"{In("inventory.img")}: img_version is {Inventory.ImgVersion}; expected {SupportedVersion}");
        Processes = ImageFile.ReadAll(In("pstree.img"), ImageMagic.Pstree, PstreeEntry.Parser);
        if (Processes.Count == 0)
            throw new BadInputException($"{In("pstree.img")}: no process; expected at least one");
        try
        {
            foreach (PstreeEntry process in Processes)
                Load(process.Pid);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>Whether a process of this pid has memory here.</summary>
    public bool HasMemory(uint pid) => _pages.ContainsKey(pid);

    /// <summary>The layout of a process's address space.</summary>
    /// <exception cref="BadInputException">No process of this pid has memory here.</exception>
    public MmEntry Layout(uint pid) => _layouts.TryGetValue(pid, out MmEntry? mm) ? mm : throw Unknown(pid);

    /// <summary>Whether there is an image of this thread's state.</summary>
    public bool HasCore(uint tid) => File.Exists(In($"core-{tid}.img"));

    /// <summary>What core-PID.img says of a process, zombies included: its name, whether it is alive.</summary>
    /// <exception cref="BadInputException">The image is missing or malformed.</exception>
    public CoreEntry Core(uint pid) => ImageFile.ReadOne(In($"core-{pid}.img"), ImageMagic.Core, CoreEntry.Parser);

    /// <summary>Which kernel objects a process shares with others: ids-PID.img.</summary>
    /// <exception cref="BadInputException">The image is missing or malformed.</exception>
    public KernelObjectIds Ids(uint pid) => ImageFile.ReadOne(In($"ids-{pid}.img"), ImageMagic.Ids, KernelObjectIds.Parser);

    /// <summary>The pages of a process.</summary>
    /// <exception cref="BadInputException">No process of this pid has memory here.</exception>
    public PageReader Pages(uint pid) => _pages.TryGetValue(pid, out PageReader? pages) ? pages : throw Unknown(pid);

    /// <inheritdoc/>
    public long Available(uint pid, PageRange range) => Pages(pid).Available(range);

    /// <inheritdoc/>
    public void ReadPages(uint pid, PageRange range, Span<byte> destination) => Pages(pid).Read(range, destination);

    /// <inheritdoc/>
    public long TryReadPages(uint pid, PageRange range, Span<byte> destination, out string? why) => Pages(pid).TryRead(range, destination, out why);

    /// <inheritdoc/>
    public long Locate(uint pid, PageNumber page, out SafeFileHandle? file, out long offset) => Pages(pid).Locate(page, out file, out offset);

    /// <summary>The areas of a process that fork wipes in a child (MADV_WIPEONFORK).</summary>
    /// <exception cref="BadInputException">No process of this pid has memory here.</exception>
    public IReadOnlyList<PageRange> WipedOnFork(uint pid)
    {
        const ulong WipeOnFork = 1 << 18;
        return [.. Layout(pid).Vmas.Where(vma => (vma.Madv & WipeOnFork) != 0).Select(RangeOf)];
    }

    /// <summary>
    /// What is restored lazily: the private anonymous areas, and the pages in them that the pagemap marks lazy, split
    /// at the borders of areas. Guard pages have no content, whatever the pagemap says.
    /// </summary>
    /// <exception cref="BadInputException">No process of this pid has memory here, or a lazy page is in no such area.</exception>
    public MemoryImage LazyMemory(uint pid)
    {
        var areas = new List<MemoryArea>();
        foreach (VmaEntry vma in Layout(pid).Vmas)
        {
            var status = (VmaStatus)vma.Status;
            if ((status & VmaStatus.AnonPrivate) == 0 || (status & VmaStatus.Guard) != 0)
                continue;
            string name = (status & VmaStatus.Heap) != 0 ? "[heap]" : (status & VmaStatus.Stack) != 0 ? "[stack]" : "";
            areas.Add(new MemoryArea(RangeOf(vma), name, (int)vma.Prot));
        }
        var present = new List<PageRange>();
        List<PageRange> guards = [.. Layout(pid).Vmas.Where(IsGuard).Select(RangeOf).OrderBy(range => range.Start.Value)];
        int a = 0;
        foreach (PageRange range in Pages(pid).RangesWith(PagemapFlags.Lazy))
        {
            for (PageNumber at = range.Start; at < range.End;)
            {
                while (a < areas.Count && areas[a].Range.End <= at)
                    a++;
                if (a == areas.Count || at < areas[a].Range.Start)
                    throw new BadInputException($"{In(PagemapId.Task(pid).FileName)}: lazy page {at} is in no private anonymous area of mm-{pid}.img");
                PageRange part = areas[a].Range.Intersect(PageRange.Between(at, range.End));
                AddWithout(guards, part, present);
                at = part.End;
            }
        }
        return new MemoryImage(areas, present);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (PageReader pages in _pages.Values)
            pages.Dispose();
    }

    private string In(string file) => System.IO.Path.Combine(Path, file);

    private BadInputException Unknown(uint pid) =>
        new($"{Path}: no memory of a process {pid}; expected one of {string.Join(", ", _pages.Keys)}");

    private void Load(uint pid)
    {
        string mm = In($"mm-{pid}.img");
        // A zombie has neither image. One without the other is an incomplete directory.
        if (!File.Exists(mm) && !File.Exists(In(PagemapId.Task(pid).FileName)))
            return;
        if (_pages.ContainsKey(pid))
            throw new BadInputException($"{In("pstree.img")}: process {pid} is there twice; expected it once");
        MmEntry layout = ImageFile.ReadOne(mm, ImageMagic.Mm, MmEntry.Parser);
        CheckAreas(mm, layout);
        _layouts.Add(pid, layout);
        _pages.Add(pid, PageReader.Open(Path, PagemapId.Task(pid)));
    }

    private static bool IsGuard(VmaEntry vma) => ((VmaStatus)vma.Status & VmaStatus.Guard) != 0;

    private static PageRange RangeOf(VmaEntry vma) => PageRange.Between(PageNumber.Of(vma.Start), PageNumber.Of(vma.End));

    private static void AddWithout(List<PageRange> guards, PageRange range, List<PageRange> to)
    {
        foreach (PageRange guard in guards)
        {
            if (guard.Intersect(range).IsEmpty)
                continue;
            if (range.Start < guard.Start)
                to.Add(PageRange.Between(range.Start, guard.Start));
            range = PageRange.Between(guard.End, range.End);
        }
        if (!range.IsEmpty)
            to.Add(range);
    }

    private void CheckAreas(string path, MmEntry layout)
    {
        ulong end = 0;
        foreach (VmaEntry vma in layout.Vmas)
        {
            if ((vma.Start < end && !IsGuard(vma)) || vma.End <= vma.Start)
                throw new BadInputException($"{path}: area 0x{vma.Start:x}-0x{vma.End:x}: empty, unsorted or overlapping; expected areas sorted by address");
            if ((vma.Start | vma.End) % PageNumber.Size != 0)
                throw new BadInputException($"{path}: area 0x{vma.Start:x}-0x{vma.End:x}: expected multiples of {PageNumber.Size}");
            if (IsGuard(vma))
                continue;
            end = vma.End;
            if (((VmaStatus)vma.Status & VmaStatus.AnonPrivate) != 0)
                _lazyPages += (long)((vma.End - vma.Start) >> PageNumber.Shift);
            if (_lazyPages > LazyPagesMax)
                throw new BadInputException($"{path}: area 0x{vma.Start:x}-0x{vma.End:x}: with it all private anonymous areas have {_lazyPages} pages; expected at most {LazyPagesMax} (32 TiB)");
        }
    }
}
