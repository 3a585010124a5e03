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
/// address, with runs merged), then the rest in address order. Without a recording it is only the latter. Of several
/// recordings, the pages of any or those of all.
/// </summary>
/// <remarks>
/// Mapped: REAP reads its working-set file before the function runs on; here nobody holds the program back, and the
/// working set comes while it runs. REAP has one recording; the stable pages over invocations (its section 4) are recorded-in=all.
/// </remarks>
[Policy("working-set", "the pages of a recorded run in its order, then the rest in address order",
    Source = "Ustiugov et al., Benchmarking, Analysis, and Optimization of Serverless Function Snapshots (REAP), ASPLOS 2021, section 5")]
public sealed class WorkingSetPolicy : IPolicy
{
    private readonly int[] _recorded;
    private readonly bool _background;
    private long _next;
    private SequentialFill _fill;

    /// <summary>Follows the environment's recording.</summary>
    public WorkingSetPolicy(
        PolicyEnvironment environment,
        [PolicyOption("whether to move the rest while idle")] bool background = true,
        [PolicyOption("recorded, or sorted by address")] WorkingSetOrder order = WorkingSetOrder.Recorded,
        [PolicyOption("of several recordings, the pages in any or in all")] RecordedIn recordedIn = RecordedIn.Any)
    {
        _background = background;
        _recorded = RecordedPages.Indices(environment, recordedIn);
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
