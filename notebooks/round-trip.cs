#:project ../engine/Replay/Testbed.Replay.csproj
#:property GenerateDocumentationFile=false

// How much does the round trip matter, and for whom? The engine as a library: a trace, policies, links, results.
// Run it: dotnet run notebooks/round-trip.cs [TRACE]

using Testbed.Core;
using Testbed.Policies;
using Testbed.Replay;
using Testbed.Traces;

string file = args.Length > 0 ? args[0] : Path.Combine("traces", "python-dict.trace");
Trace trace = Trace.Load(file);
ReplayWorkload workload = TraceWorkload.From(trace);
Duration[] roundTrips = [.. ((double[])[0.05, 0.2, 1, 5, 20]).Select(Duration.FromMilliseconds)];

Console.WriteLine($"{trace.Header.Workload}: {workload.Touches} first touches; total stall at 1 Gbit/s by round trip");
Console.WriteLine($"{"policy",-14}{string.Concat(roundTrips.Select(r => $"{r.ToString(),12}"))}");
foreach (string policy in PolicyCatalog.Names)
{
    IEnumerable<string> stalls = roundTrips.Select(roundTrip =>
    {
        var link = new LinkParameters(ByteRate.FromBitsPerSecond(1e9), roundTrip);
        var options = new ReplayOptions(PolicyCatalog.Parse(policy), link, roundTrip.ToString()) { Costs = HostCosts.Reference };
        return Simulation.Run(workload, options).TotalStall.ToString();
    });
    Console.WriteLine($"{policy,-14}{string.Concat(stalls.Select(s => $"{s,12}"))}");
}
