using Testbed.Core;

namespace Testbed.Policies;

/// <summary>
/// Distance prefetching: a Markov table over distances rather than pages. Under each distance the last few distances
/// that followed it are remembered; after a fault, the pages at those distances are prefetched.
/// </summary>
/// <remarks>Mapped: the paper's TLB misses are faults; one page at each remembered distance, as there.</remarks>
[Policy("distance", "the distances that followed this distance before",
    Source = "Kandiraju and Sivasubramaniam, Going the Distance for TLB Prefetching, ISCA 2002, section 2.4")]
public sealed class DistancePolicy(
    [PolicyOption("distances in the table", Min = 1, Max = 1048576)] int rows = 256,
    [PolicyOption("followers remembered of each", Min = 1, Max = 64)] int slots = 2,
    [PolicyOption("whether to move the rest while idle")] bool background = true) : IPolicy
{
    private readonly long[] _tags = new long[rows];
    private readonly long[] _followers = new long[rows * slots];
    private long _last = -1;
    private long _lastDistance;
    private SequentialFill _fill;

    /// <inheritdoc/>
    public void OnFault(in PolicyFault fault, PageMap map, Plan plan)
    {
        if (fault.State == PageState.Hole || fault.Index == _last)
            return;
        long from = _last;
        _last = fault.Index;
        if (from < 0)
            return;
        long distance = fault.Index - from;
        if (_lastDistance != 0)
            Learn(_lastDistance, distance);
        _lastDistance = distance;
        int row = RowOf(distance);
        if (_tags[row] != distance)
            return;
        (long first, long end) = map.AreaBounds(fault.Index);
        foreach (long follower in _followers.AsSpan(row * slots, slots))
        {
            long page = fault.Index + follower;
            if (follower != 0 && page >= first && page < end)
                plan.Add(page, 1, Cause.Prefetch);
        }
    }

    /// <inheritdoc/>
    public void OnIdle(PageMap map, Plan plan)
    {
        if (background)
            _fill.Propose(map, plan);
    }

    /// <summary>The latest follower comes first; the one longest not seen goes.</summary>
    private void Learn(long distance, long follower)
    {
        int row = RowOf(distance);
        Span<long> followers = _followers.AsSpan(row * slots, slots);
        if (_tags[row] != distance)
        {
            _tags[row] = distance;
            followers.Clear();
        }
        int known = followers.IndexOf(follower);
        int moved = known < 0 ? slots - 1 : known;
        followers[..moved].CopyTo(followers[1..]);
        followers[0] = follower;
    }

    private int RowOf(long distance) => (int)(((ulong)distance * 0x9E3779B97F4A7C15 >> 32) % (ulong)rows);
}
