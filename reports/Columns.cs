using System.Globalization;
using Testbed.Core;
using Testbed.Reports.Statistics;

namespace Testbed.Reports;

/// <summary>A number of the result table, defined once for terminal, HTML and CSV.</summary>
/// <param name="Key">Its name in the CSV, with the unit.</param>
/// <param name="Header">Its heading where people read.</param>
/// <param name="Help">What it means, in a line.</param>
/// <param name="Value">The number in the unit of <paramref name="Key"/>; null where there is none.</param>
/// <param name="Text">The number as people read it.</param>
/// <param name="LowerIsBetter">Whether the lowest one of a link is the best.</param>
internal sealed record Column(
    string Key, string Header, string Help, Func<Summary, double?> Value, Func<Summary, string> Text, bool LowerIsBetter = false)
{
    /// <summary>Shown where there is no number.</summary>
    public const string None = "–";

    /// <summary>The columns, in reading order.</summary>
    public static readonly IReadOnlyList<Column> All =
    [
        Count("demand_faults", "Demand faults", "First touches that had to ask for their page", s => s.Run.DemandFaults, lower: true),
        Count("late_faults", "Late", "First touches of a page that was already on its way", s => s.Run.LateFaults),
        Count("zero_faults", "Zero", "First touches answered with a zero page", s => s.Run.ZeroFaults),
        Latency("p50", "p50", 0.5),
        Latency("p90", "p90", 0.9),
        Latency("p99", "p99", 0.99),
        Latency("p999", "p99.9", 0.999),
        Latency("max", "max", 1),
        Time("total_stall_s", "Total stall", "Sum of all waiting, over all threads", s => s.Run.TotalStall, lower: true),
        Time("waiting_s", "Waiting", "Sum of all that the threads lose, from touch to running again, and by slower work; known in replay only", s => s.Run.Waiting, lower: true),
        Time("waiting_bound_s", "Least waiting", "What no policy can beat: each page must cross the link before its touch", s => s.Run.Bound?.Waiting),
        Time("first_response_s", "First response", "From resume to the workload's first answer", s => s.Run.TimeToFirstResponse, lower: true),
        Time("workload_s", "Workload", "When the last recorded touch was done", s => s.Run.WorkloadTime, lower: true),
        Time("workload_bound_s", "Least workload", "The workload time that no policy can beat", s => s.Run.Bound?.WorkloadTime),
        Residency("50", 0.5),
        Residency("90", 0.9),
        Residency("99", 0.99),
        Residency("100", 1),
        new("bytes", "Moved", "Bytes of pages that came over the link", s => s.Run.Bytes, s => HumanBytes(s.Run.Bytes)),
        Count("prefetch_issued", "Prefetched", "Pages asked for as prefetch", s => s.Run.Prefetch.Issued),
        Count("prefetch_useful", "Useful", "Prefetched pages touched after they arrived", s => Known(s, s.Run.Prefetch.Useful)),
        Count("prefetch_late", "In flight", "Prefetched pages touched while in flight", s => s.Run.Prefetch.Late),
        Count("prefetch_unused", "Unused", "Prefetched pages never touched", s => Known(s, s.Run.Prefetch.Unused)),
    ];

    private static Column Count(string key, string header, string help, Func<Summary, long?> value, bool lower = false) =>
        new(key, header, help, s => value(s), s => value(s)?.ToString("N0", CultureInfo.InvariantCulture) ?? None, lower);

    private static Column Latency(string key, string header, double q) =>
        new($"latency_{key}_us", header, $"Fault latency, {header}, by nearest rank", s => s.Run.LatencyQuantile(q).Microseconds,
            s => s.Run.Latencies.Count == 0 ? None : Human(s.Run.LatencyQuantile(q)), true);

    private static Column Time(string key, string header, string help, Func<Summary, Duration?> value, bool lower = false) =>
        new(key, header, help, s => value(s)?.Seconds, s => value(s) is { } d ? Human(d) : None, lower);

    private static Column Residency(string percent, double share) =>
        Time($"resident_{percent}_s", $"{percent} % in", $"Time until {percent} % of the pages were resident",
            s => s.Run.TimeToResidency(share) is { } t ? t - Instant.Zero : null, lower: true);

    // Live, touches of resident pages cannot be seen: a zero there would claim that they were counted.
    private static long? Known(Summary s, long value) => s.Run.Mode == RunMode.Live ? null : value;

    internal static string Human(Duration d) => d.ToString().Replace(" us", " µs", StringComparison.Ordinal);

    internal static string HumanBytes(long bytes)
    {
        double value = bytes;
        string[] units = ["B", "KiB", "MiB", "GiB", "TiB"];
        int unit = 0;
        while (value >= 1024 && unit < units.Length - 1)
        {
            value /= 1024;
            unit++;
        }
        return value.ToString(value < 10 && unit > 0 ? "0.00" : value < 100 && unit > 0 ? "0.0" : "0", CultureInfo.InvariantCulture) + " " + units[unit];
    }
}
