using Testbed.Core;

namespace Testbed.Policies;

/// <summary>Which of Linux's rules.</summary>
public enum ReadaheadRules
{
    /// <summary>Swap readahead by virtual address.</summary>
    Swap,

    /// <summary>Read-around of mapped files.</summary>
    File,

    /// <summary>Readahead of files read in sequence, or mapped with MADV_SEQUENTIAL.</summary>
    Sequential,
}

/// <summary>
/// What Linux reads around a fault. Swap: a window per VMA of hits + 2 pages, rounded up to a power of two of at least 4;
/// without hits, 2 pages next to the last fault and 1 elsewhere; never less than half the last window; ahead of an
/// ascending fault, behind a descending one, around any other; within the VMA and the 2 MiB of the page table. A VMA
/// starts with 4 hits. File: the block of 1 &lt;&lt; cluster pages around the fault, half of it before. Sequential: from the
/// second of two neighbouring faults on a window ahead, of 4 pages (2 where the largest has less than 32) and then twice the last, up
/// to the largest; nothing on other faults.
/// </summary>
/// <remarks>
/// Mapped: swap-cache hits make no event under userfaultfd; when the next fault lies right behind the window (or right
/// before it), all of it is presumed touched, and a fault on a page in flight is a hit. Read-around stops in Linux after
/// 100 more misses than hits in a file (mmap_miss); as hits are unseen it goes on here. Sequential readahead asks for the
/// next window when the first page of the last is touched (its marker); here when a fault comes in the window's pages in flight, or
/// right behind it. Its look back into the page cache (context readahead) is left out.
/// </remarks>
[Policy("linux-readahead", "Linux's swap readahead by VMA, or its read-around of mapped files",
    Source = "Linux 6.12, mm/swap_state.c: swap_vma_readahead, __swapin_nr_pages; mm/filemap.c: do_sync_mmap_readahead; mm/readahead.c: page_cache_sync_ra, page_cache_async_ra")]
public sealed class LinuxReadaheadPolicy : IPolicy
{
    private struct Area
    {
        public long Previous, WindowFirst, WindowEnd;
        public int Window, Hits;
    }

    private const int InitialHits = 4, MostHits = 63, PagesPerTable = 512, SwapCeiling = 5;
    private readonly int _max;
    private readonly ReadaheadRules _rules;
    private readonly bool _background;
    private readonly Dictionary<long, int> _slots = [];
    private readonly Area[] _areas;
    private SequentialFill _fill;

    /// <summary>One window for each area of the environment's map.</summary>
    public LinuxReadaheadPolicy(
        PolicyEnvironment environment,
        [PolicyOption("of swap, of mapped files, or of files read in sequence")] ReadaheadRules rules = ReadaheadRules.Swap,
        [PolicyOption("log2 of the largest window: vm.page-cluster, 3, at most 5; for files, 5 is 128 KiB; 0: the rules' own default", Min = 0, Max = 10)] int cluster = 0,
        [PolicyOption("whether to move the rest while idle")] bool background = true)
    {
        (_rules, _background) = (rules, background);
        _max = 1 << (cluster == 0 ? (rules == ReadaheadRules.Swap ? 3 : 5) : rules == ReadaheadRules.Swap ? Math.Min(cluster, SwapCeiling) : cluster);
        for (long first = 0; first < environment.Map.Count; first = environment.Map.AreaBounds(first).End)
            _slots.Add(first, _slots.Count);
        _areas = new Area[_slots.Count];
        Array.Fill(_areas, new Area { Previous = long.MinValue / 2, WindowFirst = -1, WindowEnd = -1, Hits = InitialHits });
    }

    /// <inheritdoc/>
    public void OnFault(in PolicyFault fault, PageMap map, Plan plan)
    {
        if (fault.State == PageState.Hole)
            return;
        (long first, long end) = map.AreaBounds(fault.Index);
        if (_rules == ReadaheadRules.File)
        {
            Propose(fault.Index - _max / 2, fault.Index - _max / 2 + _max);
            return;
        }
        long page = fault.Index;
        ref Area a = ref _areas[_slots[first]];
        if (_rules == ReadaheadRules.Sequential)
        {
            Sequential(ref a, page);
            Propose(a.WindowFirst, a.WindowEnd);
            return;
        }
        if (fault.State == PageState.InFlight && page >= a.WindowFirst && page < a.WindowEnd)
        {
            (a.Hits, a.Previous) = (Math.Min(MostHits, a.Hits + 1), page);
            return;
        }
        Presume(ref a, page);
        a.Window = WindowOf(a, page);
        if (a.Window == 1)
            (a.WindowFirst, a.WindowEnd) = (page, page + 1);
        else if (page == a.Previous + 1)
            (a.WindowFirst, a.WindowEnd) = (page, page + a.Window);
        else if (page == a.Previous - 1)
            (a.WindowFirst, a.WindowEnd) = (page - a.Window + 1, page + 1);
        else
            (a.WindowFirst, a.WindowEnd) = (page - (a.Window - 1) / 2, page - (a.Window - 1) / 2 + a.Window);
        long inTable = (long)(map.PageAt(page).Value % PagesPerTable);
        a.WindowFirst = Math.Max(Math.Max(a.WindowFirst, first), page - inTable);
        a.WindowEnd = Math.Min(Math.Min(a.WindowEnd, end), page - inTable + PagesPerTable);
        (a.Previous, a.Hits) = (page, 0);
        Propose(a.WindowFirst, a.WindowEnd);

        void Propose(long from, long to)
        {
            from = Math.Max(from, first);
            plan.Add(from, Math.Min(to, end) - from, Cause.Prefetch);
        }
    }

    /// <inheritdoc/>
    public void OnIdle(PageMap map, Plan plan)
    {
        if (_background)
            _fill.Propose(map, plan);
    }

    /// <summary>The next window, or the first, or none.</summary>
    private void Sequential(ref Area a, long page)
    {
        bool inWindow = page >= a.WindowFirst && page <= a.WindowEnd && a.Window > 1;
        if (inWindow)
            (a.WindowFirst, a.Window) = (a.WindowEnd, NextSize(a.Window));
        else if (page == a.Previous || page == a.Previous + 1)
            (a.WindowFirst, a.Window) = (page, _max >= 32 ? 4 : 2);
        else
            (a.WindowFirst, a.Window) = (page, 1);
        (a.Previous, a.WindowEnd) = (page, a.WindowFirst + a.Window);
    }

    private int NextSize(int size) => size < _max / 16 ? size * 4 : Math.Min(size * 2, _max);

    /// <summary>A fault at the window's edge: its pages that were not seen to be touched were.</summary>
    private static void Presume(ref Area a, long page)
    {
        bool above = page == a.WindowEnd, below = page == a.WindowFirst - 1;
        if (a.Window <= 1 || !(above || below))
            return;
        a.Hits = (int)Math.Min(MostHits, a.WindowEnd - a.WindowFirst - 1);
        a.Previous = above ? page - 1 : page + 1;
    }

    private int WindowOf(in Area a, long page)
    {
        int pages = a.Hits + 2;
        if (a.Hits == 0)
            pages = page == a.Previous + 1 || page == a.Previous - 1 ? 2 : 1;
        else
            pages = Math.Max(4, (int)System.Numerics.BitOperations.RoundUpToPowerOf2((uint)pages));
        return Math.Max(Math.Min(pages, _max), a.Window / 2);
    }
}
