using System.CommandLine;
using System.Diagnostics;
using Testbed.Scenarios;

namespace Testbed.Cli.Verbs;

/// <summary>testbed sweep</summary>
internal static class SweepVerb
{
    public static Command Create()
    {
        var files = new Argument<string[]>("SCENARIO") { Description = "scenario files that name a trace", Arity = ArgumentArity.OneOrMore };
        var output = Options.Output("directory of the results; default: reports/out/NAME-sweep, with the first scenario's name");
        var seeds = new Option<int>("--seeds") { Description = "how many seeds, from the scenario's on, 1 to 10000", DefaultValueFactory = _ => 1 };
        seeds.Validators.Add(r =>
        {
            if (r.GetValueOrDefault<int>() is < 1 or > 10_000)
                r.AddError("--seeds: expected 1 to 10000.");
        });
        var policyFiles = PolicyFileOption.Create();
        var calibration = Options.Calibration();
        var command = new Command("sweep", """
            Replay scenarios under all their policies, with every value that an option lists (next-n:n=4|16|64), over all their links,
            on all cores. Writes sweep.csv and sweep.parquet with one row a replay. Killed or interrupted, the same command goes on where it
            was; after a change of scenario, trace, calibration, policy file or code it runs what changed.

            Examples:
              testbed sweep scenarios/sweep.json
              testbed sweep scenarios/sweep.json --policy-file MyPolicy.cs
            """)
        { files, output, seeds, policyFiles, calibration };
        command.SetAction(parsed => Run(
            parsed.GetRequiredValue(files), parsed.GetValue(output), parsed.GetValue(seeds), parsed.GetRequiredValue(policyFiles), parsed.GetValue(calibration)));
        return command;
    }

    private static void Run(string[] files, string? output, int seeds, string[] policyFiles, string? calibration)
    {
        string directory = output ?? Path.Combine("reports", "out", Scenario.FromFile(files[0]).Name + "-sweep");
        using var interrupt = new Interrupt();
        using var progress = new Progress();
        long began = Stopwatch.GetTimestamp();
        (int all, int run) = new Sweep(directory, progress, interrupt.Token).Run(files, policyFiles, seeds, calibration);
        progress.Clear();
        Console.WriteLine($"{all} replays, {run} run and {all - run} kept from before, in {Stopwatch.GetElapsedTime(began).TotalSeconds:0.0} s: {Path.Combine(directory, "sweep.csv")}, sweep.parquet");
    }
}
