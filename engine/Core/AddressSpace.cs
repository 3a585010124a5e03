namespace Testbed.Core;

/// <summary>One process's memory: what is where, and the policy that serves it.</summary>
internal sealed class AddressSpace(int id, PageMap map, RemapTable remaps, IPolicy policy)
{
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

    /// <summary>The index of a run-time page; false when nothing that was dumped is there.</summary>
    public bool TryIndex(PageNumber run, out long index)
    {
        index = -1;
        return Remaps.TryToDump(run, out PageNumber dump) && Map.TryIndex(dump, out index);
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
    public int Lane;
    public Instant Requested;

    /// <summary>Pages that have neither been installed nor dropped; zero when the slot is free.</summary>
    public long Open;

    public readonly long IndexOf(PageNumber dump) => Index + (dump - Range.Start);
}

/// <summary>A thread that waits.</summary>
internal struct PendingFault
{
    public AddressSpace Space;
    public int Thread;

    /// <summary>In the page map; -1 when nothing that was dumped is there.</summary>
    public long Index;

    public PageNumber Page;
    public PageNumber RunPage;
    public Access Access;
    public Cause Cause;
    public Instant Woken, Read, Requested, Arrived;
}
