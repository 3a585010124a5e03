using Testbed.Core;

namespace Testbed.Policies;

/// <summary>Background transfer in address order, for policies whose own idea is about faults.</summary>
internal struct SequentialFill
{
    private long _cursor;

    /// <summary>Proposes the next pages that are lazy, up to the plan's budget.</summary>
    public void Propose(PageMap map, Plan plan)
    {
        if (plan.BackgroundBudget == 0)
            return;
        long next = map.NextLazy(_cursor, map.Count);
        // What a lost lane left behind lies before the cursor.
        if (next < 0 && _cursor > 0)
            next = map.NextLazy(0, map.Count);
        if (next < 0)
            return;
        _cursor = next;
        plan.Add(next, map.LazyRun(next, Math.Min(map.AreaBounds(next).End, next + plan.BackgroundBudget)), Cause.Background);
    }
}
