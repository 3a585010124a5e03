namespace Testbed.Core;

/// <summary>One process's memory: what is where, and the policy that serves it.</summary>
internal sealed class AddressSpace(int id, PageMap map, RemapTable remaps, IPolicy policy)
{
    // Leaves room for all pages that an address of 48 bits can name, and for 2^27 address spaces.
    private const int IndexBits = 36;

    public int Id { get; } = id;

    public PageMap Map { get; } = map;

    public RemapTable Remaps { get; } = remaps;

    public IPolicy Policy { get; } = policy;

    /// <summary>Whether the policy is worth asking.</summary>
    public bool HasProposals { get; } = !policy.ProposesNothing;

    public bool IsAlive { get; set; } = true;

    /// <summary>Whether faults say which thread waits.</summary>
    public bool NamesThreads { get; init; } = true;

    /// <summary>Where a drain that no policy orders goes on.</summary>
    public long DrainCursor { get; set; }

    public bool IsServed => Map.LazyPages == 0 && Map.InFlightPages == 0;

    /// <summary>A page of this address space as one number, so that one comparison finds who waits for it.</summary>
    /// <param name="index">In the page map; -1 when nothing that was dumped is there, which is no place.</param>
    public long PlaceOf(long index) => ((long)Id << IndexBits) | index;

    /// <summary>The page map's index of a place.</summary>
    public static long IndexAt(long place) => place < 0 ? -1 : place & ((1L << IndexBits) - 1);

    /// <summary>The index and the dump address of a run-time page; false when nothing that was dumped is there.</summary>
    public bool TryIndex(PageNumber run, out long index, out PageNumber dump)
    {
        index = -1;
        return Remaps.TryToDump(run, out dump) && Map.TryIndex(dump, out index);
    }
}

/// <summary>A request on its way, or arrived and not wholly installed.</summary>
internal struct RequestSlot
{
    public AddressSpace? Space;
    public PageRange Range;

    /// <summary>Of the first page, in the page map.</summary>
    public long Index;

    public Cause Cause;

    /// <summary>Of the page that is waited for, where the cause is demand: the others go along with it, as bulk.</summary>
    public long Demanded;

    public int Lane;
    public Instant Requested;

    /// <summary>When the pages came in that came last.</summary>
    public Instant Arrived;

    /// <summary>Pages that have neither been installed nor dropped; zero when the slot is free.</summary>
    public long Open;

    /// <summary>Whether the source said that it cannot give them now: they do not count as in flight.</summary>
    public bool IsDelayed;

    /// <summary>Why a page of it was asked for.</summary>
    public readonly Cause CauseOf(long index) => Cause == Cause.Demand && index != Demanded ? Cause.Background : Cause;

    /// <summary>Takes the first pages off that were asked for for the same reason: those before the one that is waited for, that one, those behind it.</summary>
    public readonly PageRange TakeSame(ref PageRange pages, out Cause cause)
    {
        long index = Index + (pages.Start - Range.Start);
        cause = CauseOf(index);
        long count = index < Demanded ? Demanded - index : index == Demanded ? 1 : pages.Count;
        PageRange same = pages with { Count = Math.Min(pages.Count, count) };
        pages = PageRange.Between(same.End, pages.End);
        return same;
    }

    /// <summary>The index of the first of these pages; -1 when not all of them were asked for.</summary>
    public readonly long IndexOf(PageRange dump)
    {
        long offset = dump.Start - Range.Start;
        return (ulong)offset <= (ulong)Range.Count && (ulong)dump.Count <= (ulong)(Range.Count - offset) ? Index + offset : -1;
    }
}

/// <summary>A thread that waits: what it is looked up by, apart from the <see cref="FaultRecord"/>, to be small.</summary>
internal struct PendingFault
{
    /// <summary>What is waited for: see <see cref="AddressSpace.PlaceOf"/>.</summary>
    public long Place;

    public PageNumber RunPage;

    /// <summary>The address space.</summary>
    public int Space;

    public int Thread;

    /// <summary>Where its record is.</summary>
    public int Record;

    /// <summary>Whether it is one of the pages from this place on that is waited for.</summary>
    public readonly bool IsFor(long place, long count) => (ulong)(Place - place) < (ulong)count;
}
