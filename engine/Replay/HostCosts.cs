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

    /// <summary>From sending a request until the first byte of the reply could leave the server, and through the host's own network stack.</summary>
    public Duration ServerPerRequest { get; init; }

    /// <summary>The server's and the receiver's time per page, which bounds the rate on a fast link.</summary>
    public Duration ServerPerPage { get; init; }

    /// <summary>The daemon's time per install.</summary>
    public Duration InstallPerCall { get; init; }

    /// <summary>And per page in it.</summary>
    public Duration InstallPerPage { get; init; }

    /// <summary>As measured on the reference host, a two-CPU virtual machine with Linux 6.18.</summary>
    public static HostCosts Reference { get; } = new()
    {
        FaultDelivery = Duration.FromMicroseconds(10),
        ThreadWake = Duration.FromMicroseconds(10),
        RequestSend = Duration.FromMicroseconds(5),
        ServerPerRequest = Duration.FromMicroseconds(40),
        ServerPerPage = Duration.FromMicroseconds(1),
        InstallPerCall = Duration.FromMicroseconds(3),
        InstallPerPage = Duration.FromMicroseconds(0.5),
    };
}
