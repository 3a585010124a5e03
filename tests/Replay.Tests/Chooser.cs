using Testbed.Core;

namespace Replay.Tests;

/// <summary>What a chooser may see: the pages, and how many of them may be asked for now.</summary>
internal readonly record struct Look(IReadOnlyList<Reference.Page> Pages, int PrefetchRoom, int BackgroundRoom);

/// <summary>Says which pages the reference asks for: runs of page indices, clipped by the reference.</summary>
internal interface IChooser
{
    IReadOnlyList<(long First, long Count, Cause Cause)> OnFault(Look look, int index, PageState state, int thread);

    IReadOnlyList<(long First, long Count, Cause Cause)> OnIdle(Look look);
}

/// <summary>Demand and next-n a second time, without a policy object or page map.</summary>
/// <param name="n">Pages of prefetch behind each fault; 0 for demand.</param>
/// <param name="background">Whether the rest follows in address order.</param>
internal sealed class HandWritten(int n, bool background) : IChooser
{
    public IReadOnlyList<(long First, long Count, Cause Cause)> OnFault(Look look, int index, PageState state, int thread)
    {
        int end = index + 1;
        while (state != PageState.Hole && end <= index + n && end < look.Pages.Count && look.Pages[end].Area == look.Pages[index].Area)
            end++;
        return [(index + 1, end - index - 1, Cause.Prefetch)];
    }

    public IReadOnlyList<(long First, long Count, Cause Cause)> OnIdle(Look look) =>
        background ? [(0, look.Pages.Count, Cause.Background)] : [];
}

/// <summary>A policy of the catalog, which sees a page map that is written anew from the reference's pages each time.</summary>
internal sealed class Wrapped(IPolicy policy, PageMap map) : IChooser
{
    private readonly Plan _plan = new();

    public IReadOnlyList<(long First, long Count, Cause Cause)> OnFault(Look look, int index, PageState state, int thread)
    {
        Prepare(look);
        policy.OnFault(new PolicyFault(index, state, thread, Access.Read, default), map, _plan);
        return Proposals();
    }

    public IReadOnlyList<(long First, long Count, Cause Cause)> OnIdle(Look look)
    {
        Prepare(look);
        policy.OnIdle(map, _plan);
        return Proposals();
    }

    private void Prepare(Look look)
    {
        for (int i = 0; i < look.Pages.Count; i++)
            map.Set(i, look.Pages[i].State);
        _plan.Reset(look.PrefetchRoom, look.BackgroundRoom);
    }

    private (long, long, Cause)[] Proposals() => [.. _plan.Entries.ToArray().Select(e => (e.Index, e.Count, e.Cause))];
}
