using Testbed.Core;

namespace Testbed.Policies;

/// <summary>
/// One-block-lookahead of depth n: behind the faulting page, the n pages that follow it in its area; idle, the rest
/// in address order.
/// </summary>
[Policy("next-n", "the n pages behind each fault; the rest in address order",
    Source = "Smith, Sequentiality and Prefetching in Database Systems, TODS 1978")]
public sealed class NextNPolicy(
    [PolicyOption("pages behind the fault", Min = 1, Max = 65536)] int n = 16,
    [PolicyOption("whether to move the rest while idle")] bool background = true) : IPolicy
{
    private SequentialFill _fill;

    /// <inheritdoc/>
    public void OnFault(in PolicyFault fault, PageMap map, Plan plan)
    {
        if (fault.State == PageState.Hole)
            return;
        long end = Math.Min(map.AreaBounds(fault.Index).End, fault.Index + 1 + n);
        plan.Add(fault.Index + 1, end - fault.Index - 1, Cause.Prefetch);
    }

    /// <inheritdoc/>
    public void OnIdle(PageMap map, Plan plan)
    {
        if (background)
            _fill.Propose(map, plan);
    }
}
