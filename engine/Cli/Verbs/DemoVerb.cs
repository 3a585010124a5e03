using System.CommandLine;
using Testbed.Core;
using Testbed.Replay;
using Testbed.Reports;
using Testbed.Scenarios;
using Testbed.Traces;
using Testbed.Uffd;

namespace Testbed.Cli.Verbs;

/// <summary>testbed demo</summary>
internal static class DemoVerb
{
    public static Command Create()
    {
        var output = Options.Output("directory of the report; default: reports/out/demo");
        var command = new Command("demo", """
            The main job, end to end: replay the shipped redis trace under every policy over three links; then, where privileges
            allow, capture a fresh trace from a live process, replay that too, and put live beside replay.

            Example:
              testbed demo
            """)
        { output };
        command.SetAction(parsed => Demo(parsed.GetValue(output) ?? Path.Combine("reports", "out", "demo")));
        return command;
    }

    private static void Demo(string directory)
    {
        using var interrupt = new Interrupt();
        string scenarios = FindScenarios();
        Scenario scenario = Scenario.FromFile(Path.Combine(scenarios, "demo.json"));
        Trace shipped = Trace.Load(scenario.TraceFile!);
        Console.WriteLine($"Replaying {shipped.Header.Workload} ({shipped.Faults.Length} first touches, {shipped.Image.PresentPages >> 8} MiB) under {scenario.Policies.Count} policies over {scenario.Links.Count} links");
        var results = new List<RunResult>(Experiment.Replay(TraceWorkload.From(shipped), scenario, Calibration.Reference));
        interrupt.Token.ThrowIfCancellationRequested();
        Console.WriteLine(ResultTable.Format(results));
        var traces = new List<Trace> { shipped };
        if (TryLive(scenarios, directory + "-traces", interrupt.Token) is { } live)
        {
            Console.WriteLine(ResultTable.Format(live.Results));
            results.AddRange(live.Results);
            traces.Add(live.Capture);
        }
        interrupt.Token.ThrowIfCancellationRequested();
        Experiment.Report(directory, scenario, Calibration.Reference, traces, results);
    }

    /// <summary>Redis where it is installed, otherwise python3, which every such machine has.</summary>
    private static LiveOutcome? TryLive(string scenarios, string directory, CancellationToken cancel)
    {
        Scenario? scenario = ((string[])["demo-live-redis.json", "demo-live-python.json"])
            .Select(name => Scenario.FromFile(Path.Combine(scenarios, name)))
            .FirstOrDefault(s => new Workload(s.LoadWorkload()!).Missing().Count == 0);
        if (scenario is null)
        {
            Console.WriteLine("Live part left out: neither redis-server nor python3 is installed (scenarios/setup/debian.sh installs them).");
            return null;
        }
        using var progress = new Progress();
        Console.WriteLine($"Running {scenario.Workload} live: {scenario.Description}");
        try
        {
            return new LiveExperiment(scenario, directory, progress, cancel).Run(() => Calibration.Reference);
        }
        catch (BadInputException e)
        {
            progress.Clear();
            Console.WriteLine($"Live part left out: {e.Message} (testbed doctor tells more)");
            return null;
        }
    }

    /// <summary>The scenarios lie beside the engine in the checkout that this program was built in.</summary>
    private static string FindScenarios()
    {
        for (DirectoryInfo? at = new(AppContext.BaseDirectory); at is not null; at = at.Parent)
        {
            string candidate = Path.Combine(at.FullName, "scenarios");
            if (File.Exists(Path.Combine(candidate, "demo.json")))
                return candidate;
        }
        throw new BadInputException("scenarios/demo.json: not found above the program; expected a checkout of the testbed");
    }
}
