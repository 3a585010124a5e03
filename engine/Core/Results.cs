using System.Runtime.InteropServices;

namespace Testbed.Core;

/// <summary>Why a page was moved, or how a first touch was answered.</summary>
public enum Cause : byte
{
    /// <summary>A thread waits for it.</summary>
    Demand,

    /// <summary>The policy expects that it is touched soon.</summary>
    Prefetch,

    /// <summary>The background transfer came by.</summary>
    Background,

    /// <summary>It was never in the image: a zero page, made here and not fetched.</summary>
    Zero,
}

/// <summary>Whether the first touch read or wrote.</summary>
public enum Access : byte
{
    /// <summary>A load, an instruction fetch, or the kernel reading.</summary>
    Read,

    /// <summary>A store, or the kernel writing.</summary>
    Write,
}

/// <summary>
/// One fault, from the daemon's sight to the wake-up. All times are in nanoseconds since the run began; a step that a
/// fault did not need (a zero page needs no request) has the time of the step before it.
/// </summary>
/// <remarks>Times can be set, so that the record of a fault that is open needs no copy when it is answered.</remarks>
/// <param name="Space">Which address space: 0 is the target, later ones are children that it forked.</param>
/// <param name="Thread">The thread, as an index into the trace's thread table.</param>
/// <param name="Page">The page, by its address when the memory was dumped.</param>
/// <param name="Access">Read or write.</param>
/// <param name="Cause">Demand when this fault, or another thread's, asked for the page; Prefetch or Background when the page was already
/// in flight for that reason (a late prefetch); Zero when no page had to be fetched.</param>
/// <param name="Woken">When the daemon woke up, or turned to the fault queue, to read it.</param>
/// <param name="Read">When the fault service was given it.</param>
/// <param name="Requested">When the request for the page went out.</param>
/// <param name="Arrived">When the page had come in.</param>
/// <param name="Resolved">When it was installed and the thread woken.</param>
public record struct FaultRecord(
    int Space, int Thread, PageNumber Page, Access Access, Cause Cause,
    Instant Woken, Instant Read, Instant Requested, Instant Arrived, Instant Resolved)
{
    /// <summary>How long the thread waited, as far as the daemon can see.</summary>
    public readonly Duration Latency => Resolved - Woken;
}

/// <summary>A range that was installed: when, and why it had been asked for.</summary>
[StructLayout(LayoutKind.Auto)]
public readonly record struct InstallRecord(Instant Time, int Space, PageRange Range, Cause Cause);

/// <summary>What became of the pages that were moved before anybody waited for them.</summary>
/// <param name="Issued">Pages asked for as prefetch.</param>
/// <param name="Useful">Touched after they arrived.</param>
/// <param name="Late">Touched while in flight.</param>
/// <param name="Unused">Never touched.</param>
public readonly record struct PrefetchCounts(long Issued, long Useful, long Late, long Unused);

/// <summary>Whether a result was measured on a real process or computed from a trace.</summary>
public enum RunMode : byte
{
    /// <summary>Discrete-event simulation of a recorded workload.</summary>
    Replay,

    /// <summary>A real process, real pages, real waiting.</summary>
    Live,
}

/// <summary>
/// What no policy can beat for a workload over a link, computed from when pages can cross the link at the earliest.
/// </summary>
/// <param name="WorkloadTime">Of <see cref="RunResult.WorkloadTime"/>.</param>
/// <param name="TimeToFirstResponse">Of <see cref="RunResult.TimeToFirstResponse"/>; null where the workload defines none.</param>
/// <param name="Waiting">Of <see cref="RunResult.Waiting"/>.</param>
/// <param name="AllIn">Of the time when all pages are in, where they come in at all.</param>
public sealed record LinkBound(Duration WorkloadTime, Duration? TimeToFirstResponse, Duration Waiting, Duration AllIn);

/// <summary>Everything that one run of one policy over one link on one workload gave.</summary>
public sealed class RunResult
{
    /// <summary>The workload or trace, as a person calls it.</summary>
    public required string Workload { get; init; }

    /// <summary>The policy with its options, as typed: <c>next-n:n=16</c>.</summary>
    public required string Policy { get; init; }

    /// <summary>The link, as typed: <c>1Gbit/s,1ms</c>.</summary>
    public required string Link { get; init; }

    /// <summary>Live or replay.</summary>
    public required RunMode Mode { get; init; }

