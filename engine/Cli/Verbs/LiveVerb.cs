using System.CommandLine;
using Testbed.Replay;
using Testbed.Reports;
using Testbed.Reports.Statistics;
using Testbed.Scenarios;

namespace Testbed.Cli.Verbs;

/// <summary>testbed live</summary>
internal static class LiveVerb
{
    public static Command Create()
    {
        var file = new Argument<string>("SCENARIO") { Description = "a scenario file that names a workload" };
        var output = Options.Output("directory of the report and the traces; default: reports/out/NAME-live");
        var policyFiles = PolicyFileOption.Create();
        var calibration = Options.Calibration();
        var calibrate = new Option<bool>("--calibrate") { Description = "calibrate this host between the runs, and replay with that" };
        var command = new Command("live", """
            Run a scenario's workload for real, under all its policies over all its links, with pages coming from our page server
            over a shaped link; then replay the same from captures made between, and put both side by side. From three repetitions on, it
            says how far the replays are off, with the bars of the fidelity test.

            Example:
              testbed live scenarios/redis.json
            """)
        { file, output, policyFiles, calibration, calibrate };
        command.SetAction(parsed => Live(
            parsed.GetRequiredValue(file), parsed.GetValue(output), parsed.GetRequiredValue(policyFiles), parsed.GetValue(calibration), parsed.GetValue(calibrate)));
        return command;
    }

    private static void Live(string file, string? output, string[] policyFiles, string? calibrationFile, bool calibrate)
    {
        Scenario scenario = Experiment.WithPolicies(Scenario.FromFile(file), policyFiles);
        string directory = output ?? Path.Combine("reports", "out", scenario.Name + "-live");
        using var interrupt = new Interrupt();
        using var progress = new Progress();
        LiveOutcome outcome;
        using (Calibrator? calibrator = calibrate ? new Calibrator(interrupt.Token) : null)
        {
            Func<Calibration> calibration = calibrator is null
                ? () => Experiment.CalibrationFor(scenario, calibrationFile)
                : calibrator.Result;
            outcome = new LiveExperiment(scenario, directory + "-traces", progress, interrupt.Token) { BetweenRepetitions = calibrator is null ? null : calibrator.Round }.Run(calibration);
        }
        interrupt.Token.ThrowIfCancellationRequested();
        if (calibrate)
            outcome.Calibration.Save(Path.Combine(directory + "-traces", "calibration.json"));
        progress.Clear();
        Console.WriteLine(ResultTable.Format(outcome.Results));
        Console.WriteLine("Every live run was replayed exactly from its recorded events: same command hash.");
        IReadOnlyList<FidelityPair> pairs = FidelityPair.Of(outcome.Results);
        if (pairs.Count > 0)
            Console.WriteLine(FidelityPair.Format(pairs));
        Experiment.Report(directory, scenario, outcome.Calibration, [outcome.Capture], outcome.Results);
    }
}
