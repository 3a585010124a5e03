using System.Collections;
using System.Runtime.InteropServices;
using Testbed.Core;

namespace Testbed.Policies;

/// <summary>
/// FaaSnap's loading set: the recorded pages in groups of 1,024 by access order; regions of recorded pages, merged over
/// gaps of up to 32 pages, each belong to the lowest group of their pages; regions come group by group, within one by
/// address, gaps included. Then the rest in address order. Without a recording it is only the latter.
/// </summary>
/// <remarks>
/// Mapped: the paper groups what mincore shows new after each 1,024 pages, here the first touches are counted; the
/// guest's memory file is the areas, and regions end at their borders; the paper's rest comes on demand only, which is
/// background=false.
/// </remarks>
[Policy("faasnap", "recorded pages by groups of access order, merged into regions over small gaps",
    Source = "Ao, Porter and Voelker, FaaSnap: FaaS Made Fast Using Snapshot-based VMs, EuroSys 2022, section 4")]
public sealed class FaasnapPolicy : IPolicy
{
    private readonly (long Index, long Count)[] _regions;
    private readonly bool _background;
    private int _next;
    private long _done;
    private SequentialFill _fill;

    /// <summary>Follows the environment's recording.</summary>
    public FaasnapPolicy(
        PolicyEnvironment environment,
        [PolicyOption("pages in a group of access order", Min = 1, Max = 1 << 30)] int group = 1024,
        [PolicyOption("pages between regions that are merged, at most", Min = 0, Max = 1 << 30)] int gap = 32,
        [PolicyOption("whether to move the rest while idle")] bool background = true,
        [PolicyOption("of several recordings, the pages in any or in all")] RecordedIn recordedIn = RecordedIn.Any)
    {
        _background = background;
        _regions = Regions(environment.Map, RecordedPages.Indices(environment, recordedIn), group, gap);
    }

    /// <inheritdoc/>
    public void OnFault(in PolicyFault fault, PageMap map, Plan plan) { }

    /// <inheritdoc/>
    public void OnIdle(PageMap map, Plan plan)
    {
        long proposed = 0;
        while (_next < _regions.Length && proposed < plan.PrefetchBudget)
        {
            (long index, long count) = _regions[_next];
            long at = map.NextLazy(index + _done, index + count);
            if (at < 0)
            {
                (_next, _done) = (_next + 1, 0);
                continue;
            }
            long run = map.LazyRun(at, Math.Min(index + count, at + plan.PrefetchBudget - proposed));
            plan.Add(at, run, Cause.Prefetch);
            proposed += run;
            _done = at + run - index;
        }
        if (_next == _regions.Length && proposed == 0 && _background)
            _fill.Propose(map, plan);
    }

    private static (long, long)[] Regions(PageMap map, int[] recorded, int group, int gap)
    {
        List<(int Group, long Index, long Count)> regions = ByAddress(map, recorded, gap);
        // In access order: the first page that lies in a region is of its lowest group.
        Span<(int Group, long Index, long Count)> all = CollectionsMarshal.AsSpan(regions);
        for (int i = 0; i < recorded.Length; i++)
        {
            ref int lowest = ref all[Find(all, recorded[i])].Group;
            lowest = Math.Min(lowest, i / group);
        }
        regions.Sort();
        return [.. regions.Select(r => (r.Index, r.Count))];
    }

    /// <summary>The regions, of no group yet. By a bit a page: to sort as many pages takes more memory than all else.</summary>
    private static List<(int Group, long Index, long Count)> ByAddress(PageMap map, int[] recorded, int gap)
    {
        var marked = new BitArray(checked((int)map.Count));
        foreach (int index in recorded)
            marked[index] = true;
        var regions = new List<(int Group, long Index, long Count)>();
        long areaEnd = 0;
        for (int index = 0; index < marked.Length; index++)
        {
            if (!marked[index])
                continue;
            if (regions.Count > 0 && index < areaEnd && index - (regions[^1].Index + regions[^1].Count) <= gap)
            {
                regions[^1] = regions[^1] with { Count = index - regions[^1].Index + 1 };
                continue;
            }
            areaEnd = map.AreaBounds(index).End;
            regions.Add((int.MaxValue, index, 1));
        }
        return regions;
    }

    /// <summary>The region that a page lies in.</summary>
    private static int Find(ReadOnlySpan<(int Group, long Index, long Count)> regions, int index)
    {
        (int low, int high) = (0, regions.Length);
        while (high - low > 1)
        {
            int middle = (low + high) / 2;
            (low, high) = regions[middle].Index <= index ? (middle, high) : (low, middle);
        }
        return low;
    }
}
