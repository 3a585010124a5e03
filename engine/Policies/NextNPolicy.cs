using Testbed.Core;

namespace Testbed.Policies;

/// <summary>
/// One-block-lookahead of depth n: behind the faulting page, the n pages that follow it in its area; idle, the rest
/// in address order. Aligned, it is Linux's fault-around: the rest of the block of n pages, aligned by address, in which
/// the fault lies (fault_around_bytes, 64 KiB, is n = 16).
/// </summary>
[Policy("next-n", "the n pages behind each fault, or its aligned block; the rest in address order",
    Source = "Smith, Sequentiality and Prefetching in Database Systems, TODS 1978; aligned: Linux, mm/memory.c: do_fault_around")]
public sealed class NextNPolicy(
    [PolicyOption("pages behind the fault", Min = 1, Max = 65536)] int n = 16,
    [PolicyOption("whether to move the rest while idle")] bool background = true,
    [PolicyOption("whether to take the aligned block of n pages around the fault instead")] bool aligned = false,
    [PolicyOption("on how many faults, the first ones, with which a program comes to life; 0: on all", Min = 0, Max = int.MaxValue)] int faults = 0) : IPolicy
{
    private SequentialFill _fill;
    private int _left = faults == 0 ? int.MaxValue : faults;

    /// <inheritdoc/>
    public void OnFault(in PolicyFault fault, PageMap map, Plan plan)
    {
        if (fault.State == PageState.Hole || _left == 0)
            return;
        if (faults > 0)
            _left--;
        (long areaFirst, long areaEnd) = map.AreaBounds(fault.Index);
        long first = fault.Index + 1;
        long end = first + n;
        if (aligned)
        {
            long block = fault.Index - (long)(map.PageAt(fault.Index).Value % (ulong)n);
            (first, end) = (Math.Max(areaFirst, block), block + n);
        }
        plan.Add(first, Math.Min(areaEnd, end) - first, Cause.Prefetch);
    }

    /// <inheritdoc/>
    public void OnIdle(PageMap map, Plan plan)
    {
        if (background)
            _fill.Propose(map, plan);
    }
}
