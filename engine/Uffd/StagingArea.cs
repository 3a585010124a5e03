using Testbed.Core;
using Testbed.Uffd.Interop;
using static Testbed.Uffd.Interop.Native.Nr;

namespace Testbed.Uffd;

/// <summary>
/// A mapping inside the target into which pages are moved to be dropped there. The kernel moves only between areas of
/// the same access and
/// the same lock state, so there is one for each kind of area, one after the other.
/// </summary>
internal sealed class StagingArea
{
    /// <summary>64 MiB: a call moves many pages, and what a crash leaves behind is small.</summary>
    public const int PagesMax = 16384;

    private const int Huge = Pagemap.PagesPerHugePage;

    // Room to begin at a huge page's boundary, and one page at each end that keeps it from merging with a mapping of
    // the target's.
    private const long MappedPages = PagesMax + Huge + 2;

    private readonly RemoteCalls _calls;
    private readonly ChangeJournal? _journal;
    private readonly PageRange _mapped;

    private StagingArea(RemoteCalls calls, ChangeJournal? journal, PageRange mapped, int protection, bool isLocked)
    {
        (_calls, _journal, _mapped, Protection, IsLocked) = (calls, journal, mapped, protection, isLocked);
        // Should a child be forked after our death, it has no use for it.
        _ = calls.Call(__NR_madvise, mapped.Start.Address, (ulong)mapped.Bytes, Native.Mman.MADV_DONTFORK);
        // mlockall(MCL_FUTURE) locks whatever is mapped, and would fill it, too, with the next line.
        _ = calls.Call(__NR_munlock, mapped.Start.Address, (ulong)mapped.Bytes);
        PageNumber start = FirstPage(mapped);
        Range = new PageRange(start, SizeAfterProtecting(start));
    }

    /// <summary>PROT_READ, PROT_WRITE, PROT_EXEC of the pages it takes.</summary>
    public int Protection { get; }

    /// <summary>Whether it takes pages that are locked in memory.</summary>
    public bool IsLocked { get; }

    /// <summary>Where pages go; it begins at a huge page's boundary. Empty when it cannot be used.</summary>
    public PageRange Range { get; }

    /// <summary>Where pages go in a mapping made by <see cref="TryMap"/>.</summary>
    public static PageNumber FirstPage(PageRange mapped) => new((mapped.Start.Value + Huge) / Huge * Huge);

    /// <summary>Maps it.</summary>
    /// <returns>Null when the process may not have it: a limit of its own (address space, locked memory)
    /// refuses.</returns>
    public static StagingArea? TryMap(RemoteCalls calls, ChangeJournal? journal, int protection, bool isLocked)
    {
        const ulong Kind = Native.Mman.MAP_PRIVATE | Native.Mman.MAP_ANONYMOUS | Native.Mman.MAP_NORESERVE;
        long address = calls.Call(__NR_mmap, 0, (ulong)MappedPages << PageNumber.Shift, Native.Mman.PROT_NONE, Kind, ulong.MaxValue);
        if (address is < 0 and > -4096)
            return null;
        PageRange mapped = new(PageNumber.Of((ulong)address), MappedPages);
        journal?.Staging = mapped;
        StagingArea area = new(calls, journal, mapped, protection, isLocked);
        if (!area.Range.IsEmpty)
            return area;
        area.Unmap();
        return null;
    }

    private long SizeAfterProtecting(PageNumber start)
    {
        foreach (long pages in (ReadOnlySpan<long>)[PagesMax, Huge, 16])
        {
            ulong bytes = (ulong)pages << PageNumber.Shift;
            if (_calls.Call(__NR_mprotect, start.Address, bytes, (ulong)Protection) < 0)
                continue;
            // On fault: what is moved in is locked already, and the rest must stay empty.
            if (!IsLocked || _calls.Call(__NR_mlock2, start.Address, bytes, Native.Mman.MLOCK_ONFAULT) >= 0)
                return pages;
            _ = _calls.Call(__NR_mprotect, start.Address, bytes, Native.Mman.PROT_NONE);
        }
        return 0;
    }

    /// <summary>Drops its first pages.</summary>
    public void Drop(long pages)
    {
        int advice = IsLocked ? Native.Mman.MADV_DONTNEED_LOCKED : Native.Mman.MADV_DONTNEED;
        _ = _calls.Call(__NR_madvise, Range.Start.Address, (ulong)pages << PageNumber.Shift, (ulong)advice);
    }

    /// <summary>Takes it away. Should we die in between, an empty mapping is left, which is better than one of somebody
    /// else unmapped.</summary>
    public void Unmap()
    {
        _journal?.Staging = default;
        _ = _calls.Call(__NR_munmap, _mapped.Start.Address, (ulong)_mapped.Bytes);
    }
}
