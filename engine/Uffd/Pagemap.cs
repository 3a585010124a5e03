using Testbed.Core;
using Testbed.Uffd.Interop;

namespace Testbed.Uffd;

/// <summary>
/// Which pages of a process exist: in memory or in swap. The shared zero page is excluded where the kernel tells, and
/// so are guard pages
/// (MADV_GUARD_INSTALL): the kernel keeps them where it keeps swapped pages, but there is no content behind them.
/// </summary>
internal sealed class Pagemap : IDisposable
{
    private const ulong PresentBit = 1ul << 63, SwappedBit = 1ul << 62, GuardBit = 1ul << 58;

    /// <summary>How many pages one huge page takes the place of.</summary>
    public const int PagesPerHugePage = 512;

    private readonly int _fd;
    private readonly bool _canScan;

    // 0 where the kernel does not know guard pages (before Linux 6.14) or does not report them (before 6.17).
    private readonly ulong _guardCategory;

    /// <summary>Opens the page map of a process.</summary>
    /// <param name="pid">The process.</param>
    /// <param name="useScan">Whether to use PAGEMAP_SCAN (Linux 6.7) where there is one.</param>
    public Pagemap(int pid, bool useScan = true)
    {
        _fd = Native.Open($"/proc/{pid}/pagemap", Native.Fcntl.O_RDONLY | Native.Fcntl.O_CLOEXEC);
        if (_fd < 0 && (Native.Errno is Native.E.ESRCH or Native.E.ENOENT))
            throw new TargetGoneException($"process {pid} is gone");
        if (_fd < 0)
            throw new BadInputException($"/proc/{pid}/pagemap: {Native.Describe(Native.Errno)}; a running process that this user may inspect is expected");
        _canScan = useScan && IsScanKnown(_fd);
        _guardCategory = _canScan && IsScanKnown(_fd, Native.PagemapGuard.PAGE_IS_GUARD) ? Native.PagemapGuard.PAGE_IS_GUARD : 0;
    }

    /// <summary>Whether this kernel knows PAGEMAP_SCAN, with this category.</summary>
    public static unsafe bool IsScanKnown(int pagemap, ulong category = 0)
    {
        Native.PmScanArg empty = new() { size = (ulong)sizeof(Native.PmScanArg), start = 0, end = 0, return_mask = category };
        return Native.Ioctl(pagemap, Native.PagemapScan.PAGEMAP_SCAN, &empty) >= 0;
    }

    /// <summary>Appends the existing pages of <paramref name="range"/>, as runs by address.</summary>
    /// <param name="range">Where to look.</param>
    /// <param name="present">Takes the runs.</param>
    /// <param name="zeroPages">Whether the shared zero page counts as an existing one, too.</param>
    public void Scan(PageRange range, List<PageRange> present, bool zeroPages = false)
    {
        if (_canScan)
            ScanByIoctl(range, present, zeroPages);
        else
            ScanByRead(range, present);
    }

    /// <summary>Whether the kernel tells which pages are guard pages, so that <see cref="ScanGuards"/> finds
    /// them.</summary>
    public bool KnowsGuards => _guardCategory != 0;

    /// <summary>Finds guard pages of a range. Allocates nothing and does not throw: of memory that is gone there are
    /// none.</summary>
    /// <param name="range">Where to look.</param>
    /// <param name="guards">Room for what is found.</param>
    /// <param name="scanned">Up to where it looked: the end of the range, unless there was no room for more.</param>
    /// <returns>How many runs of guard pages were found.</returns>
    public unsafe int ScanGuards(PageRange range, Span<PageRange> guards, out PageNumber scanned)
    {
        const int Batch = 32;
        Native.PageRegion* regions = stackalloc Native.PageRegion[Batch];
        Native.PmScanArg scan = new()
        {
            size = (ulong)sizeof(Native.PmScanArg),
            start = range.Start.Address,
            end = range.End.Address,
            vec = (ulong)regions,
            vec_len = (ulong)Math.Min(Batch, guards.Length),
            category_mask = _guardCategory,
            return_mask = _guardCategory,
        };
        scanned = range.End;
        int n = KnowsGuards ? Native.Ioctl(_fd, Native.PagemapScan.PAGEMAP_SCAN, &scan) : 0;
        if (n <= 0)
            return 0;
        scanned = PageNumber.Of(scan.walk_end);
        for (int i = 0; i < n; i++)
            guards[i] = PageRange.Between(PageNumber.Of(regions[i].start), PageNumber.Of(regions[i].end));
        return n;
    }

