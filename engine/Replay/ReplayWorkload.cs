using Testbed.Core;

namespace Testbed.Replay;

/// <summary>The first touches of one thread, in order. 13 bytes per touch.</summary>
/// <param name="Pages">Index of each page in the memory's <see cref="PageMap"/>.</param>
/// <param name="Think">Before each touch: nanoseconds from the end of the thread's last wait, or from the start.</param>
/// <param name="Writes">Whether it wrote.</param>
public sealed record TouchSequence(uint[] Pages, long[] Think, bool[] Writes)
{
    /// <summary>How many of its touches came before the workload's first response.</summary>
    public int BeforeFirstResponse { get; init; }
}

/// <summary>What a replay runs: memory, and who touches what in which order.</summary>
/// <param name="Name">The workload, as a person calls it.</param>
/// <param name="Image">What is away at the start.</param>
/// <param name="Threads">The touches, per thread.</param>
public sealed record ReplayWorkload(string Name, MemoryImage Image, IReadOnlyList<TouchSequence> Threads)
{
    /// <summary>From the last touch that the first response needed to the response; null where no response was defined.</summary>
    public Duration? FirstResponseTail { get; init; }

    /// <summary>All first touches in the order of the capture, by dump address: what a record-and-prefetch policy of this trace would know.</summary>
    public IReadOnlyList<PageNumber> Recording { get; init; } = [];

    /// <summary>How many touches there are.</summary>
    public long Touches => Threads.Sum(t => (long)t.Pages.Length);
}
