using Testbed.Core;

namespace Testbed.Reports.Statistics;

/// <summary>One policy beside the baseline of its workload, mode and link.</summary>
/// <param name="Summary">The policy's line.</param>
/// <param name="Baseline">The baseline's.</param>
/// <param name="StallRatio">Total stall over the baseline's; null when that was zero.</param>
/// <param name="RatioInterval">95 % bootstrap interval of the ratio of medians over runs; null below three runs a side.</param>
/// <param name="Delta">Cliff's delta of the fault latencies: how much more often one of the policy is longer than one of the baseline than
/// shorter, -1 to 1; null when a side has none.</param>
/// <param name="P">p value, corrected (Holm) for all policies of the group; null when a side has nothing to test.</param>
/// <param name="ByRuns">Whether <paramref name="P"/> is of a permutation test of the rank sums of total stall over runs, or else of a
/// Mann-Whitney test of the fault latencies.</param>
public sealed record Versus(Summary Summary, Summary Baseline, double? StallRatio, Interval? RatioInterval, double? Delta, double? P, bool ByRuns)
{
    /// <summary>Runs a side from which on the runs are tested.</summary>
    public const int EnoughRuns = 5;

    /// <summary>Every policy beside the baseline: <c>criu</c>, or where it was not run, <c>demand</c>; groups without either are left out.</summary>
    public static IReadOnlyList<Versus> Of(IReadOnlyList<Summary> summaries, ulong seed)
    {
        var all = new List<Versus>();
        foreach (var group in summaries.GroupBy(s => (s.Run.Workload, s.Run.Mode, s.Run.Link)))
        {
            if ((group.FirstOrDefault(s => s.Run.Policy == "criu") ?? group.FirstOrDefault(s => s.Run.Policy == "demand")) is not { } baseline)
                continue;
            Versus[] raw = [.. group.Where(s => s != baseline).Select(s => Compare(s, baseline, seed))];
            Versus[] tested = [.. raw.Where(v => v.P is not null)];
            IReadOnlyList<double> corrected = Comparison.Holm([.. tested.Select(v => v.P!.Value)]);
            all.AddRange(raw.Select(v => v with { P = v.P is null ? null : corrected[Array.IndexOf(tested, v)] }));
        }
        return all;
    }

    private static Versus Compare(Summary s, Summary baseline, ulong seed)
    {
        bool byRuns = s.Runs >= EnoughRuns && baseline.Runs >= EnoughRuns;
        bool waited = s.Run.Latencies.Count > 0 && baseline.Run.Latencies.Count > 0;
        double[] latencies = Nanoseconds(s.Run), ofBaseline = Nanoseconds(baseline.Run);
        double? p = byRuns ? Comparison.Permutation(s.Stalls, baseline.Stalls, seed)
            : waited ? Comparison.MannWhitney(latencies, ofBaseline) : null;
        long before = baseline.Run.TotalStall.Nanoseconds;
        return new Versus(
            s, baseline, before > 0 ? (double)s.Run.TotalStall.Nanoseconds / before : null,
            before > 0 && baseline.Stalls.All(v => v > 0) ? Bootstrap.OfMedianRatio(baseline.Stalls, s.Stalls, seed) : null,
            waited ? Comparison.CliffsDelta(latencies, ofBaseline) : null, p, byRuns);
    }

    private static double[] Nanoseconds(RunResult run) => [.. run.Latencies.Select(l => (double)l.Nanoseconds)];
}
