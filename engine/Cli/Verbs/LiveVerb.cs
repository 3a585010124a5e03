using System.CommandLine;
using Testbed.Reports;
using Testbed.Scenarios;

namespace Testbed.Cli.Verbs;

/// <summary>testbed live</summary>
internal static class LiveVerb
{
    public static Command Create()
    {
        var file = new Argument<string>("SCENARIO") { Description = "a scenario file that names a workload" };
        var output = Options.Output("directory of the report and the traces; default: reports/out/NAME-live");
        var policyFiles = Options.PolicyFiles();
        var command = new Command("live", """
            Run a scenario's workload for real, under all its policies over all its links, with pages coming from our page server
            over a shaped link; then replay the same from a capture, and put both side by side.

            Example:
              testbed live scenarios/redis.json
            """)
        { file, output, policyFiles };
        command.SetAction(parsed => Live(parsed.GetRequiredValue(file), parsed.GetValue(output), parsed.GetRequiredValue(policyFiles)));
        return command;
    }

    private static void Live(string file, string? output, string[] policyFiles)
    {
        Scenario scenario = Experiment.WithPolicies(Scenario.FromFile(file), policyFiles);
        string directory = output ?? Path.Combine("reports", "out", scenario.Name + "-live");
        using var interrupt = new Interrupt();
        using var progress = new Progress();
        LiveOutcome outcome = new LiveExperiment(scenario, directory + "-traces", progress, interrupt.Token).Run();
        progress.Clear();
        Console.WriteLine(ResultTable.Format(outcome.Results));
        Console.WriteLine("Every live run was replayed exactly from its recorded events: same command hash.");
        Experiment.Report(directory, scenario.Description, $"./testbed live {file}", scenario, [outcome.Capture], outcome.Results);
    }
}