    private unsafe void ScanByIoctl(PageRange range, List<PageRange> present, bool zeroPages)
    {
        const int Batch = 512;
        Native.PageRegion* regions = stackalloc Native.PageRegion[Batch];
        const ulong Exists = Native.PagemapScan.PAGE_IS_PRESENT | Native.PagemapScan.PAGE_IS_SWAPPED;
        ulong noContent = (zeroPages ? 0 : Native.PagemapScan.PAGE_IS_PFNZERO) | _guardCategory;
        Native.PmScanArg scan = new()
        {
            size = (ulong)sizeof(Native.PmScanArg),
            start = range.Start.Address,
            end = range.End.Address,
            vec = (ulong)regions,
            vec_len = Batch,
            category_anyof_mask = Exists,
            return_mask = Exists | noContent,
        };
        while (scan.start < scan.end)
        {
            int n = Native.Ioctl(_fd, Native.PagemapScan.PAGEMAP_SCAN, &scan);
            if (n < 0)
                throw new TargetGoneException($"PAGEMAP_SCAN of {range}: {Native.Describe(Native.Errno)}");
            for (int i = 0; i < n; i++)
            {
                if ((regions[i].categories & noContent) == 0)
                    Append(present, PageRange.Between(PageNumber.Of(regions[i].start), PageNumber.Of(regions[i].end)));
            }
            scan.start = scan.walk_end;
        }
    }

    /// <summary>Whether a huge page is mapped whole at <paramref name="page"/>, which is the first of a huge page's place.</summary>
    public unsafe bool IsHuge(PageNumber page)
    {
        if (!_canScan || page.Value % PagesPerHugePage != 0)
            return false;
        Native.PageRegion region;
        Native.PmScanArg scan = new()
        {
            size = (ulong)sizeof(Native.PmScanArg),
            start = page.Address,
            end = (page + PagesPerHugePage).Address,
            vec = (ulong)&region,
            vec_len = 1,
            category_mask = Native.PagemapScan.PAGE_IS_HUGE,
            return_mask = Native.PagemapScan.PAGE_IS_HUGE,
        };
        return Native.Ioctl(_fd, Native.PagemapScan.PAGEMAP_SCAN, &scan) == 1 && region.start == scan.start && region.end == scan.end;
    }

    private unsafe void ScanByRead(PageRange range, List<PageRange> present)
    {
        Span<ulong> entries = new ulong[4096];
        for (PageNumber page = range.Start; page < range.End;)
        {
            int wanted = (int)Math.Min(entries.Length, range.End - page);
            fixed (ulong* p = entries)
            {
                nint got = Native.Pread(_fd, p, wanted * sizeof(ulong), (long)page.Value * sizeof(ulong));
                if (got < wanted * sizeof(ulong))
                    throw new TargetGoneException($"pagemap of {range}: {(got < 0 ? Native.Describe(Native.Errno) : "shorter than the range")}");
            }
            for (int i = 0; i < wanted; i++)
            {
                if ((entries[i] & (PresentBit | SwappedBit)) != 0 && (entries[i] & GuardBit) == 0)
                    Append(present, PageRange.Single(page + i));
            }
            page += wanted;
        }
    }

    private static void Append(List<PageRange> runs, PageRange range)
    {
        if (runs.Count > 0 && runs[^1].End == range.Start)
            runs[^1] = runs[^1] with { Count = runs[^1].Count + range.Count };
        else
            runs.Add(range);
    }

    /// <summary>Closes the page map.</summary>
    public void Dispose() => _ = Native.Close(_fd);
}
