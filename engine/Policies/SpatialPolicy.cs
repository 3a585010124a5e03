using System.Numerics;
using Testbed.Core;

namespace Testbed.Policies;

/// <summary>
/// Spatial footprints: the pages of a region that were touched are remembered as a bitmap under the place of the
/// region's first fault (the trigger); when another region begins at the same place, the same pages of it are
/// prefetched. A footprint is complete when its region leaves the table of active regions.
/// </summary>
/// <remarks>
/// Mapped: cache blocks are pages, the region is 64 pages for the paper's 2 KB. The paper keys by instruction and
/// offset; no fault tells the instruction, so the key is area and offset. Touches of prefetched pages are unseen, and a
/// prediction would confirm itself: regions that were predicted teach nothing, and every second prediction of a
/// trigger is withheld, so that it is learned anew.
/// </remarks>
[Policy("spatial", "the pages that earlier regions touched after the same first page",
    Source = "Somogyi et al., Spatial Memory Streaming, ISCA 2006, section 3")]
public sealed class SpatialPolicy(
    [PolicyOption("pages in a region", Min = 2, Max = 64)] int region = 64,
    [PolicyOption("regions whose footprint is being learned", Min = 1, Max = 65536)] int active = 64,
    [PolicyOption("footprints remembered", Min = 1, Max = 1048576)] int patterns = 4096,
    [PolicyOption("whether to move the rest while idle")] bool background = true) : IPolicy
{
    private struct Active
    {
        public bool Used;
        public long First;
        public ulong Key, Footprint;
    }

    private struct Pattern
    {
        public ulong Key, Footprint;
        public bool Withhold;
    }

    private readonly Active[] _active = new Active[active];
    private readonly Pattern[] _patterns = new Pattern[patterns];
    private SequentialFill _fill;

    /// <inheritdoc/>
    public void OnFault(in PolicyFault fault, PageMap map, Plan plan)
    {
        if (fault.State == PageState.Hole)
            return;
        (long areaFirst, long areaEnd) = map.AreaBounds(fault.Index);
        long number = (fault.Index - areaFirst) / region;
        long first = areaFirst + number * region;
        int offset = (int)(fault.Index - first);
        ref Active a = ref _active[(int)((ulong)number % (ulong)active)];
        if (a.Used && a.First == first)
        {
            a.Footprint |= 1ul << offset;
            return;
        }
        // Zero is no key: an empty slot matches nothing, and a predicted region teaches nothing.
        if (a.Used && a.Key != 0)
            Learn(a);
        ulong key = ((ulong)areaFirst * 64 + (ulong)offset) + 1;
        a = new Active { Used = true, First = first, Key = key, Footprint = 1ul << offset };
        ref Pattern p = ref PatternOf(key);
        if (p.Key != key)
            return;
        p.Withhold = !p.Withhold;
        if (!p.Withhold)
            return;
        a.Key = 0;
        Propose(p.Footprint, first, areaEnd, plan);
    }

    /// <inheritdoc/>
    public void OnIdle(PageMap map, Plan plan)
    {
        if (background)
            _fill.Propose(map, plan);
    }

    private void Learn(in Active a)
    {
        ref Pattern p = ref PatternOf(a.Key);
        p = p with { Key = a.Key, Footprint = a.Footprint };
    }

    private ref Pattern PatternOf(ulong key) => ref _patterns[(int)((key * 0x9E3779B97F4A7C15 >> 32) % (ulong)patterns)];

    private static void Propose(ulong footprint, long first, long end, Plan plan)
    {
        for (int at = 0; at < 64 && footprint >> at != 0;)
        {
            at += BitOperations.TrailingZeroCount(footprint >> at);
            int run = BitOperations.TrailingZeroCount(~(footprint >> at));
            plan.Add(first + at, Math.Min(end, first + at + run) - first - at, Cause.Prefetch);
            at += run;
        }
    }
}
