#:project ../engine/Replay/Testbed.Replay.csproj
#:property GenerateDocumentationFile=false

// What keeps a lazily restored program waiting: which pages its daemon asks for, or how it carries them? Every trace of the corpus
// over three links; CRIU's policy and the forecast-free policies, each in CRIU's way of carrying requests (one lane, one background
// request at a time) and in the testbed's (three lanes, 256 KiB in flight). Numbers are the time of the recorded work as a
// multiple of what no policy can beat (LowerBound).
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
ReplayWorkload[] workloads = [.. files.Select(f => TraceWorkload.From(Trace.Load(f)))];

Console.WriteLine("time of the recorded work / what no policy can beat");
Console.WriteLine($"{"",-26}{"bound",9}  CRIU's transfer          the testbed's transfer");
Console.WriteLine($"{"",-26}{"",9}  {"criu",-7}{"best of 10 forecast-free",-29}{"criu",-7}{"best .. worst of 11",-32}{"recorded order",14}");
var rows = new List<Row>();
foreach ((string name, LinkParameters link) in links)
{
    Console.WriteLine(name);
    foreach ((ReplayWorkload workload, string file) in workloads.Zip(files))
    {
        Row row = Measure(workload, Path.GetFileNameWithoutExtension(file), name, link);
        rows.Add(row);
        Console.WriteLine($"  {row.Trace,-24}{row.Bound.ToString(),9}  {row.Criu,-7:0.00}{$"{row.BestInCriu.Ratio:0.00} {row.BestInCriu.Policy}",-29}{row.CriuInOurs,-7:0.00}"
            + $"{$"{row.Best.Ratio:0.00} {row.Best.Policy} .. {row.Worst:0.00}",-32}{row.Recorded,14:0.00}");
    }
}
foreach ((string name, _) in links)
{
    Row[] of = [.. rows.Where(r => r.Link == name)];
    Console.WriteLine($"{name}: CRIU ends {Range(of, r => r.Criu)} times the bound; its own order in the testbed's transfer {Range(of, r => r.CriuInOurs)}; "
        + $"the best forecast-free policy in CRIU's transfer {Range(of, r => r.BestInCriu.Ratio)}, in the testbed's {Range(of, r => r.Best.Ratio)}; the recorded order {Range(of, r => r.Recorded)}.");
}

Row Measure(ReplayWorkload workload, string trace, string linkName, LinkParameters link)
{
    LinkBound bound = LowerBound.Of(workload, link, HostCosts.Reference);
    // Without a recording, but for the one whose idea it is.
    double Ratio(string policy, TransferOptions transfer, bool recorded = false) => Simulation.Run(workload, new ReplayOptions(PolicyCatalog.Parse(policy), link, linkName)
    {
        Costs = HostCosts.Reference,
        Transfer = transfer,
        Recording = recorded ? workload.Recording : [],
    }).WorkloadTime.Seconds / bound.WorkloadTime.Seconds;
    (string Policy, double Ratio)[] All(TransferOptions transfer) =>
        [.. forecastFree.Where(p => !transfer.ExclusiveBackground || p != "bubbling").AsParallel().AsOrdered().Select(p => (p, Ratio(p, transfer))).OrderBy(r => r.Item2)];
    (string Policy, double Ratio)[] inCriu = All(TransferOptions.Criu), ours = All(new TransferOptions());
    return new Row(trace, linkName, bound.WorkloadTime, Ratio("criu", TransferOptions.Criu), inCriu[0], Ratio("criu", new TransferOptions()), ours[0], ours[^1].Ratio,
        Ratio("working-set", new TransferOptions(), recorded: true));
}

static string Range(Row[] rows, Func<Row, double> value) => $"{rows.Min(value):0.00} to {rows.Max(value):0.00}";

internal sealed record Row(
    string Trace, string Link, Duration Bound, double Criu, (string Policy, double Ratio) BestInCriu, double CriuInOurs, (string Policy, double Ratio) Best, double Worst, double Recorded);
