namespace Testbed.Core;

/// <summary>A fault as a policy sees it.</summary>
/// <param name="Index">The page, as an index into the <see cref="PageMap"/>.</param>
/// <param name="State">Where the page was when the fault came: Lazy (it is being asked for now), InFlight (late),
/// or Hole (answered with zero).</param>
/// <param name="Thread">Who waits.</param>
/// <param name="Access">Read or write.</param>
/// <param name="Time">When the service was told.</param>
public readonly record struct PolicyFault(long Index, PageState State, int Thread, Access Access, Instant Time);

/// <summary>
/// Decides which pages come next. It only proposes: the fault service always asks for the faulting page first, and
/// clips every proposal to pages that are still lazy and to the budget of bytes in flight. One object serves one
/// address space, is called on one thread, and has no clock, randomness or state outside itself, so that a replay
/// repeats it exactly.
/// </summary>
public interface IPolicy
{
    /// <summary>Whether it never proposes anything: then it is not asked, which most of a long replay under such a policy would be.</summary>
    bool ProposesNothing => false;

    /// <summary>A thread faulted; propose what else to move because of it.</summary>
    void OnFault(in PolicyFault fault, PageMap map, Plan plan);

    /// <summary>Nothing else is to be done; propose what to move meanwhile, within the
    /// plan's budgets. No proposal: nothing more until the next event.</summary>
    void OnIdle(PageMap map, Plan plan);
}

/// <summary>What a policy proposes: runs of page indices, each with a cause. Reused from call to call.</summary>
public sealed class Plan
{
    /// <summary>One proposal.</summary>
    /// <param name="Index">The first page.</param>
    /// <param name="Count">How many; they may cross areas.</param>
    /// <param name="Cause">Prefetch or Background.</param>
    public readonly record struct Entry(long Index, long Count, Cause Cause);

    private Entry[] _entries = new Entry[16];
    private int _count;

    /// <summary>How many pages of prefetch can be asked for now; more are clipped, and not remembered.</summary>
    public long PrefetchBudget { get; private set; }

    /// <summary>How many pages of background transfer can be asked for now; more are clipped.</summary>
    public long BackgroundBudget { get; private set; }

    /// <summary>What was proposed so far, in order.</summary>
    public ReadOnlySpan<Entry> Entries => _entries.AsSpan(0, _count);

    /// <summary>Proposes <paramref name="count"/> pages from <paramref name="index"/> on; what lies outside the memory is ignored.</summary>
    public void Add(long index, long count, Cause cause)
    {
        if (count <= 0)
            return;
        if (_count == _entries.Length)
            Array.Resize(ref _entries, _count * 2);
        _entries[_count++] = new Entry(index, count, cause);
    }

    /// <summary>Empties the plan for a caller that can take so many pages.</summary>
    public void Reset(long prefetchBudget, long backgroundBudget)
    {
        _count = 0;
        (PrefetchBudget, BackgroundBudget) = (Math.Max(0, prefetchBudget), Math.Max(0, backgroundBudget));
    }
}

/// <summary>
/// How requests are carried, apart from which: lanes, sizes and bytes in flight.
/// </summary>
public sealed record TransferOptions
{
    /// <summary>Connections to the page server. One: everything in one queue. Two: demand has its own.
    /// Three or more: so has prefetch.</summary>
    public int Lanes { get; init; } = 3;

    /// <summary>Bytes of prefetch, and again of background, that may be in flight. Demand is never held back.</summary>
    public long MaxInFlight { get; init; } = 256 * 1024;

    /// <summary>Whether less than <see cref="MaxInFlight"/> may be in flight, as much as the measured bandwidth-delay product and
    /// <see cref="QueueBound"/> ask for; prefetch and background share it then.</summary>
    public bool AdaptFlight { get; init; }

    /// <summary>AdaptFlight: bytes that may be in flight whatever was measured.</summary>
    public long MinInFlight { get; init; } = 256 * 1024;

    /// <summary>AdaptFlight: what bulk may queue up on the way, as the time that a fault behind it waits.</summary>
    public Duration QueueBound { get; init; } = Duration.FromMilliseconds(1);

    /// <summary>The largest single request, in bytes.</summary>
    public long MaxRequest { get; init; } = 64 * 1024;

    /// <summary>CRIU's rule: ask in the background only while nothing at all is in flight, and then one range.</summary>
    public bool ExclusiveBackground { get; init; }

    /// <summary>CRIU's way: one lane, one background request of any size, only while no fault is open.</summary>
    public static TransferOptions Criu => new() { Lanes = 1, MaxInFlight = 4 << 20, MaxRequest = 4 << 20, ExclusiveBackground = true };

    /// <summary>AdaptFlight: for so long after the start bulk makes way for every fault: the program answers first. Later the opposite serves it
    /// better: what is in sooner is waited for by fewer.</summary>
    public Duration Courtesy { get; init; } = Duration.FromMilliseconds(60);

    /// <summary>AdaptFlight, where bulk has to share demand's lane: for so long after the start it asks as if it had its own. Then, while faults come and
    /// the round trip is shorter than <see cref="QueueBound"/>, it goes along with them.</summary>
    public Duration HeadStart { get; init; } = Duration.FromMilliseconds(10);

    /// <summary>A daemon's: one lane for demand and one for bulk, and as much in flight as the link asks for, up to 16 MiB.</summary>
    public static TransferOptions Adaptive => new() { Lanes = 2, AdaptFlight = true, MinInFlight = 128 * 1024, MaxInFlight = 16 << 20, MaxRequest = 1 << 20 };

    /// <summary>The lane for a cause, when all are up.</summary>
    public int LaneFor(Cause cause) => cause switch
    {
        Cause.Demand or Cause.Zero => 0,
        Cause.Prefetch => Math.Min(1, Lanes - 1),
        _ => Lanes == 1 ? 0 : Math.Min(2, Lanes - 1),
    };
}

/// <summary>Sees what the fault service does. Called in the middle of it: must be quick and must not call back.</summary>
public interface IServiceObserver
{
    /// <summary>A range (dump addresses) was asked for.</summary>
    void OnRequested(Instant time, int space, PageRange range, Cause cause);

    /// <summary>A range (dump addresses) was installed.</summary>
    void OnInstalled(in InstallRecord install);

    /// <summary>A fault was answered.</summary>
    void OnResolved(in FaultRecord fault);
}
