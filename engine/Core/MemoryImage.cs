namespace Testbed.Core;

/// <summary>A memory area that is restored lazily.</summary>
/// <param name="Range">Its pages, by address when the memory was dumped.</param>
/// <param name="Name">Its name as in /proc/PID/maps: <c>[heap]</c>, <c>[stack]</c>, or empty for a plain mapping.</param>
/// <param name="Protection">PROT_READ 1, PROT_WRITE 2, PROT_EXEC 4, or'ed.</param>
public readonly record struct MemoryArea(PageRange Range, string Name, int Protection);

/// <summary>
/// What is away when a restore begins: the registered areas, and within them the page ranges that are to be fetched.
/// A page of an area that is in no present range is a hole and is answered with a zero page. Both lists are sorted by address and do not
/// overlap.
/// </summary>
public sealed class MemoryImage
{
    /// <summary>The areas, sorted by address.</summary>
    public IReadOnlyList<MemoryArea> Areas { get; }

    /// <summary>The page ranges to fetch, sorted by address, each within one area.</summary>
    public IReadOnlyList<PageRange> Present { get; }

    /// <summary>Pages in all areas.</summary>
    public long TotalPages { get; }

    /// <summary>Pages to be fetched.</summary>
    public long PresentPages { get; }

    /// <summary>Checks order, overlap and containment.</summary>
    /// <exception cref="BadInputException">Unsorted, overlapping, empty or out-of-area ranges.</exception>
    public MemoryImage(IReadOnlyList<MemoryArea> areas, IReadOnlyList<PageRange> present)
    {
        Areas = areas;
        Present = present;
        PageNumber end = default;
        foreach (MemoryArea area in areas)
        {
            if (area.Range.IsEmpty || area.Range.Start < end || area.Range.End < area.Range.Start)
                throw new BadInputException($"area {area.Range}: empty, unsorted or overlapping; expected sorted areas of at least one page");
            end = area.Range.End;
            TotalPages += area.Range.Count;
        }
        end = default;
        int a = 0;
        foreach (PageRange range in present)
        {
            if (range.IsEmpty || range.Start < end || range.End < range.Start)
                throw new BadInputException($"present pages {range}: empty, unsorted or overlapping; expected sorted ranges of at least one page");
            while (a < areas.Count && areas[a].Range.End <= range.Start)
                a++;
            if (a == areas.Count || range.Start < areas[a].Range.Start || range.End > areas[a].Range.End)
                throw new BadInputException($"present pages {range}: not inside one area");
            end = range.End;
            PresentPages += range.Count;
        }
    }
}
