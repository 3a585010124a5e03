using Testbed.Core;

namespace Testbed.Reports.Statistics;

/// <summary>
/// One line of the result table: a policy over a link on a workload, live or in replay. Where it was run several times,
/// the run with the median total stall stands for all (its numbers belong together, and its command hash to them),
/// and intervals tell how far the runs lie apart.
/// </summary>
public sealed class Summary
{
    /// <summary>The run that stands for the group.</summary>
    public RunResult Run { get; }

    /// <summary>How many runs there were.</summary>
    public int Runs { get; }

    /// <summary>95 % bootstrap interval of the median total stall over runs, in nanoseconds; null below three runs.</summary>
    public Interval? StallInterval { get; }

    /// <summary>95 % bootstrap interval of the median p99 latency over runs, in nanoseconds; null below three runs.</summary>
    public Interval? P99Interval { get; }

    /// <summary>The total stall of each run, in nanoseconds.</summary>
    public IReadOnlyList<double> Stalls { get; }

    private Summary(IReadOnlyList<RunResult> runs)
    {
        Runs = runs.Count;
        RunResult[] byStall = [.. runs.OrderBy(r => r.TotalStall)];
        Run = byStall[(byStall.Length - 1) / 2];
        Stalls = [.. runs.Select(r => (double)r.TotalStall.Nanoseconds)];
        StallInterval = Median(runs.Select(r => r.TotalStall));
        P99Interval = Median(runs.Select(r => r.LatencyQuantile(0.99)));
    }

    /// <summary>Groups results by workload, mode, link and policy, each in the order of first appearance.</summary>
    public static IReadOnlyList<Summary> Of(IReadOnlyList<RunResult> results) =>
        [.. results.GroupBy(r => (r.Workload, r.Mode, r.Link, r.Policy)).Select(g => new Summary([.. g]))];

    /// <summary>95 % bootstrap interval of a latency quantile over the faults of <see cref="Run"/>, which are taken to be independent, in
    /// nanoseconds; null below three faults.</summary>
    public Interval? LatencyInterval(double q) => Bootstrap.OfQuantile(_latencies ??= Sample.Of(Run.Latencies), q);

    private Sample? _latencies;

    private static Interval? Median(IEnumerable<Duration> perRun) => Bootstrap.OfQuantile(Sample.Of([.. perRun]), 0.5);
}
