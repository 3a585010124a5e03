using Testbed.Core;

namespace Testbed.Policies;

/// <summary>
/// What CRIU's lazy-pages daemon does: the faulting page alone; while nothing is in flight, the lowest range that is
/// still lazy, in chunks that grow by 64 KiB from one to the next up to 4 MiB and fall back to 64 KiB with each fault.
/// Faults for pages in flight or never dumped change nothing. Belongs to <see cref="TransferOptions.Criu"/>.
/// </summary>
[Policy("criu", "CRIU's daemon: address order, 64 KiB growing to 4 MiB, back to 64 KiB on a fault",
    Source = "CRIU 4.2, criu/uffd.c: pick_next_range, update_xfer_len", CriuTransfer = true)]
public sealed class CriuPolicy : IPolicy
{
    private const long Step = (64 << 10) / PageNumber.Size;
    private const long Max = (4 << 20) / PageNumber.Size;
    private long _chunk = Step;
    private long _lowest;

    /// <inheritdoc/>
    public void OnFault(in PolicyFault fault, PageMap map, Plan plan)
    {
        if (fault.State == PageState.Lazy)
            _chunk = Step;
    }

    /// <inheritdoc/>
    public void OnIdle(PageMap map, Plan plan)
    {
        // Asked while something is in flight, the chunk must not grow in vain.
        if (plan.BackgroundBudget == 0)
            return;
        // Nothing becomes lazy again but by a lost lane, which CRIU does not survive; then the scan starts over.
        long next = map.NextLazy(_lowest, map.Count);
        if (next < 0 && _lowest > 0)
            next = map.NextLazy(0, map.Count);
        if (next < 0)
            return;
        _lowest = next;
        long run = map.LazyRun(next, Math.Min(map.AreaBounds(next).End, next + _chunk));
        plan.Add(next, run, Cause.Background);
        _chunk = Math.Min(Max, _chunk + Step);
    }
}
