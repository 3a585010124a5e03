using Testbed.Core;

namespace Testbed.Traces;

/// <summary>
/// What kind of load a trace is: how much it touches, how fast, how scattered, and whether another run would touch the same.
/// Of the target's own address space, and its first touches only.
/// </summary>
public sealed class TraceCharacter
{
    /// <summary>In how many equal parts of its duration the first touches are counted.</summary>
    public const int RateBins = 60;

    private readonly HashSet<ulong> _touched;

    /// <summary>Reads the figures off <paramref name="trace"/>.</summary>
    public TraceCharacter(Trace trace)
    {
        Header = trace.Header;
        Name = Path.GetFileNameWithoutExtension(trace.Name);
        FirstTouches touches = trace.FirstTouches();
        Duration = ActiveTime(trace);
        _touched = [.. touches.Recording.Select(p => p.Value)];
        long[] thinks = [.. touches.Threads.SelectMany(t => t.ThinkNanoseconds)];
        Think = Quantiles.Of(thinks);
        SortedThinkNanoseconds = thinks;
        SortedRunPages = Runs(_touched);
        TouchesOverTime = OverTime(trace, Duration);
        Holes = HolesTouched(trace);
        Content = PageContent.From(trace.Header);
        Threads = touches.Threads.Count;
    }

    /// <summary>The file's name, without folder and extension.</summary>
    public string Name { get; }

    /// <summary>Where it came from.</summary>
    public TraceHeader Header { get; }

    /// <summary>Pages that were away and had content: the footprint.</summary>
    public long Footprint => Header.Image.PresentPages;

    /// <summary>Different pages touched.</summary>
    public long Touched => _touched.Count;

    /// <summary>Of them, pages that had no content yet: first touches of fresh memory, answered with zeros.</summary>
    public long Holes { get; }

    /// <summary>Threads that touched something first.</summary>
    public int Threads { get; }

    /// <summary>From resume to the last first touch.</summary>
    public Duration Duration { get; }

    /// <summary>First touches per second of <see cref="Duration"/>.</summary>
    public double Rate => Duration.Nanoseconds > 0 ? Touched / Duration.Seconds : 0;

    /// <summary>How many first touches fell in each of <see cref="RateBins"/> equal parts of <see cref="Duration"/>.</summary>
    public IReadOnlyList<int> TouchesOverTime { get; }

    /// <summary>Time a thread ran between one first touch and the next.</summary>
    public Quantiles Think { get; }

    /// <summary>The same times, each of them, sorted, in nanoseconds.</summary>
    public IReadOnlyList<long> SortedThinkNanoseconds { get; }

    /// <summary>
    /// Lengths in pages of the maximal runs of consecutive pages in the touched set, sorted (as in Ustiugov et al., ASPLOS 2021): how far
    /// the working set could be moved in large pieces, whatever the order of touches.
    /// </summary>
    public IReadOnlyList<int> SortedRunPages { get; }

    /// <summary>The mean of <see cref="SortedRunPages"/>.</summary>
    public double MeanRun => SortedRunPages.Count == 0 ? 0 : SortedRunPages.Average();

    /// <summary>What a sample of the pages held; null when the trace does not say.</summary>
    public PageContent? Content { get; }

    /// <summary>Whether two traces are captures of one process, so that an address is the same page in both.</summary>
    public bool IsSibling(TraceCharacter other) => other.Name != Name
        && Header.Workload == other.Header.Workload && Header.TargetPid == other.Header.TargetPid && Header.TargetPid != 0
        && Header.TargetCommandLine == other.Header.TargetCommandLine;

    /// <summary>Pages touched in both over pages touched in either: how far one run foretells the other.</summary>
    public double Jaccard(TraceCharacter other)
    {
        int both = _touched.Count(other._touched.Contains);
        return (double)both / Math.Max(1, _touched.Count + other._touched.Count - both);
    }

    private static Duration ActiveTime(Trace trace)
    {
        Instant last = Instant.Zero;
        foreach (ref readonly FaultRecord fault in trace.Faults.AsSpan())
            last = fault.Space == 0 ? Instant.Max(last, fault.Woken) : last;
        return last - Instant.Zero;
    }

    private static int[] OverTime(Trace trace, Duration duration)
    {
        int[] bins = new int[RateBins];
        var seen = new HashSet<PageNumber>();
        foreach (ref readonly FaultRecord fault in trace.Faults.AsSpan())
        {
            if (fault.Space == 0 && seen.Add(fault.Page))
                bins[Math.Min(RateBins - 1, (int)((double)fault.Woken.Nanoseconds / Math.Max(1, duration.Nanoseconds) * RateBins))]++;
        }
        return bins;
    }

    private static long HolesTouched(Trace trace)
    {
        var holes = new HashSet<PageNumber>();
        foreach (ref readonly FaultRecord fault in trace.Faults.AsSpan())
        {
            if (fault.Space == 0 && fault.Cause == Cause.Zero)
                holes.Add(fault.Page);
        }
        return holes.Count;
    }

    private static int[] Runs(HashSet<ulong> pages)
    {
        ulong[] sorted = [.. pages.Order()];
        var runs = new List<int>();
        for (int i = 0; i < sorted.Length;)
        {
            int first = i++;
            while (i < sorted.Length && sorted[i] == sorted[i - 1] + 1)
                i++;
            runs.Add(i - first);
        }
        runs.Sort();
        return [.. runs];
    }
}
