using Testbed.Core;

namespace Testbed.Policies;

/// <summary>
/// Knows the trace: the pages in exactly the order of their first touches, as many in flight as the budget allows, again
/// at each fault and each idle moment; then the rest in address order.
/// </summary>
/// <remarks>
/// A policy, and so no bound: what nobody can beat is computed (LowerBound of the replay, in every comparison), and one
/// thread's oracle on a link that is slower than the host attains it. With several threads the recorded interleaving is
/// not that of the replay, and the waiting summed over threads can be less under another policy (bubbling, on node over
/// 100 Mbit/s). Where requests and installs cost more than bytes, fetching neighbours together ahead of their time may
/// beat it. Batch does that: a request also takes the pages next to its page that are touched within that many touches.
/// </remarks>
[Policy("oracle", "knows the trace: the pages in the order of their touches, all budget in flight",
    Source = "Cao, Felten, Karlin and Li, A Study of Integrated Prefetching and Caching Strategies, SIGMETRICS 1995 (aggressive)")]
public sealed class OraclePolicy : IPolicy
{
    private readonly int[] _recorded;
    private readonly int[] _place;
    private readonly int _batch;
    private readonly bool _background;
    private int _next;
    private SequentialFill _fill;

    /// <summary>The environment's recording is the future.</summary>
    public OraclePolicy(
        PolicyEnvironment environment,
        [PolicyOption("touches ahead of its turn that a page may come with its neighbour", Min = 0, Max = 1 << 30)] int batch = 0,
        [PolicyOption("whether to move the rest while idle")] bool background = true)
    {
        (_batch, _background) = (batch, background);
        _recorded = RecordedPages.Indices(environment);
        _place = batch == 0 ? [] : new int[environment.Map.Count];
        Array.Fill(_place, int.MaxValue);
        for (int i = 0; i < _recorded.Length && batch > 0; i++)
            _place[_recorded[i]] = i;
    }

    /// <inheritdoc/>
    public void OnFault(in PolicyFault fault, PageMap map, Plan plan)
    {
        if (fault.State != PageState.Hole)
            _ = Propose(map, plan);
    }

    /// <inheritdoc/>
    public void OnIdle(PageMap map, Plan plan)
    {
        if (Propose(map, plan) == 0 && _next == _recorded.Length && _background)
            _fill.Propose(map, plan);
    }

    private long Propose(PageMap map, Plan plan)
    {
        long proposed = 0;
        while (_next < _recorded.Length && proposed < plan.PrefetchBudget)
        {
            int place = _next++;
            long index = _recorded[place];
            if (map[index] != PageState.Lazy)
                continue;
            (long first, long end) = (index, index + 1);
            (long areaFirst, long areaEnd) = map.AreaBounds(index);
            long room = plan.PrefetchBudget - proposed;
            // At most batch steps to each side, and each is a page that is asked for.
            while (end < areaEnd && end - first < room && Soon(map, end, place))
                end++;
            while (first > areaFirst && end - first < room && Soon(map, first - 1, place))
                first--;
            plan.Add(first, end - first, Cause.Prefetch);
            proposed += end - first;
        }
        return proposed;
    }

    private bool Soon(PageMap map, long index, int place) =>
        _batch > 0 && map[index] == PageState.Lazy && _place[index] - (long)place <= _batch;
}
