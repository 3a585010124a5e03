using System.CommandLine;
using System.Diagnostics;
using Testbed.Core;
using Testbed.Policies;
using Testbed.Replay;
using Testbed.Reports;
using Testbed.Scenarios;
using Testbed.Traces;
using Trace = Testbed.Traces.Trace;

namespace Testbed.Cli.Verbs;

/// <summary>testbed replay</summary>
internal static class ReplayVerb
{
    public static Command Create()
    {
        var file = new Argument<string>("TRACE") { Description = "a capture" };
        var policy = Options.Policy();
        var link = Options.Link();
        var recording = new Option<string?>("--recording") { Description = "an earlier trace for record-and-prefetch policies; default: the trace itself" };
        var seed = new Option<ulong>("--seed") { Description = "for policies with randomness", DefaultValueFactory = _ => 1 };
        var calibration = Options.Calibration();
        var command = new Command("replay", """
            Replay a capture under a policy over a link, deterministically, in milliseconds.

            Example:
              testbed replay traces/redis-get-uniform.trace --policy next-n:n=32 --link 1Gbit/s,1ms
            """)
        { file, policy, link, recording, seed, calibration };
        command.SetAction(parsed => Replay(
            parsed.GetRequiredValue(file), parsed.GetRequiredValue(policy), parsed.GetRequiredValue(link),
            parsed.GetValue(recording), parsed.GetValue(seed), parsed.GetValue(calibration)));
        return command;
    }

    private static void Replay(string file, string policyText, string linkText, string? recording, ulong seed, string? calibration)
    {
        (PolicySpec policy, LinkSpec link) = Options.Parse(policyText, linkText);
        ReplayWorkload workload = TraceWorkload.From(Trace.Load(file));
        long began = Stopwatch.GetTimestamp();
        RunResult result = Simulation.Run(workload, new ReplayOptions(policy, link.Parameters, link.Text)
        {
            Costs = calibration is null ? HostCosts.Reference : Calibration.FromFile(calibration).ToCosts(),
            Seed = seed,
            Recording = recording is null ? null : Trace.Load(recording).FirstTouches().Recording,
        });
        double seconds = Stopwatch.GetElapsedTime(began).TotalSeconds;
        Console.WriteLine(ResultTable.Format([result]));
        Console.WriteLine($"{workload.Touches} touches replayed in {seconds * 1e3:0} ms ({workload.Touches / seconds / 1e6:0.0} M/s); command hash {result.CommandHash:x16}");
    }
}
