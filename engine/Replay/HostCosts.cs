using Testbed.Core;

namespace Testbed.Replay;

/// <summary>
/// What the host charges, beside the link. Calibration measures them; a replay on the same host then needs only the
/// trace. The recorded think time of a touch holds one delivery and one wake-up, which a prefetched page saves.
/// </summary>
public sealed record HostCosts
{
    /// <summary>From the touch until the daemon has read the fault.</summary>
    public Duration FaultDelivery { get; init; }

    /// <summary>How much longer the ways to the daemon and back to the thread are together over an emulated link: waits are long there, and CPUs
    /// that have nothing to do meanwhile wake up slowly. Not charged when the link is unshaped, and not part of recorded think times.</summary>
    public Duration IdleWake { get; init; }

    /// <summary>How much longer a millisecond of a thread's own work takes while pages come in that nobody waits for than when none but its own
    /// do: it shares caches and CPUs with those who bring them. Zero in calibrations that did not measure it.</summary>
    public Duration BulkThink { get; init; }

    /// <summary>From the end of the install until the thread runs.</summary>
    public Duration ThreadWake { get; init; }

    /// <summary>The daemon's time to send one request.</summary>
    public Duration RequestSend { get; init; }

    /// <summary>What a request and its reply spend in the host's own network stack and in waking the other side; requests on one lane overlap in it.</summary>
    public Duration HostDelay { get; init; }

    /// <summary>How late an emulated link delivers: its timer and its wake-up. Not charged when the link is unshaped.</summary>
    public Duration ShaperDelay { get; init; }

    /// <summary>The server's time per request; one request at a time on each lane.</summary>
    public Duration ServerPerRequest { get; init; }

    /// <summary>The server's time per page.</summary>
    public Duration ServerPerPage { get; init; }

    /// <summary>The daemon's time to take in what has arrived, each time.</summary>
    public Duration ReceivePerCall { get; init; }

    /// <summary>And per page of it.</summary>
    public Duration ReceivePerPage { get; init; }

    /// <summary>The daemon's time per install.</summary>
    public Duration InstallPerCall { get; init; }

    /// <summary>And per page in it.</summary>
    public Duration InstallPerPage { get; init; }

    /// <summary>And when somebody waits for one of the pages: waking is the larger part.</summary>
    public Duration InstallWake { get; init; }

    /// <summary>How far apart the faults were whose <see cref="LocalDelays"/> those are.</summary>
    public Duration LocalInterval { get; init; }

    /// <summary>And those of <see cref="ShapedDelays"/>.</summary>
    public Duration ShapedInterval { get; init; }

    /// <summary>How far a page's way from request to install lies from its median, when the link is unshaped.</summary>
    public DelaySample LocalDelays { get; init; } = DelaySample.None;

    /// <summary>And over an emulated link, whose timers and wake-ups are late now and then.</summary>
    public DelaySample ShapedDelays { get; init; } = DelaySample.None;

    /// <summary>Those of the reference host: the committed calibration scenarios/calibrations/reference.json, which says what host
    /// that is.</summary>
    public static HostCosts Reference => Calibration.Reference.ToCosts();
}
