namespace Testbed.Reports.Regression;

/// <summary>What became of a number.</summary>
public enum Verdict
{
    /// <summary>Not changed, or by less than matters.</summary>
    Same,

    /// <summary>Lower than before.</summary>
    Better,

    /// <summary>Higher than before, by more than is tolerated.</summary>
    Worse,

    /// <summary>Higher than before, but of a metric that is not guarded.</summary>
    Higher,

    /// <summary>Not to be told: no baseline, another trace, or too much noise.</summary>
    Unknown,
}

/// <summary>One number of one policy over one link, before and after.</summary>
/// <param name="Policy">As typed.</param>
/// <param name="Link">As typed.</param>
/// <param name="Metric">Which number.</param>
/// <param name="Before">In nanoseconds, or a count; null where there was none.</param>
/// <param name="After">The same now.</param>
/// <param name="Verdict">What to think of it.</param>
/// <param name="Evidence">For a measured number: p value, interval, rounds; empty for an exact one.</param>
public sealed record GateLine(string Policy, string Link, GateMetric Metric, double? Before, double? After, Verdict Verdict, string Evidence = "")
{
    /// <summary>The change as a share of what was before: 0.05 is 5 % more. Null where one side is missing or was zero.</summary>
    public double? Change => Before is > 0 && After is { } after ? (after / Before) - 1 : null;
}

/// <summary>What the gate found.</summary>
/// <param name="Scenario">The scenario's name.</param>
/// <param name="Method">How it was compared, for people.</param>
/// <param name="Lines">Every number that was compared.</param>
/// <param name="Problems">Why it could not tell, each a sentence; empty when it could.</param>
public sealed record GateResult(string Scenario, string Method, IReadOnlyList<GateLine> Lines, IReadOnlyList<string> Problems)
{
    /// <summary>0 same or better, 1 regressed, 2 could not tell. A regression that was seen counts, whatever else could not be told.</summary>
    public int ExitCode =>
        Lines.Any(l => l.Verdict == Verdict.Worse) ? 1 : Problems.Count > 0 || Lines.Any(l => l.Verdict == Verdict.Unknown) ? 2 : 0;
}
