using Testbed.Core;

namespace Testbed.Traces;

/// <summary>How the faults of a trace came about.</summary>
public enum RecordingKind
{
    /// <summary>Demand-only, one page at a time, nothing in the background: every first touch is seen. What replay needs.</summary>
    Capture = 0,

    /// <summary>A live run under a policy: touches that a prefetch hid are not in it.</summary>
    Live = 1,

    /// <summary>Made by a program, not by a process.</summary>
    Generated = 2,
}

/// <summary>How a recording ended.</summary>
public enum EndState
{
    /// <summary>All memory was back, and the target ran on.</summary>
    Drained = 0,

    /// <summary>The target ended by itself.</summary>
    TargetExited = 1,

    /// <summary>Somebody stopped the recording; the memory was brought back first.</summary>
    Interrupted = 2,

    /// <summary>An error stopped it; the note says which.</summary>
    Failed = 3,
}

/// <summary>A thread of the target or of one of its children.</summary>
/// <param name="Index">Its place in the trace's table: 0 for the first one, without gaps.</param>
/// <param name="Tid">Its kernel thread id while recording.</param>
/// <param name="Name">Its name as in /proc/PID/task/TID/comm, or empty.</param>
public readonly record struct TraceThread(int Index, int Tid, string Name);

/// <summary>Where a trace came from, and the memory that was away when it began. Written before the first fault.</summary>
public sealed record TraceHeader
{
    /// <summary>The program that recorded, with its commit.</summary>
    public string ToolVersion { get; init; } = "";

    /// <summary>How that program was called.</summary>
    public string ToolCommandLine { get; init; } = "";

    /// <summary>The workload, as a person calls it: <c>redis-500mb</c>.</summary>
    public required string Workload { get; init; }

    /// <summary>How the target was started, as in /proc/PID/cmdline, with blanks.</summary>
    public string TargetCommandLine { get; init; } = "";

    /// <summary>The target's process id.</summary>
    public int TargetPid { get; init; }

    /// <summary>The kernel's release and version, without a host name.</summary>
    public string Kernel { get; init; } = "";

    /// <summary>The processor's model name.</summary>
    public string CpuModel { get; init; } = "";

    /// <summary>Processors that were online.</summary>
    public int CpuCount { get; init; }

    /// <summary>When the recording began; kept to the millisecond, in UTC.</summary>
    public DateTimeOffset Recorded { get; init; } = DateTimeOffset.UnixEpoch;

    /// <summary>Which areas were chosen: <c>heap</c>, <c>anon</c>, <c>all</c>.</summary>
    public string Region { get; init; } = "";

    /// <summary>Captured, live under a policy, or generated.</summary>
    public RecordingKind Kind { get; init; }

    /// <summary>The policy in force while recording, with its options, as typed.</summary>
    public string Policy { get; init; } = "";

    /// <summary>The link while recording, as typed.</summary>
    public string Link { get; init; } = "";

    /// <summary>The transfer configuration while recording, as typed.</summary>
    public string Transfer { get; init; } = "";

    /// <summary>The seed of the run.</summary>
    public ulong Seed { get; init; }

    /// <summary>The areas, and the pages to fetch.</summary>
    public required MemoryImage Image { get; init; }

    /// <summary>Pages of the areas that were never evicted (rseq areas, locked pages): sorted, without overlap.</summary>
    public IReadOnlyList<PageRange> ResidentAtStart { get; init; } = [];

    /// <summary>The threads known at the start, by index. More may follow in the trace.</summary>
    public IReadOnlyList<TraceThread> Threads { get; init; } = [];

    /// <summary>Anything else worth keeping, by name: calibration figures, hashes, versions of the workload.</summary>
    public IReadOnlyDictionary<string, string> Properties { get; init; } = new Dictionary<string, string>();
}

/// <summary>What is only known when a recording ends. A trace that has it is complete.</summary>
public sealed record TraceEnd
{
    /// <summary>How it ended.</summary>
    public EndState State { get; init; }

    /// <summary>From the resume of the target to the end of the recording.</summary>
    public Duration Duration { get; init; }

    /// <summary>The hash over all commands of the fault service, to check an exact replay against; null when none was kept.</summary>
    public ulong? CommandHash { get; init; }

    /// <summary>From resume to the workload's first answer; null where the workload defines none.</summary>
    public Duration? TimeToFirstResponse { get; init; }

    /// <summary>What a person should know about it, such as the error that ended it.</summary>
    public string Note { get; init; } = "";
}
