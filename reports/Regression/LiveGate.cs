using System.Globalization;
using Testbed.Core;
using Testbed.Reports.Statistics;

namespace Testbed.Reports.Regression;

/// <summary>A number of one run, by policy, link and metric.</summary>
public readonly record struct LiveNumber(string Policy, string Link, GateMetric Metric, double Value);

/// <summary>
/// The statistical gate, for what was measured. A (before) and B (after) take turns, so that what the machine does meanwhile meets
/// both. After some rounds it looks: a number is <em>worse</em> when its median rose by more than the threshold and a permutation test of the
/// rank sums says p &lt; 0.01, corrected for all numbers (Holm) and all looks (Bonferroni); it is <em>same or better</em> when the upper
/// 95 % bootstrap bound of the rise lies below the threshold. What is neither needs as many rounds again, and after the last look it
/// could not be told.
/// </summary>
public sealed class LiveGate
{
    private const double Alpha = 0.01;

    private readonly List<(string Policy, string Link, GateMetric Metric)> _keys = [];
    private readonly Dictionary<(string, string, GateMetric), (List<double> A, List<double> B)> _values = [];

    /// <summary>Rounds before the first look; before each later one, as many again as there were.</summary>
    public int FirstRounds { get; init; } = 8;

    /// <summary>How often it looks.</summary>
    public int Looks { get; init; } = 4;

    /// <summary>The rise that matters, as a share of what was before.</summary>
    public double Threshold { get; init; } = 0.05;

    /// <summary>Seeds permutations and bootstrap.</summary>
    public ulong Seed { get; init; } = 1;

    /// <summary>Rounds that were run.</summary>
    public int Rounds { get; private set; }

    /// <summary>Runs rounds until it can tell, or may not go on.</summary>
    /// <param name="scenario">The scenario's name.</param>
    /// <param name="measure">Runs one side once: false for A, true for B.</param>
    public GateResult Run(string scenario, Func<bool, IReadOnlyList<LiveNumber>> measure)
    {
        List<GateLine> lines = [];
        for (int look = 0; look < Looks && (look == 0 || NeedsMore(lines)); look++)
        {
            for (int more = Math.Max(FirstRounds, Rounds); more > 0; more--, Rounds++)
            {
                // A B, B A, A B: a drift meets both sides alike.
                Add(measure(Rounds % 2 == 1), Rounds % 2 == 1);
                Add(measure(Rounds % 2 == 0), Rounds % 2 == 0);
            }
            lines = Look();
        }
        string method = string.Create(CultureInfo.InvariantCulture,
            $"live, {Rounds} interleaved rounds: permutation test of rank sums, p < {Alpha:0.##} after Holm over {_keys.Count} numbers and Bonferroni over {Looks} looks, and a rise of the median above {Threshold * 100:0.#} %");
        return new GateResult(scenario, method, lines, []);
    }

    private static bool NeedsMore(List<GateLine> lines) =>
        lines.Any(l => l.Verdict == Verdict.Unknown) && !lines.Any(l => l.Verdict == Verdict.Worse);

    private void Add(IReadOnlyList<LiveNumber> numbers, bool after)
    {
        foreach (LiveNumber number in numbers)
        {
            var key = (number.Policy, number.Link, number.Metric);
            if (!_values.TryGetValue(key, out var sides))
            {
                _keys.Add(key);
                _values[key] = sides = ([], []);
            }
            (after ? sides.B : sides.A).Add(number.Value);
        }
    }

    private List<GateLine> Look()
    {
        var tested = _keys.Where(k => _values[k] is { A.Count: >= 3, B.Count: >= 3 }).ToList();
        // A p value is at least one over the permutations, and Holm multiplies it by the numbers tested: both must be able to fall below the level.
        int permutations = Math.Max(9_999, 2_000 * tested.Count);
        IReadOnlyList<double> p = Comparison.Holm([.. tested.Select(k => Comparison.Permutation(_values[k].A, _values[k].B, Seed, permutations))]);
        return
        [
            .. tested.Select((key, i) => Judge(key, p[i])),
            .. _keys.Except(tested).Select(k => new GateLine(k.Policy, k.Link, k.Metric, null, null, Verdict.Unknown, "measured on one side only")),
        ];
    }

    private GateLine Judge((string Policy, string Link, GateMetric Metric) key, double p)
    {
        (List<double> a, List<double> b) = _values[key];
        double before = new Sample(a).Quantile(0.5), after = new Sample(b).Quantile(0.5);
        // Nine tenths between the ends leave a twentieth above the upper one.
        Interval ratio = Bootstrap.OfMedianRatio(a, b, Seed, 0.9)!.Value;
        double rise = (after / before) - 1;
        Verdict verdict = p < Alpha / Looks && rise > Threshold ? Verdict.Worse
            : ratio.High - 1 > Threshold ? Verdict.Unknown
            : p < Alpha / Looks && rise < -Threshold ? Verdict.Better
            : Verdict.Same;
        string evidence = string.Create(CultureInfo.InvariantCulture,
            $"p = {p:0.0000}, 90 % interval {(ratio.Low - 1) * 100:+0.0;-0.0} % to {(ratio.High - 1) * 100:+0.0;-0.0} %, {a.Count} + {b.Count} runs");
        return new GateLine(key.Policy, key.Link, key.Metric, before, after, verdict, evidence);
    }
}
