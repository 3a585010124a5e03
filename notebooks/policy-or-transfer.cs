#:project ../engine/Replay/Testbed.Replay.csproj
#:property GenerateDocumentationFile=false

// What keeps a lazily restored program waiting: which pages its daemon asks for, or how it carries them? Every trace of the corpus
// over three links; CRIU's policy and the forecast-free policies, each in CRIU's way of carrying requests (one lane, one background
// request at a time) and in the testbed's (three lanes, 256 KiB in flight). And what is it worth to know an earlier run? NAME.1 and
// NAME.2 are captures of one process under different requests: the order of each is tested on the other. Numbers are the time of the
// recorded work as a multiple of what no policy can beat (LowerBound).
// Run it: dotnet run notebooks/policy-or-transfer.cs [TRACE...]

using System.Globalization;
using Testbed.Core;
using Testbed.Policies;
using Testbed.Replay;
using Testbed.Traces;

// In CRIU's transfer one request of the background waits for the other. What bubbling asks for while idle counts as prefetch, and would
// not wait: it is left out there.
CultureInfo.CurrentCulture = CultureInfo.InvariantCulture;
string[] files = args.Length > 0 ? args : [.. Directory.GetFiles("traces", "*.trace").Order()];
string[] forecastFree = ["adaptive", "bubbling", "delta-correlation", "distance", "hot-first", "leap", "linux-readahead", "next-n", "qemu", "spatial", "stride"];
(string Name, LinkParameters Link)[] links =
[
    ("10 Gbit/s, 50 us", new(ByteRate.FromBitsPerSecond(10e9), Duration.FromMicroseconds(50))),
    ("1 Gbit/s, 1 ms", new(ByteRate.FromBitsPerSecond(1e9), Duration.FromMilliseconds(1))),
    ("100 Mbit/s, 20 ms", new(ByteRate.FromBitsPerSecond(1e8), Duration.FromMilliseconds(20))),
];
Dictionary<string, ReplayWorkload> workloads = files.ToDictionary(f => f, f => TraceWorkload.From(Trace.Load(f)));

Console.WriteLine("time of the recorded work / what no policy can beat");
Console.WriteLine($"{"",-26}{"bound",9}  CRIU's transfer          the testbed's transfer");
Console.WriteLine($"{"",-26}{"",9}  {"criu",-7}{"best of 10 forecast-free",-29}{"criu",-7}{"best .. worst of 11",-32}{"other run's order",-19}{"its own order",13}");
var rows = new List<Row>();
foreach ((string name, LinkParameters link) in links)
{
    Console.WriteLine(name);
    foreach ((string file, ReplayWorkload workload) in workloads)
    {
        IReadOnlyList<PageNumber>? other = workloads.TryGetValue(OtherCapture(file), out ReplayWorkload? captured) ? captured.Recording : null;
        Row row = Measure(workload, other, Path.GetFileNameWithoutExtension(file), name, link);
        rows.Add(row);
        Console.WriteLine($"  {row.Trace,-24}{row.Bound.ToString(),9}  {row.Criu,-7:0.00}{$"{row.BestInCriu.Ratio:0.00} {row.BestInCriu.Policy}",-29}{row.CriuInOurs,-7:0.00}"
            + $"{$"{row.Best.Ratio:0.00} {row.Best.Policy} .. {row.Worst:0.00}",-32}{row.OtherRun,-19:0.00}{row.Recorded,13:0.00}");
    }
}
foreach ((string name, _) in links)
{
    Row[] of = [.. rows.Where(r => r.Link == name)];
    Console.WriteLine($"{name}: CRIU ends {Range(of, r => r.Criu)} times the bound; its own order in the testbed's transfer {Range(of, r => r.CriuInOurs)}; "
        + $"the best forecast-free policy in CRIU's transfer {Range(of, r => r.BestInCriu.Ratio)}, in the testbed's {Range(of, r => r.Best.Ratio)}; the order of another run {Range([.. of.Where(r => r.OtherRun > 0)], r => r.OtherRun!.Value)}, its own order {Range(of, r => r.Recorded)}.");
    Row[] pairs = [.. of.Where(r => r.OtherRun > 0)];
    Console.WriteLine($"  Of {pairs.Length} with an earlier run its order beats the best forecast-free policy by more than 2 % in {pairs.Count(r => r.OtherRun < r.Best.Ratio * 0.98)} and loses by as much in "
        + $"{pairs.Count(r => r.OtherRun > r.Best.Ratio * 1.02)}; medians: forecast-free {Median(pairs, r => r.Best.Ratio):0.00}, another run's order {Median(pairs, r => r.OtherRun!.Value):0.00}, its own {Median(pairs, r => r.Recorded):0.00}.");
    Console.WriteLine("  Best forecast-free policy: " + string.Join(", ", of.GroupBy(r => r.Best.Policy).OrderByDescending(g => g.Count()).Select(g => $"{g.Key} {g.Count()}")));
}

// The other capture of the same process, where there is one.
static string OtherCapture(string file) =>
    file.EndsWith(".1.trace", StringComparison.Ordinal) ? file[..^8] + ".2.trace" : file.EndsWith(".2.trace", StringComparison.Ordinal) ? file[..^8] + ".1.trace" : "";

Row Measure(ReplayWorkload workload, IReadOnlyList<PageNumber>? other, string trace, string linkName, LinkParameters link)
{
    LinkBound bound = LowerBound.Of(workload, link, HostCosts.Reference);
    // Without a recording, but for the one whose idea it is.
    double Ratio(string policy, TransferOptions transfer, IReadOnlyList<PageNumber>? recording = null) => Simulation.Run(workload, new ReplayOptions(PolicyCatalog.Parse(policy), link, linkName)
    {
        Costs = HostCosts.Reference,
        Transfer = transfer,
        Recording = recording ?? [],
    }).WorkloadTime.Seconds / bound.WorkloadTime.Seconds;
    (string Policy, double Ratio)[] All(TransferOptions transfer) =>
        [.. forecastFree.Where(p => !transfer.ExclusiveBackground || p != "bubbling").AsParallel().AsOrdered().Select(p => (p, Ratio(p, transfer))).OrderBy(r => r.Item2)];
    (string Policy, double Ratio)[] inCriu = All(TransferOptions.Criu), ours = All(new TransferOptions());
    return new Row(trace, linkName, bound.WorkloadTime, Ratio("criu", TransferOptions.Criu), inCriu[0], Ratio("criu", new TransferOptions()), ours[0], ours[^1].Ratio,
        other is null ? null : Ratio("working-set", new TransferOptions(), other), Ratio("working-set", new TransferOptions(), workload.Recording));
}

static string Range(Row[] rows, Func<Row, double> value) => rows.Length == 0 ? "-" : $"{rows.Min(value):0.00} to {rows.Max(value):0.00}";

static double Median(Row[] rows, Func<Row, double> value) => rows.Length == 0 ? 0 : rows.Select(value).Order().ElementAt(rows.Length / 2);

internal sealed record Row(
    string Trace, string Link, Duration Bound, double Criu, (string Policy, double Ratio) BestInCriu, double CriuInOurs, (string Policy, double Ratio) Best, double Worst, double? OtherRun, double Recorded);
