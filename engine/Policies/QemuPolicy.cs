using Testbed.Core;

namespace Testbed.Policies;

/// <summary>
/// QEMU's postcopy: a requested page goes alone, and the background scan over all of memory goes on from it, around the
/// end to the start. With preempt, requests have their own channel, and the scan takes a hint from them: one slot, kept
/// by the first request since the scan last took it.
/// </summary>
/// <remarks>Mapped: RAM blocks are areas; a request for a page that was sent already moves nothing.</remarks>
[Policy("qemu", "the background scan goes on from the requested page",
    Source = "QEMU, migration/ram.c: get_queued_page, find_dirty_block, ram_page_hint_update")]
public sealed class QemuPolicy(
    [PolicyOption("whether the scan follows the first request since its last step, rather than the last")] bool preempt = false) : IPolicy
{
    private long _cursor;
    private long _hint = -1;

    /// <inheritdoc/>
    public void OnFault(in PolicyFault fault, PageMap map, Plan plan)
    {
        if (fault.State == PageState.Lazy && !(preempt && _hint >= 0))
            _hint = fault.Index;
    }

    /// <inheritdoc/>
    public void OnIdle(PageMap map, Plan plan)
    {
        if (plan.BackgroundBudget == 0)
            return;
        if (_hint >= 0)
            (_cursor, _hint) = (_hint, -1);
        long next = map.NextLazy(_cursor, map.Count);
        if (next < 0 && _cursor > 0)
            next = map.NextLazy(0, map.Count);
        if (next < 0)
            return;
        _cursor = next;
        plan.Add(next, map.LazyRun(next, Math.Min(map.AreaBounds(next).End, next + plan.BackgroundBudget)), Cause.Background);
    }
}
