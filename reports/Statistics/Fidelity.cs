using System.Globalization;
using System.Text;
using Testbed.Core;

namespace Testbed.Reports.Statistics;

/// <summary>A number that live and replayed runs are compared by.</summary>
/// <param name="Name">As people read it.</param>
/// <param name="Bar">How far off the replay may be, as a share of the live number.</param>
/// <param name="Value">The number of a run; null where it has none.</param>
/// <param name="Text">A number as people read it.</param>
public sealed record FidelityMetric(string Name, double Bar, Func<RunResult, double?> Value, Func<double, string> Text)
{
    /// <summary>What the testbed promises, and how far off it may be.</summary>
    public static IReadOnlyList<FidelityMetric> All { get; } =
    [
        new("demand faults", 0.05, r => r.DemandFaults, v => v.ToString("N0", CultureInfo.InvariantCulture)),
        new("p50", 0.15, r => Latency(r, 0.5), Time),
        new("p99", 0.15, r => Latency(r, 0.99), Time),
        new("total stall", 0.10, r => r.TotalStall.Nanoseconds, Time),
        new("100 % resident", 0.10, r => r.TimeToResidency(1)?.Nanoseconds, Time),
    ];

    private static double? Latency(RunResult run, double q) => run.Latencies.Count == 0 ? null : run.LatencyQuantile(q).Nanoseconds;

    private static string Time(double nanoseconds) => Column.Human(new Duration((long)nanoseconds));
}

/// <summary>One number of one pair: its values live and replayed, a value per run.</summary>
/// <param name="Metric">Which.</param>
/// <param name="Live">One value per live run, in ascending order.</param>
/// <param name="Replay">One per replay of a capture, in ascending order.</param>
public sealed record FidelityValue(FidelityMetric Metric, IReadOnlyList<double> Live, IReadOnlyList<double> Replay)
{
    /// <summary>How far the median replay is off the median live run, as a share of the latter; null where one of them has no value.</summary>
    public double? Deviation => Live.Count == 0 || Replay.Count == 0 || Median(Live) == 0 ? null : Median(Replay) / Median(Live) - 1;

    /// <summary>Whether it is off by no more than the bar. What has no value in both, as 100 % resident under demand, holds.</summary>
    public bool Holds => Deviation is { } d ? Math.Abs(d) <= Metric.Bar : Live.Count == 0 && Replay.Count == 0;

    /// <summary>The value in the middle; the lower one of two.</summary>
    public static double Median(IReadOnlyList<double> sorted) => sorted[(sorted.Count - 1) / 2];
}

/// <summary>A policy over a link on a workload that ran at least three times live, and was replayed.</summary>
/// <param name="Workload">The workload.</param>
/// <param name="Link">The link.</param>
/// <param name="Policy">The policy.</param>
/// <param name="Runs">Live runs.</param>
/// <param name="Values">The metrics, in order.</param>
public sealed record FidelityPair(string Workload, string Link, string Policy, int Runs, IReadOnlyList<FidelityValue> Values)
{
    private const int FewestRuns = 3;

    /// <summary>Whether all metrics hold.</summary>
    public bool Holds => Values.All(v => v.Holds);

    /// <summary>The pairs among the results, in order of appearance; none where fewer than three live runs are.</summary>
    public static IReadOnlyList<FidelityPair> Of(IReadOnlyList<RunResult> results) =>
    [
        .. from r in results
           group r by (r.Workload, r.Link, r.Policy) into pair
           let live = pair.Where(r => r.Mode == RunMode.Live).ToList()
           let replay = pair.Where(r => r.Mode == RunMode.Replay).ToList()
           where live.Count >= FewestRuns && replay.Count > 0
           select new FidelityPair(pair.Key.Workload, pair.Key.Link, pair.Key.Policy, live.Count,
               [.. FidelityMetric.All.Select(m => new FidelityValue(m, Sorted(live, m), Sorted(replay, m)))]),
    ];

    /// <summary>As text for a terminal: medians live / replayed, how far off, and whether that is within the bar.</summary>
    public static string Format(IReadOnlyList<FidelityPair> pairs)
    {
        var text = new StringBuilder();
        text.Append("Replay against live, medians; off by more than the bar: !\n");
        foreach (var block in pairs.GroupBy(p => (p.Workload, p.Link)))
        {
            text.Append(CultureInfo.InvariantCulture, $"{block.Key.Workload}, {block.Key.Link}, {block.First().Runs} live runs\n");
            foreach (FidelityPair pair in block)
            {
                text.Append("  ").Append(pair.Policy.PadRight(24)).Append(pair.Holds ? "holds  " : "OFF    ");
                foreach (FidelityValue v in pair.Values)
                {
                    string cell = v.Deviation is { } d
                        ? string.Create(CultureInfo.InvariantCulture, $"{v.Metric.Name} {v.Metric.Text(FidelityValue.Median(v.Live))} / {v.Metric.Text(FidelityValue.Median(v.Replay))} {d * 100:+0.0;-0.0} %{(v.Holds ? "" : " !")}")
                        : $"{v.Metric.Name} {Column.None}";
                    text.Append(cell.PadRight(46));
                }
                while (text[^1] == ' ')
                    text.Length--;
                text.Append('\n');
            }
        }
        int holding = pairs.Count(p => p.Holds);
        return text.Append(CultureInfo.InvariantCulture, $"{holding} of {pairs.Count} pairs hold in every number").ToString();
    }

    private static double[] Sorted(List<RunResult> runs, FidelityMetric metric) =>
        [.. runs.Select(metric.Value).OfType<double>().Order()];
}
