using System.Globalization;
using Testbed.Core;

namespace Testbed.Reports.Regression;

/// <summary>A number that the gate compares; lower is better for all of them.</summary>
/// <param name="Name">What one types after <c>--guard</c>, and the field in a baseline file.</param>
/// <param name="Title">Its heading.</param>
/// <param name="Column">The same number's column in results.csv, and what makes it nanoseconds, or a count.</param>
/// <param name="Scale">From the column's unit to nanoseconds or a count.</param>
/// <param name="Value">Nanoseconds or a count; null where a run has no such number.</param>
/// <param name="IsTime">Whether it is a time.</param>
public sealed record GateMetric(string Name, string Title, string Column, double Scale, Func<RunResult, long?> Value, bool IsTime)
{
    /// <summary>What is guarded when nothing else is said.</summary>
    public const string Guarded = "p99,total-stall,first-response,workload";

    /// <summary>The same where it is measured: p99 and the first response of a live run are the machine's scheduler as much as the code.</summary>
    public const string GuardedLive = "p50,total-stall,workload";

    /// <summary>All metrics, in reading order.</summary>
    public static IReadOnlyList<GateMetric> All { get; } =
    [
        Latency("p50", "p50", 0.5, "latency_p50_us"),
        Latency("p90", "p90", 0.9, "latency_p90_us"),
        Latency("p99", "p99", 0.99, "latency_p99_us"),
        Latency("p999", "p99.9", 0.999, "latency_p999_us"),
        new("total-stall", "total stall", "total_stall_s", 1e9, r => r.TotalStall.Nanoseconds, true),
        new("first-response", "first response", "first_response_s", 1e9, r => r.TimeToFirstResponse?.Nanoseconds, true),
        new("workload", "workload time", "workload_s", 1e9, r => r.WorkloadTime.Nanoseconds, true),
        new("all-in", "100 % in", "resident_100_s", 1e9, r => r.TimeToResidency(1)?.Nanoseconds, true),
        new("demand-faults", "demand faults", "demand_faults", 1, r => r.DemandFaults, false),
        new("bytes", "bytes moved", "bytes", 1, r => r.Bytes, false),
    ];

    /// <summary>Understands a list of names with commas.</summary>
    /// <exception cref="BadInputException">One of them is none.</exception>
    public static IReadOnlyList<GateMetric> Parse(string names) =>
        [.. names.Split(',', StringSplitOptions.TrimEntries).Select(name => All.FirstOrDefault(m => m.Name == name)
            ?? throw new BadInputException($"--guard {names}: no metric \"{name}\"; expected some of {string.Join(", ", All.Select(m => m.Name))}"))];

    /// <summary>A value as people read it.</summary>
    public string Text(double value) =>
        IsTime ? Reports.Column.Human(new Duration((long)Math.Round(value))) : value.ToString("N0", CultureInfo.InvariantCulture);

    private static GateMetric Latency(string name, string title, double q, string column) =>
        new(name, title, column, 1e3, r => r.Latencies.Count == 0 ? null : r.LatencyQuantile(q).Nanoseconds, true);
}
