using Testbed.Core;

namespace Testbed.Policies;

/// <summary>How a recorded working set is fetched.</summary>
public enum WorkingSetOrder
{
    /// <summary>As it was touched.</summary>
    Recorded,

    /// <summary>By address, neighbours in one request.</summary>
    Sorted,
}

/// <summary>
/// Record and prefetch: the pages that an earlier run touched, in the order it touched them (or sorted by
/// address, with runs merged), then the rest in address order. Without a recording it is only the latter.
/// </summary>
[Policy("working-set", "the pages of a recorded run in its order, then the rest in address order",
    Source = "Ustiugov et al., Benchmarking, Analysis, and Optimization of Serverless Function Snapshots (REAP), ASPLOS 2021, section 5")]
public sealed class WorkingSetPolicy : IPolicy
{
    private readonly long[] _recorded;
    private readonly bool _background;
    private long _next;
    private SequentialFill _fill;

    /// <summary>Follows the environment's recording.</summary>
    public WorkingSetPolicy(
        PolicyEnvironment environment,
        [PolicyOption("whether to move the rest while idle")] bool background = true,
        [PolicyOption("recorded, or sorted by address")] WorkingSetOrder order = WorkingSetOrder.Recorded)
    {
        _background = background;
        _recorded = RecordedPages.Indices(environment);
        if (order == WorkingSetOrder.Sorted)
            Array.Sort(_recorded);
    }

    /// <inheritdoc/>
    public void OnFault(in PolicyFault fault, PageMap map, Plan plan) { }

    /// <inheritdoc/>
    public void OnIdle(PageMap map, Plan plan)
    {
        long proposed = 0;
        while (_next < _recorded.Length && proposed < plan.PrefetchBudget)
        {
            long index = _recorded[_next++];
            if (map[index] != PageState.Lazy)
                continue;
            // Recorded neighbours go as one request.
            long run = 1;
            while (_next < _recorded.Length && _recorded[_next] == index + run
                && proposed + run < plan.PrefetchBudget && map[index + run] == PageState.Lazy)
            {
                _next++;
                run++;
            }
            plan.Add(index, run, Cause.Prefetch);
            proposed += run;
        }
        if (_next == _recorded.Length && proposed == 0 && _background)
            _fill.Propose(map, plan);
    }
}
