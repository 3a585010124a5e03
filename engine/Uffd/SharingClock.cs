using System.Diagnostics;
using Testbed.Core;

namespace Testbed.Uffd;

/// <summary>
/// How long a process may share its memory with another one before it is refused: a spawned child has done so for
/// milliseconds.
/// </summary>
internal sealed class SharingClock
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(1);
    private readonly Stopwatch _clock = Stopwatch.StartNew();
    private int _pause = 5;

    /// <summary>Checks that it may be tried again.</summary>
    /// <exception cref="BadInputException">The time is up.</exception>
    public void EnsureTimeLeft(int pid, int sharer)
    {
        if (_clock.Elapsed > Limit)
        {
            throw new BadInputException(
                $"process {pid} ({ProcessInfo.NameOf(pid)}): shares its memory with process {sharer} "
                + $"({ProcessInfo.NameOf(sharer)}), which is none of its threads (clone with CLONE_VM, or vfork); "
                + "a process that has its memory to itself is expected");
        }
    }

    /// <summary>Lets them run, longer each time.</summary>
    public void Pause()
    {
        Thread.Sleep(_pause);
        _pause = Math.Min(_pause * 2, 100);
    }
}
