namespace Testbed.Core;

/// <summary>What happened. The numbers are part of the trace format.</summary>
public enum ServiceEventKind : byte
{
    /// <summary>A thread waits for the one page in <c>Range</c>. Uses Space, Thread, Access, Woken.</summary>
    Fault = 0,

    /// <summary>Pages of <c>Request</c> came from the source; <c>Range</c> is by dump address, perhaps a part of what was asked.</summary>
    Arrived = 1,

    /// <summary>What became of an Install or Zero command, or of a part of it. Uses Space, Request (-1 for Zero), Range, Outcome.</summary>
    InstallOutcome = 2,

    /// <summary>madvise(DONTNEED) or the like: the pages in <c>Range</c> read as zero from now on.</summary>
    Removed = 3,

    /// <summary>munmap: the pages in <c>Range</c> do not exist any more.</summary>
    Unmapped = 4,

    /// <summary>mremap: the pages in <c>Range</c> are at <c>Destination</c> now.</summary>
    Remapped = 5,

    /// <summary>fork: <c>Other</c> is the child's address space, a copy of <c>Space</c> as it is.</summary>
    Forked = 6,

    /// <summary>The process, or its old program after exec, is gone. Uses Space.</summary>
    Exited = 7,

    /// <summary><c>Lane</c> can carry requests.</summary>
    LaneUp = 8,

    /// <summary><c>Lane</c> is lost, with all that was in flight on it.</summary>
    LaneDown = 9,

    /// <summary>Everything that was waiting to be handled has been: time for the background transfer.</summary>
    Idle = 10,

    /// <summary>From now on everything that is away is moved, whatever the policy.</summary>
    Drain = 11,

    /// <summary>Prefetch and background transfer may begin; before, a service that is held moves what is waited for and nothing else.</summary>
    Released = 12,

    /// <summary>The source cannot give what is left of <c>Request</c> now. The request stays open, and no longer counts as in flight.</summary>
    Delayed = 13,

    /// <summary>The pages in <c>Range</c> are to come before all that no thread waits for: the kernel itself touches
    /// them and does not wait.</summary>
    Needed = 14,
}

/// <summary>What the kernel said to an install. The numbers are part of the trace format.</summary>
public enum InstallOutcome : byte
{
    /// <summary>The pages are in, and who waited for them was woken.</summary>
    Installed = 0,

    /// <summary>EEXIST: the first page of the range is there already; the others were not tried.</summary>
    AlreadyPresent = 1,

    /// <summary>EAGAIN: an event about this memory waits to be read first.</summary>
    Again = 2,

    /// <summary>ENOENT: the range is not, or not as one, a registered area.</summary>
    Gone = 3,

    /// <summary>ESRCH: the process is gone.</summary>
    ProcessGone = 4,
}

/// <summary>
/// One input of the fault service. Which fields count depends on <see cref="Kind"/>; the others are zero.
/// </summary>
/// <remarks>Fields can be set, so that a caller may keep one event of each kind and change what changes: to fill a new one, and
/// to copy what was just written in small pieces, costs more than to handle it.</remarks>
/// <param name="Kind">What happened.</param>
/// <param name="Time">When, in nanoseconds since the run began; never before the event handled last.</param>
/// <param name="Space">The address space: 0 is the target.</param>
/// <param name="Range">Pages, by run-time address, but for Arrived by dump address.</param>
public record struct ServiceEvent(ServiceEventKind Kind, Instant Time, int Space, PageRange Range)
{
    /// <summary>Fault: the thread's index.</summary>
    public int Thread { get; set; }

    /// <summary>Fault: read or write.</summary>
    public Access Access { get; set; }

    /// <summary>Fault: when the daemon woke up to read it.</summary>
    public Instant Woken { get; set; }

    /// <summary>InstallOutcome: what the kernel said.</summary>
    public InstallOutcome Outcome { get; set; }

    /// <summary>LaneUp, LaneDown: the lane.</summary>
    public int Lane { get; set; }

    /// <summary>Arrived, InstallOutcome, Delayed: the request's number; -1 for a zero page.</summary>
    public int Request { get; set; }

    /// <summary>Remapped: where the first page is now.</summary>
    public PageNumber Destination { get; set; }

    /// <summary>Forked: the child's address space.</summary>
    public int Other { get; set; }
}

/// <summary>What is to be done.</summary>
public enum CommandKind : byte
{
    /// <summary>Ask the source for <c>Range</c> (dump addresses) on <c>Lane</c>, as <c>Request</c>.</summary>
    Request = 0,

    /// <summary>Put arrived pages of <c>Request</c>, from dump page <c>Source</c> on, at <c>Range</c> (run-time addresses). Answer with InstallOutcome.</summary>
    Install = 1,

    /// <summary>Put zero pages at <c>Range</c>. Answer with InstallOutcome, Request -1.</summary>
    Zero = 2,

    /// <summary>Wake who waits in <c>Range</c>: they touch again.</summary>
    Wake = 3,

    /// <summary>The buffer of <c>Request</c> is not needed any more and its number is free.</summary>
    Release = 4,

    /// <summary>The process of <c>Space</c> is gone: stop serving it.</summary>
    Unregister = 5,
}

/// <summary>One output of the fault service, to be carried out in order.</summary>
/// <param name="Kind">What is to be done.</param>
/// <param name="Space">The address space.</param>
/// <param name="Request">The number of the request; requests reuse numbers, so a table by number stays small.</param>
/// <param name="Range">Pages.</param>
/// <param name="Source">Install: the dump page whose content goes to the first page of the range.</param>
/// <param name="Lane">Request: the lane.</param>
/// <param name="Cause">Request: why.</param>
public readonly record struct ServiceCommand(
    CommandKind Kind, int Space, int Request, PageRange Range, PageNumber Source, int Lane, Cause Cause);
