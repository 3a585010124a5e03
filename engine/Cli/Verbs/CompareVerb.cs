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
        var recording = new Option<string?>("--recording") { Description = "an earlier trace for record-and-prefetch policies; default: the trace itself" };
        var calibration = Options.Calibration();
        var command = new Command("compare", """
            Replay a scenario's trace under all its policies over all its links; print a table and write a report with figures.

            Example:
              testbed compare scenarios/demo.json
            """)
        { file, output, recording, calibration };
        command.SetAction(parsed => Compare(parsed.GetRequiredValue(file), parsed.GetValue(output), parsed.GetValue(recording), parsed.GetValue(calibration)));
        return command;
    }

    private static void Compare(string file, string? output, string? recording, string? calibrationFile)
    {
        Scenario scenario = Scenario.FromFile(file);
        if (scenario.TraceFile is not { } path)
            throw new BadInputException($"{file}: trace: missing; expected the trace to replay");
        Calibration calibration = Experiment.CalibrationFor(scenario, calibrationFile);
        Trace trace = Trace.Load(path);
        IReadOnlyList<RunResult> results = Experiment.Replay(
            TraceWorkload.From(trace), scenario, calibration, recording is null ? null : Trace.Load(recording).FirstTouches().Recording);
        Console.WriteLine(ResultTable.Format(results));
        Experiment.Report(
            output ?? Path.Combine("reports", "out", scenario.Name), scenario.Description, $"./testbed compare {file}",
            scenario, calibration, [trace], results);
    }
}
