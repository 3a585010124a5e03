using Testbed.Core;

namespace Testbed.PageXfer.Images;

/// <summary>A run of pages in a pagemap.</summary>
/// <param name="Range">The pages, by address when dumped.</param>
/// <param name="Flags">Where they are.</param>
/// <param name="Offset">Byte offset in the pages file, when Present; -1 otherwise.</param>
public readonly record struct PagemapRun(PageRange Range, PagemapFlags Flags, long Offset);

/// <summary>A checked pagemap-N.img: runs sorted by address, without overlap.</summary>
public sealed class Pagemap
{
    // 57-bit virtual addresses (five-level page tables) are the widest there are.
    private const ulong MaxPages = 1ul << (57 - PageNumber.Shift);

    /// <summary>N of the pages-N.img that belongs to it.</summary>
    public uint PagesId { get; }

    /// <summary>The runs, sorted by address.</summary>
    public IReadOnlyList<PagemapRun> Runs => _runs;

    /// <summary>Bytes that the pages file must have: the Present pages.</summary>
    public long PagesBytes { get; }

    /// <summary>Whether any run is in the parent images.</summary>
    public bool NeedsParent { get; }

    private readonly List<PagemapRun> _runs = [];

    private Pagemap(string path)
    {
        using ImageFile.Records records = ImageFile.Open(path, ImageMagic.Pagemap);
        if (!records.TryRead(PagemapHead.Parser, out PagemapHead head))
            throw new BadInputException($"{path}: no record; expected a PagemapHead");
        PagesId = head.PagesId;
        PageNumber end = default;
        while (records.TryRead(PagemapEntry.Parser, out PagemapEntry entry))
        {
            PageRange range = CheckedRange(path, entry, end);
            end = range.End;
            PagemapFlags flags = FlagsOf(path, entry);
            bool present = (flags & PagemapFlags.Present) != 0;
            _runs.Add(new PagemapRun(range, flags, present ? PagesBytes : -1));
            if (present)
                PagesBytes += range.Bytes;
            NeedsParent |= (flags & PagemapFlags.Parent) != 0;
        }
    }

    /// <summary>Reads and checks a pagemap image.</summary>
    /// <exception cref="BadInputException">Missing, malformed, unsorted, overlapping or beyond the address space.</exception>
    public static Pagemap Read(string path) => new(path);

    private static PageRange CheckedRange(string path, PagemapEntry entry, PageNumber end)
    {
        // Images from before CRIU 4.0 count in the 32-bit field only.
        ulong pages = entry.HasNrPages ? entry.NrPages : entry.CompatNrPages;
        ulong first = entry.Vaddr >> PageNumber.Shift;
        if (entry.Vaddr % PageNumber.Size != 0)
            throw new BadInputException($"{path}: entry at 0x{entry.Vaddr:x}: vaddr is not a multiple of {PageNumber.Size}");
        if (pages == 0 || first >= MaxPages || pages > MaxPages - first)
            throw new BadInputException($"{path}: entry at 0x{entry.Vaddr:x}: nr_pages is {pages}; expected at least 1 and an end below 2^57");
        var range = new PageRange(new PageNumber(first), (long)pages);
        if (range.Start < end)
            throw new BadInputException($"{path}: entry {range} begins before the end of the last one, {end}; expected entries sorted and without overlap");
        return range;
    }

    private static PagemapFlags FlagsOf(string path, PagemapEntry entry)
    {
        // in_parent is older than flags; an entry with neither was present.
        PagemapFlags flags = entry.HasFlags ? (PagemapFlags)entry.Flags : PagemapFlags.None;
        if (entry.InParent)
            flags |= PagemapFlags.Parent;
        else if (!entry.HasFlags)
            flags = PagemapFlags.Present;
        const PagemapFlags Both = PagemapFlags.Parent | PagemapFlags.Present;
        if ((flags & Both) == Both)
            throw new BadInputException($"{path}: entry at 0x{entry.Vaddr:x}: flags {(uint)flags} say both in parent and present; expected one of them");
        return flags;
    }
}
