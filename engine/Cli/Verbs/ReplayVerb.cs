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
        var recordings = Options.Recordings();
        var policyFiles = PolicyFileOption.Create();
        var seed = new Option<ulong>("--seed") { Description = "for policies with randomness", DefaultValueFactory = _ => 1 };
        var calibration = Options.Calibration();
        var command = new Command("replay", """
            Replay a capture under a policy over a link, deterministically, in milliseconds.

            Example:
              testbed replay traces/redis-get-uniform.trace --policy next-n:n=32 --link 1Gbit/s,1ms
              testbed replay traces/redis-get-uniform.trace --policy-file MyPolicy.cs
            """)
        { file, policy, policyFiles, link, recordings, seed, calibration };
        command.SetAction(parsed =>
        {
            IReadOnlyList<string> added = PolicyFileOption.Load(parsed.GetRequiredValue(policyFiles));
            // A policy file without --policy means its policy.
            bool given = parsed.GetResult(policy) is { Implicit: false };
            Replay(
                parsed.GetRequiredValue(file), given || added.Count == 0 ? parsed.GetRequiredValue(policy) : added[0], parsed.GetRequiredValue(link),
                parsed.GetRequiredValue(recordings), parsed.GetValue(seed), parsed.GetValue(calibration));
        });
        return command;
    }

    private static void Replay(string file, string policyText, string linkText, string[] recordings, ulong seed, string? calibration)
    {
        (PolicySpec policy, LinkSpec link) = Options.Parse(policyText, linkText);
        ReplayWorkload workload = TraceWorkload.From(Trace.Load(file));
        HostCosts costs = calibration is null ? HostCosts.Reference : Calibration.FromFile(calibration).ToCosts();
        LinkBound bound = LowerBound.Of(workload, link.Parameters, costs);
        long began = Stopwatch.GetTimestamp();
        RunResult result = Simulation.Run(workload, new ReplayOptions(policy, link.Parameters, link.Text)
        {
            Costs = costs,
            Seed = seed,
            Bound = bound,
            Recording = Options.LoadRecordings(recordings),
        });
        double seconds = Stopwatch.GetElapsedTime(began).TotalSeconds;
        Console.WriteLine(ResultTable.Format([result]));
        Console.WriteLine($"{workload.Touches} touches replayed in {seconds * 1e3:0} ms ({workload.Touches / seconds / 1e6:0.0} M/s); command hash {result.CommandHash:x16}");
    }
}
