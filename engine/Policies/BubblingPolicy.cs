using Testbed.Core;

namespace Testbed.Policies;

/// <summary>
/// Adaptive pre-paging: a bubble grows around the latest fault, a chunk behind it and a chunk before it in turn, over
/// all of memory; a new fault is a new centre. With several pivots, the latest faults each keep a bubble, which grow in
/// turn; a new fault replaces the oldest. Faults on pages never dumped do not move them.
/// </summary>
[Policy("bubbling", "grows both ways from the latest fault, or the latest few, over all of memory",
    Source = "Hines and Gopalan, Post-Copy Based Live Virtual Machine Migration Using Adaptive Pre-Paging and Dynamic Self-Ballooning, VEE 2009, section 3.2")]
public sealed class BubblingPolicy(
    [PolicyOption("pages taken on one side before the other's turn", Min = 1, Max = 65536)] int chunk = 8,
    [PolicyOption("bubbles that grow at once; the paper tries 1 to 10", Min = 1, Max = 1024)] int pivots = 1) : IPolicy
{
    private struct Bubble
    {
        public long Up, Down;
        public bool UpNext;
    }

    // Until the first fault one bubble grows upwards from the start.
    private readonly Bubble[] _bubbles = Initial(pivots);
    private int _used = 1;
    private int _newest = -1;
    private int _turn;

    /// <inheritdoc/>
    public void OnFault(in PolicyFault fault, PageMap map, Plan plan)
    {
        if (fault.State == PageState.Hole)
            return;
        _newest = (_newest + 1) % pivots;
        _used = Math.Max(_used, _newest + 1);
        _bubbles[_newest] = new Bubble { Up = fault.Index + 1, Down = fault.Index - 1, UpNext = true };
        _turn = _newest;
    }

    /// <inheritdoc/>
    public void OnIdle(PageMap map, Plan plan)
    {
        if (plan.PrefetchBudget == 0)
            return;
        for (int i = 0; i < _used && plan.Entries.IsEmpty; i++)
        {
            Grow(ref _bubbles[_turn], map, plan);
            _turn = (_turn + 1) % _used;
        }
        // All ends reached: what a lost lane left inside a bubble is taken from the start.
        if (plan.Entries.IsEmpty && map.LazyPages > 0)
        {
            _bubbles[_turn].Up = 0;
            GrowUp(ref _bubbles[_turn], map, plan);
        }
    }

    private static Bubble[] Initial(int pivots)
    {
        var bubbles = new Bubble[pivots];
        bubbles[0] = new Bubble { Down = -1, UpNext = true };
        return bubbles;
    }

    private void Grow(ref Bubble bubble, PageMap map, Plan plan)
    {
        for (int side = 0; side < 2 && plan.Entries.IsEmpty; side++, bubble.UpNext = !bubble.UpNext)
        {
            if (bubble.UpNext)
                GrowUp(ref bubble, map, plan);
            else
                GrowDown(ref bubble, map, plan);
        }
    }

    private void GrowUp(ref Bubble bubble, PageMap map, Plan plan)
    {
        long next = map.NextLazy(bubble.Up, map.Count);
        bubble.Up = next < 0 ? map.Count : next;
        if (next < 0)
            return;
        long count = map.LazyRun(next, Math.Min(map.AreaBounds(next).End, next + Math.Min(chunk, plan.PrefetchBudget)));
        plan.Add(next, count, Cause.Prefetch);
        bubble.Up = next + count;
    }

    private void GrowDown(ref Bubble bubble, PageMap map, Plan plan)
    {
        long last = map.PreviousLazy(bubble.Down, 0);
        bubble.Down = last;
        if (last < 0)
            return;
        long first = last;
        long bound = Math.Max(map.AreaBounds(last).First, last - Math.Min(chunk, plan.PrefetchBudget) + 1);
        while (first > bound && map[first - 1] == PageState.Lazy)
            first--;
        plan.Add(first, last - first + 1, Cause.Prefetch);
        bubble.Down = first - 1;
    }
}
