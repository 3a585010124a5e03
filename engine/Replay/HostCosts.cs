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

    /// <summary>
    /// For the reference host, a two-CPU virtual machine (AMD EPYC, Linux 6.18), from live runs of redis-small. Installs are
    /// medians from event traces; delivery and wake-up together are what a thread saw beyond the daemon's latency. The shares of
    /// sending, host delay, server and receiving are an estimate that adds up to the measured transfers (one page, and bulk),
    /// and the shaper's delay is what shaped runs took beyond that.
    /// </summary>
    public static HostCosts Reference { get; } = new()
    {
        FaultDelivery = Duration.FromMicroseconds(6.5),
        ThreadWake = Duration.FromMicroseconds(1),
        RequestSend = Duration.FromMicroseconds(4),
        HostDelay = Duration.FromMicroseconds(6.3),
        ShaperDelay = Duration.FromMicroseconds(45),
        ServerPerRequest = Duration.FromMicroseconds(5),
        ServerPerPage = Duration.FromMicroseconds(1),
        ReceivePerCall = Duration.FromMicroseconds(4),
        ReceivePerPage = Duration.FromMicroseconds(0.6),
        InstallPerCall = Duration.FromMicroseconds(0.75),
        InstallPerPage = Duration.FromMicroseconds(0.75),
        InstallWake = Duration.FromMicroseconds(7.5),
    };
}
