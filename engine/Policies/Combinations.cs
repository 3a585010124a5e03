using Testbed.Core;

namespace Testbed.Policies;

/// <summary>
/// <c>A then B</c> and <c>A + B</c>: while idle B is asked when A, with room to ask for anything, has nothing to say. On a
/// fault, <c>then</c> asks B where A proposes nothing, and <c>+</c> never: B is then the order of the background alone. B is told of
/// every fault either way, for it may learn from it.
/// </summary>
internal sealed class FirstThenSecond(IPolicy first, IPolicy second, bool secondOnFaults) : IPolicy
{
    private readonly Plan _unheard = new();

    public void OnFault(in PolicyFault fault, PageMap map, Plan plan)
    {
        first.OnFault(fault, map, plan);
        bool heard = secondOnFaults && plan.Entries.IsEmpty;
        _unheard.Reset(plan.PrefetchBudget, plan.BackgroundBudget);
        second.OnFault(fault, map, heard ? plan : _unheard);
    }

    public void OnIdle(PageMap map, Plan plan)
    {
        first.OnIdle(map, plan);
        // Without room for one of the two causes, silence does not mean that the first is done.
        if (plan.Entries.IsEmpty && plan.PrefetchBudget > 0 && plan.BackgroundBudget > 0)
            second.OnIdle(map, plan);
    }
}

/// <summary><c>A limit N</c>: of what A proposes on a fault, the first N pages.</summary>
internal sealed class Limited(IPolicy policy, long pages) : IPolicy
{
    private readonly Plan _all = new();

    public void OnFault(in PolicyFault fault, PageMap map, Plan plan)
    {
        _all.Reset(Math.Min(pages, plan.PrefetchBudget), Math.Min(pages, plan.BackgroundBudget));
        policy.OnFault(fault, map, _all);
        long left = pages;
        foreach (Plan.Entry entry in _all.Entries)
        {
            long count = Math.Min(left, entry.Count);
            plan.Add(entry.Index, count, entry.Cause);
            left -= count;
        }
    }

    public void OnIdle(PageMap map, Plan plan) => policy.OnIdle(map, plan);
}
