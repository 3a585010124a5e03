using Testbed.Core;

namespace Testbed.Policies;

/// <summary>
/// Adaptive pre-paging: a bubble grows around the latest fault, a chunk behind it and a chunk before it in turn, over
/// all of memory; a new fault is a new centre. Faults on pages never dumped do not move it.
/// </summary>
[Policy("bubbling", "grows both ways from the latest fault, over all of memory",
    Source = "Hines and Gopalan, Post-Copy Based Live Virtual Machine Migration Using Adaptive Pre-Paging and Dynamic Self-Ballooning, VEE 2009, section 3.2")]
public sealed class BubblingPolicy(
    [PolicyOption("pages taken on one side before the other's turn", Min = 1, Max = 65536)] int chunk = 8) : IPolicy
{
    private long _up;
    private long _down = -1;
    private bool _upNext = true;

    /// <inheritdoc/>
    public void OnFault(in PolicyFault fault, PageMap map, Plan plan)
    {
        if (fault.State == PageState.Hole)
            return;
        (_up, _down, _upNext) = (fault.Index + 1, fault.Index - 1, true);
    }

    /// <inheritdoc/>
    public void OnIdle(PageMap map, Plan plan)
    {
        if (plan.PrefetchBudget == 0)
            return;
        for (int side = 0; side < 2 && plan.Entries.IsEmpty; side++, _upNext = !_upNext)
        {
            if (_upNext)
                GrowUp(map, plan);
            else
                GrowDown(map, plan);
        }
        // Both ends reached: what a lost lane left inside the bubble is taken from the start.
        if (plan.Entries.IsEmpty && map.LazyPages > 0 && _up >= map.Count && _down < 0)
        {
            _up = 0;
            GrowUp(map, plan);
        }
    }

    private void GrowUp(PageMap map, Plan plan)
    {
        long next = map.NextLazy(_up, map.Count);
        _up = next < 0 ? map.Count : next;
        if (next < 0)
            return;
        long count = map.LazyRun(next, Math.Min(map.AreaBounds(next).End, next + Math.Min(chunk, plan.PrefetchBudget)));
        plan.Add(next, count, Cause.Prefetch);
        _up = next + count;
    }

    private void GrowDown(PageMap map, Plan plan)
    {
        long last = map.PreviousLazy(_down, 0);
        _down = last;
        if (last < 0)
            return;
        long first = last;
        long bound = Math.Max(map.AreaBounds(last).First, last - Math.Min(chunk, plan.PrefetchBudget) + 1);
        while (first > bound && map[first - 1] == PageState.Lazy)
            first--;
        plan.Add(first, last - first + 1, Cause.Prefetch);
        _down = first - 1;
    }
}
