using Testbed.Core;

namespace Testbed.Policies;

/// <summary>
/// Delta correlation over a global history buffer: when the last two distances between faults occurred together before,
/// the distances that followed them then predict what follows now. Past the end of what is remembered, the distances
/// since the earlier occurrence repeat.
/// </summary>
/// <remarks>
/// Mapped: cache misses are faults. What was prefetched is presumed touched when a fault comes on a page expected
/// after it (<see cref="ExpectedTouches"/>), so that the history is one of touches.
/// </remarks>
[Policy("delta-correlation", "what followed the last two distances when they came together before",
    Source = "Nesbit and Smith, Data Cache Prefetching Using a Global History Buffer, HPCA 2004, section 3 (G/DC)")]
public sealed class DeltaCorrelationPolicy(
    [PolicyOption("distances remembered", Min = 4, Max = 1048576)] int history = 256,
    [PolicyOption("pages prefetched", Min = 1, Max = 65536)] int degree = 8,
    [PolicyOption("whether to move the rest while idle")] bool background = true) : IPolicy
{
    private readonly long[] _distances = new long[history];
    private readonly (ulong Pair, long Place)[] _index = new (ulong, long)[history];
    private readonly ExpectedTouches _expected = new(degree + 1);
    private long _count;
    private long _last = -1;
    private SequentialFill _fill;

    /// <inheritdoc/>
    public void OnFault(in PolicyFault fault, PageMap map, Plan plan)
    {
        if (fault.State == PageState.Hole)
            return;
        int presumed = _expected.Find(fault.Index);
        for (int i = 0; i < presumed; i++)
            _ = Touch(_expected[i]);
        long place = Touch(fault.Index);
        _expected.Clear();
        if (place < 0)
            return;
        (long first, long end) = map.AreaBounds(fault.Index);
        long page = fault.Index;
        long period = _count - place;
        RunBuilder run = default;
        for (int i = 0; i <= degree; i++)
        {
            page += _distances[(place + i % period) % history];
            if (page < first || page >= end)
                break;
            _expected.Add(page);
            if (i < degree)
                run.Add(page, plan);
        }
        run.Flush(plan);
    }

    /// <inheritdoc/>
    public void OnIdle(PageMap map, Plan plan)
    {
        if (background)
            _fill.Propose(map, plan);
    }

    /// <summary>Remembers the distance to a page; answers the place behind the last two distances' earlier occurrence,
    /// -1 when there is none.</summary>
    private long Touch(long page)
    {
        long from = _last;
        _last = page;
        if (from < 0)
            return -1;
        _distances[_count % history] = page - from;
        _count++;
        if (_count < 2)
            return -1;
        ulong pair = ((ulong)_distances[(_count - 2) % history] * 0x9E3779B97F4A7C15) ^ (ulong)(page - from);
        ref (ulong Pair, long Place) entry = ref _index[(int)((pair * 0x9E3779B97F4A7C15 >> 32) % (ulong)history)];
        // The place must still be remembered, and the two before it.
        long place = entry.Pair == pair && entry.Place > 0 && _count - entry.Place <= history - 2 ? entry.Place : -1;
        entry = (pair, _count);
        return place;
    }
}
