using System.Globalization;

namespace Testbed.Reports.Regression;

/// <summary>
/// The exact gate. A replay has no noise: same trace, same code, same numbers. So any change is a change of the code, and each one
/// is told, however small; a guarded metric that rose by more than the tolerance fails.
/// </summary>
public static class ReplayGate
{
    /// <summary>Compares results with a baseline.</summary>
    /// <param name="before">The baseline.</param>
    /// <param name="after">The same scenario now.</param>
    /// <param name="guarded">Metrics whose rise fails.</param>
    /// <param name="tolerance">By how much a guarded metric may rise, as a share: 0.01 is 1 %.</param>
    public static GateResult Compare(Baseline before, Baseline after, IReadOnlyList<GateMetric> guarded, double tolerance)
    {
        string method = "replay, exact: every change is one of the code"
            + (tolerance > 0 ? string.Create(CultureInfo.InvariantCulture, $"; up to {tolerance * 100:0.###} % is tolerated") : "");
        string[] inputs = [.. ChangedInputs(before, after)];
        if (inputs.Length > 0)
            return new GateResult(after.Scenario, method, [], inputs);
        var problems = new List<string>();
        var lines = new List<GateLine>();
        foreach (BaselineRun now in after.Runs)
        {
            if (before.Runs.FirstOrDefault(r => (r.Policy, r.Link) == (now.Policy, now.Link)) is { } then)
                lines.AddRange(Lines(then, now, guarded, tolerance));
            else
                problems.Add($"{now.Policy} over {now.Link} is not in the baseline");
        }
        problems.AddRange(before.Runs.Where(then => !after.Runs.Any(now => (now.Policy, now.Link) == (then.Policy, then.Link)))
            .Select(then => $"{then.Policy} over {then.Link} is in the baseline, but no longer in the scenario"));
        return new GateResult(after.Scenario, method, lines, problems);
    }

    private static IEnumerable<string> ChangedInputs(Baseline before, Baseline after)
    {
        if (before.Scenario != after.Scenario)
            yield return $"the baseline is of scenario {before.Scenario}, not of {after.Scenario}";
        if (before.Trace != after.Trace)
            yield return $"the trace is another one: its hash was {before.Trace}, and is {after.Trace}";
        if (before.Costs != after.Costs)
            yield return "the costs of the host are others than the baseline's";
        if (before.Seed != after.Seed)
            yield return $"the seed was {before.Seed}, and is {after.Seed}";
    }

    private static IEnumerable<GateLine> Lines(BaselineRun then, BaselineRun now, IReadOnlyList<GateMetric> guarded, double tolerance)
    {
        foreach (GateMetric metric in GateMetric.All)
        {
            long? before = Number(then, metric), after = Number(now, metric);
            Verdict verdict = (before, after) switch
            {
                (null, null) => Verdict.Same,
                // A run without latencies had no fault at all: the first one is a rise, as the loss of the response is.
                (null, _) or (_, null) => guarded.Contains(metric) && GotWorse(metric, before) ? Verdict.Worse : Verdict.Same,
                var (b, a) when a > b * (1 + tolerance) => guarded.Contains(metric) ? Verdict.Worse : Verdict.Higher,
                var (b, a) when a < b => Verdict.Better,
                _ => Verdict.Same,
            };
            if (before is not null || after is not null)
                yield return new GateLine(now.Policy, now.Link, metric, before, after, verdict);
        }
    }

    /// <summary>One side has no such number. Latencies come with the first fault; the others are gone when the run no longer gets there.</summary>
    private static bool GotWorse(GateMetric metric, long? before) => metric.Name.StartsWith('p') == before is null;

    private static long? Number(BaselineRun run, GateMetric metric) => run.Numbers.TryGetValue(metric.Name, out long value) ? value : null;
}