    /// <summary>Latency of each fault that waited for a page to come (demand and late ones), in the order of resolution.</summary>
    public required IReadOnlyList<Duration> Latencies { get; init; }

    /// <summary>When each of them was resolved, to the microsecond, in the same order; empty where that was not kept.</summary>
    public IReadOnlyList<Instant> ResolvedAt { get; init; } = [];

    /// <summary>Faults that had to ask for their page, or that waited for one that another thread's fault had asked for.</summary>
    public required long DemandFaults { get; init; }

    /// <summary>Faults for a page that was already on its way as prefetch or background.</summary>
    public required long LateFaults { get; init; }

    /// <summary>Faults answered with a zero page.</summary>
    public required long ZeroFaults { get; init; }

    /// <summary>The sum of all latencies, of zero faults too, over all threads.</summary>
    public required Duration TotalStall { get; init; }

    /// <summary>The sum of all that the threads lose, as they see it, from the touch until the thread runs again: beside
    /// <see cref="TotalStall"/> the ways from the touch to the daemon and back, and the time until the daemon turned to the fault; and what
    /// their own work takes longer while pages come in that nobody waits for.
    /// Known in replay only; null live.</summary>
    public Duration? Waiting { get; init; }

    /// <summary>What no policy can beat on this workload and link; null live, and where nobody asked for it.</summary>
    public LinkBound? Bound { get; init; }

    /// <summary>From resume to the workload's first answer; null where the workload defines none.</summary>
    public Duration? TimeToFirstResponse { get; init; }

    /// <summary>When the last recorded touch was done: how long the recorded work took under this policy.</summary>
    public required Duration WorkloadTime { get; init; }

    /// <summary>Pages that were away at the start.</summary>
    public required long TotalPages { get; init; }

    /// <summary>Residency over time: (time, pages in), thinned to a few thousand steps, first and last kept.</summary>
    public required IReadOnlyList<(Instant Time, long Pages)> Residency { get; init; }

    /// <summary>What was installed when and why, thinned to at most some tens of thousand records, for pictures.</summary>
    public required IReadOnlyList<InstallRecord> Installs { get; init; }

    /// <summary>Bytes of pages that came over the link.</summary>
    public required long Bytes { get; init; }

    /// <summary>The fate of prefetched and background pages. Live, touches of resident pages cannot be seen: only
    /// Issued and Late are known there, and the others are 0.</summary>
    public required PrefetchCounts Prefetch { get; init; }

    /// <summary>A hash over every command of the fault service, in order. Same trace, policy, link and seed: same hash.</summary>
    public required ulong CommandHash { get; init; }

    /// <summary>The time when <paramref name="share"/> (0 to 1) of the pages were in, or null if that never came.</summary>
    public Instant? TimeToResidency(double share)
    {
        long wanted = (long)Math.Ceiling(share * TotalPages);
        foreach ((Instant time, long pages) in Residency)
        {
            if (pages >= wanted)
                return time;
        }
        return null;
    }

    /// <summary>The q-quantile (0 to 1) of the latencies, by nearest rank; zero when no fault waited.</summary>
    public Duration LatencyQuantile(double q)
    {
        if (Latencies.Count == 0)
            return Duration.Zero;
        _sorted ??= Sorted();
        int rank = (int)Math.Ceiling(q * _sorted.Length) - 1;
        return _sorted[Math.Clamp(rank, 0, _sorted.Length - 1)];
    }

    /// <summary>Latencies are never negative, so they can be sorted by their digits, of 11 bits: to compare them takes as long as half of
    /// what the replay took.</summary>
    private Duration[] Sorted()
    {
        Duration[] sorted = [.. Latencies];
        var other = new Duration[sorted.Length];
        long largest = sorted.Max().Nanoseconds;
        Span<int> places = stackalloc int[1 << 11];
        for (int shift = 0; shift < 64 && largest >> shift > 0; shift += 11)
        {
            places.Clear();
            foreach (Duration latency in sorted)
                places[Digit(latency, shift)]++;
            for (int digit = 0, before = 0; digit < places.Length; digit++)
                (places[digit], before) = (before, before + places[digit]);
            foreach (Duration latency in sorted)
                other[places[Digit(latency, shift)]++] = latency;
            (sorted, other) = (other, sorted);
        }
        return sorted;
    }

    private static int Digit(Duration latency, int shift) => (int)(latency.Nanoseconds >> shift) & ((1 << 11) - 1);

    private Duration[]? _sorted;
}
