using System.CommandLine;
using Testbed.Core;
using Testbed.Replay;
using Testbed.Reports;
using Testbed.Scenarios;
using Testbed.Traces;

namespace Testbed.Cli.Verbs;

/// <summary>testbed compare</summary>
internal static class CompareVerb
{
    public static Command Create()
    {
        var file = new Argument<string>("SCENARIO") { Description = "a scenario file that names a trace" };
        var output = Options.Output("directory of the report; default: reports/out/NAME");
        var recordings = Options.Recordings();
        var policyFiles = PolicyFileOption.Create();
        var calibration = Options.Calibration();
        var command = new Command("compare", """
            Replay a scenario's trace under all its policies over all its links; print a table and write a report with figures.
            Policies of a --policy-file that the scenario does not name join in with their defaults.

            Examples:
              testbed compare scenarios/demo.json
              testbed compare scenarios/demo.json --policy-file MyPolicy.cs
            """)
        { file, output, recordings, policyFiles, calibration };
        command.SetAction(parsed => Compare(
            parsed.GetRequiredValue(file), parsed.GetValue(output), parsed.GetRequiredValue(recordings), parsed.GetRequiredValue(policyFiles),
            parsed.GetValue(calibration)));
        return command;
    }

    private static void Compare(string file, string? output, string[] recordings, string[] policyFiles, string? calibrationFile)
    {
        Scenario scenario = Experiment.WithPolicies(Scenario.FromFile(file), policyFiles);
        Calibration calibration = Experiment.CalibrationFor(scenario, calibrationFile);
        (Trace trace, IReadOnlyList<RunResult> results) = Experiment.ReplayTrace(scenario, calibration, recordings);
        Console.WriteLine(ResultTable.Format(results));
        Experiment.Report(output ?? Path.Combine("reports", "out", scenario.Name), scenario, calibration, [trace], results);
    }
}
