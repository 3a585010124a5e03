using System.Globalization;
using Testbed.Core;
using Testbed.Reports.Statistics;

namespace Testbed.Reports;

/// <summary>One request to a program while it is restored.</summary>
/// <param name="Sent">When, since its processes ran.</param>
/// <param name="Latency">How long the answer took.</param>
public readonly record struct RestoreRequest(Duration Sent, Duration Latency);

/// <summary>One lazy restore of a program under load. Times count from the moment at which criu restore returned: the processes run.</summary>
/// <param name="Pair">Daemon and page server, as typed: <c>criu+testbed</c>.</param>
/// <param name="Round">Which time, from 0.</param>
/// <param name="Restore">How long criu restore itself took.</param>
/// <param name="FirstResponse">Until the program answered.</param>
/// <param name="AllIn">Until the daemon ended, all pages in.</param>
/// <param name="Requests">The requests of the load, in the order in which they were sent; empty without load.</param>
public sealed record RestoreRun(string Pair, int Round, Duration Restore, Duration FirstResponse, Duration AllIn, IReadOnlyList<RestoreRequest> Requests)
{
    /// <summary>TCP's congestion control between the hosts, as the kernel names it; empty when not known.</summary>
    public string CongestionControl { get; init; } = "";

    /// <summary>Latencies of all requests, in microseconds.</summary>
    public Sample Latencies { get; } = Microseconds(Requests);

    /// <summary>Latencies of the requests that were sent before all was in, in microseconds.</summary>
    public Sample During { get; } = Microseconds(Requests.Where(r => r.Sent < AllIn));

    /// <summary>Latencies of the requests that were sent in the first two seconds of the load, in microseconds.</summary>
    public Sample Early { get; } = Microseconds(Requests.Where(r => r.Sent - Requests[0].Sent < TwoSeconds));

    /// <summary>Requests answered in the first two seconds of the load; null without load.</summary>
    public int? FirstTwoSeconds { get; } = Requests.Count == 0 ? null : Requests.Count(r => r.Sent - Requests[0].Sent + r.Latency <= TwoSeconds);

    private static Duration TwoSeconds => Duration.FromSeconds(2);

    private static Sample Microseconds(IEnumerable<RestoreRequest> requests) => new(requests.Select(r => r.Latency.Microseconds));
}

/// <summary>A number by which restores are compared.</summary>
/// <param name="Key">Its name in the CSV, with the unit.</param>
/// <param name="Header">Its heading, with the unit.</param>
/// <param name="Help">What it means, in a line.</param>
/// <param name="Value">The number of a restore; null where it has none.</param>
/// <param name="LowerIsBetter">Or else higher.</param>
public sealed record RestoreMetric(string Key, string Header, string Help, Func<RestoreRun, double?> Value, bool LowerIsBetter = true)
{
    /// <summary>In reading order.</summary>
    public static IReadOnlyList<RestoreMetric> All { get; } =
    [
        new("restore_ms", "restore (ms)", "How long criu restore itself took", r => r.Restore.Milliseconds),
        new("first_answer_ms", "first answer (ms)", "From the moment at which the processes ran to the program's first answer", r => r.FirstResponse.Milliseconds),
        new("all_in_ms", "all in (ms)", "From the moment at which the processes ran until every page was in and the daemon ended", r => r.AllIn.Milliseconds),
        Latency("p50", 0.5), Latency("p95", 0.95), Latency("p99", 0.99), Latency("max", 1),
        new("p99_until_all_in_us", "p99 until all in (µs)", "p99 latency, by nearest rank, of the requests that were sent before all was in", r => Quantile(r.During, 0.99)),
        new("p99_in_2_s_us", "p99 in 2\u00A0s (µs)", "p99 latency, by nearest rank, of the requests that were sent in the first two seconds of the load", r => Quantile(r.Early, 0.99)),
        new("requests_in_2_s", "requests in 2\u00A0s", "Requests answered in the first two seconds of the load", r => r.FirstTwoSeconds, LowerIsBetter: false),
    ];

    /// <summary>A value as people read it.</summary>
    public static string Text(double value) => value.ToString(value < 100 ? "0.#" : "#,0", CultureInfo.InvariantCulture);

    private static RestoreMetric Latency(string name, double q) =>
        new(name + "_us", name + " (µs)", $"Request latency over all requests, {name}, by nearest rank", r => Quantile(r.Latencies, q));

    private static double? Quantile(Sample sample, double q) => sample.Count == 0 ? null : sample.Quantile(q);
}

/// <summary>A number of one pair over all its rounds, and beside that of the first pair, which the others are compared with.</summary>
/// <param name="Pair">Daemon and page server, as typed.</param>
/// <param name="Metric">Which number.</param>
/// <param name="Values">One value a round.</param>
/// <param name="Ratio">The median over the first pair's median; null where there is none, and for the first pair itself.</param>
/// <param name="RatioInterval">95 % bootstrap interval of the ratio; null below three rounds.</param>
/// <param name="P">p value of a permutation test of the rank sums, corrected (Holm) for all pairs and numbers; null below five rounds.</param>
public sealed record RestoreValue(string Pair, RestoreMetric Metric, Sample Values, double? Ratio, Interval? RatioInterval, double? P)
{
    /// <summary>The median over the rounds, by nearest rank.</summary>
    public double Median => Values.Quantile(0.5);

    /// <summary>Every number that there is, pair by pair in order of first appearance.</summary>
    public static IReadOnlyList<RestoreValue> Of(IReadOnlyList<RestoreRun> runs, ulong seed)
    {
        string[] pairs = [.. runs.Select(r => r.Pair).Distinct()];
        var values = new List<RestoreValue>();
        foreach (string pair in pairs)
        {
            foreach (RestoreMetric metric in RestoreMetric.All)
            {
                double[] own = Numbers(pair, metric), first = Numbers(pairs[0], metric);
                if (own.Length > 0)
                    values.Add(Compare(pair, metric, own, pair == pairs[0] ? [] : first, seed));
            }
        }
        double[] p = [.. values.Select(v => v.P).OfType<double>()];
        var corrected = new Queue<double>(Comparison.Holm(p));
        return [.. values.Select(v => v with { P = v.P is null ? null : corrected.Dequeue() })];

        double[] Numbers(string pair, RestoreMetric metric) => [.. runs.Where(r => r.Pair == pair).Select(metric.Value).OfType<double>()];
    }

    private static RestoreValue Compare(string pair, RestoreMetric metric, double[] own, double[] first, ulong seed)
    {
        bool known = first.Length > 0 && first.Concat(own).All(v => v > 0), enough = Math.Min(own.Length, first.Length) >= Versus.EnoughRuns;
        return new RestoreValue(pair, metric, new Sample(own),
            known ? new Sample(own).Quantile(0.5) / new Sample(first).Quantile(0.5) : null,
            known ? Bootstrap.OfMedianRatio(first, own, seed) : null,
            enough ? Comparison.Permutation(own, first, seed) : null);
    }
}
