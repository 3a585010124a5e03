using System.CommandLine;
using Testbed.Core;
using Testbed.Live;
using Testbed.Scenarios;
using Testbed.Uffd;

namespace Testbed.Cli.Verbs;

/// <summary>testbed capture</summary>
internal static class CaptureVerb
{
    public static Command Create()
    {
        var file = new Argument<string>("WORKLOAD") { Description = "a workload file" };
        var output = new Option<string>("--output", "-o") { Description = "the trace to write", Required = true };
        var duration = Options.For("the longest that the load may run; default: 60s");
        var requests = new Option<long>("--requests", "-n") { Description = "requests of the built-in load", DefaultValueFactory = _ => long.MaxValue };
        var region = Options.Region();
        var seed = new Option<ulong>("--seed") { Description = "chooses the keys of the load", DefaultValueFactory = _ => 1 };
        var command = new Command("capture", """
            Make a trace of a workload from nothing: start its program, fill it, take its memory away, load it until its requests
            are done, and check its data.

            Example:
              testbed capture scenarios/workloads/redis.json -n 200000 -o traces/redis-get-uniform.trace
            """)
        { file, output, duration, requests, region, seed };
        command.SetAction(parsed => Capture(
            WorkloadFile.FromFile(parsed.GetRequiredValue(file)), parsed.GetRequiredValue(output), parsed.GetValue(duration) ?? TimeSpan.FromSeconds(60),
            parsed.GetValue(requests), parsed.GetValue(region), parsed.GetValue(seed)));
        return command;
    }

    private static void Capture(WorkloadFile file, string output, TimeSpan duration, long requests, RegionSelection region, ulong seed)
    {
        using var interrupt = new Interrupt();
        using var progress = new Progress();
        using var run = new WorkloadRun(file, seed, progress);
        LiveEnd end = run.Run(
            new LiveOptions
            {
                Workload = file.Name,
                Region = region,
                Seed = seed,
                TracePath = output,
                ToolCommandLine = "testbed " + string.Join(' ', Environment.GetCommandLineArgs().Skip(1)),
            },
            Duration.FromSeconds(duration.TotalSeconds), requests, interrupt.Token);
        string digest = run.CheckData();
        progress.Clear();
        Console.WriteLine($"{output}: {end.Result.DemandFaults} demand faults and {end.Result.ZeroFaults} zero faults in {end.Result.WorkloadTime}; first response after {end.Result.TimeToFirstResponse}; p50 {end.Result.LatencyQuantile(0.5)}, p99 {end.Result.LatencyQuantile(0.99)}; data equal ({digest})");
    }
}
