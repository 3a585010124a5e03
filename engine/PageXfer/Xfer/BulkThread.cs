using Mono.Unix.Native;

namespace Testbed.PageXfer.Xfer;

/// <summary>
/// Threads that carry bulk step back behind those that somebody waits for. Else, with fewer CPUs than threads, a fault that needs four
/// wake-ups (daemon, server, daemon, program) waits at each until a thread that copies megabytes has used up its time slice, some milliseconds.
/// </summary>
public static class BulkThread
{
    private const int Steps = 10;

    /// <summary>Lowers the calling thread's priority for good.</summary>
    public static void StepBack()
    {
        // Linux counts it by thread. Failing is harmless: then all are equal.
        _ = Syscall.nice(Steps);
    }
}
