using System.IO.Hashing;
using System.Reflection;
using System.Runtime.ExceptionServices;
using System.Text.RegularExpressions;
using Testbed.Core;
using Testbed.Live;
using Testbed.Policies;
using Testbed.Replay;
using Testbed.Reports;
using Testbed.Scenarios;
using Testbed.Traces;

namespace Testbed.Cli;

/// <summary>Replays a scenario's policies over its links, and writes what came of it.</summary>
internal static class Experiment
{
    /// <summary>The scenario with the policies of outside files: its own files', known from now on, and those of
    /// <paramref name="files"/>, which join its policies where it does not name them. Lists of values (<c>n=4|16</c>) become a policy each.</summary>
    public static Scenario WithPolicies(Scenario scenario, IReadOnlyList<string> files)
    {
        _ = PolicyFileOption.Load(scenario.Resolve(scenario.PolicyFiles));
        IEnumerable<string> joining = PolicyFileOption.Load(files)
            .Where(name => !scenario.Policies.Any(p => PolicyNames(p).Contains(name)));
        return scenario with { Policies = [.. scenario.Policies.SelectMany(Scenario.Expand).Distinct(), .. joining] };
    }

    /// <summary>The words in a policy as typed: the names of policies are among them.</summary>
    public static string[] PolicyNames(string policy) => Regex.Split(policy, "[^a-z0-9-]+");

    /// <summary>A scenario's trace under all its policies over all its links.</summary>
    /// <param name="scenario">It names the trace.</param>
    /// <param name="calibration">What the host charges.</param>
    /// <param name="recordings">Earlier traces for record-and-prefetch policies; none: those of the scenario, or else the trace itself.</param>
    /// <exception cref="BadInputException">The scenario names no trace, or a file is not what it should be.</exception>
    public static (Trace Trace, IReadOnlyList<RunResult> Results) ReplayTrace(Scenario scenario, Calibration calibration, IReadOnlyList<string>? recordings = null)
    {
        var trace = Trace.Load(TraceOf(scenario));
        return (trace, Replay(TraceWorkload.From(trace), scenario, calibration,
            Options.LoadRecordings(recordings is { Count: > 0 } ? recordings : scenario.Resolve(scenario.Recordings))));
    }

    /// <summary>The path of the trace that a scenario names.</summary>
    /// <exception cref="BadInputException">It names none.</exception>
    public static string TraceOf(Scenario scenario) =>
        scenario.TraceFile ?? throw new BadInputException(
            $"{Path.GetFileName(scenario.File)}: trace: missing; expected the trace to replay (live, figures --live and regress --against run its workload instead)");

    /// <summary>Every policy over every link, on all cores; in the order of the scenario, whichever is done first.</summary>
    /// <param name="workload">What is replayed.</param>
    /// <param name="scenario">Under what.</param>
    /// <param name="calibration">What the host charges.</param>
    /// <param name="recording">An earlier run's touches; null: those of the workload.</param>
    /// <param name="cancel">No further replay begins.</param>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    public static IReadOnlyList<RunResult> Replay(
        ReplayWorkload workload, Scenario scenario, Calibration calibration, IReadOnlyList<PageNumber>? recording = null, CancellationToken cancel = default)
    {
        (PolicySpec Policy, LinkSpec Link)[] runs =
            [.. scenario.Links.SelectMany(link => scenario.Policies.Select(policy => (PolicyCatalog.Parse(policy), link)))];
        HostCosts costs = calibration.ToCosts();
        Dictionary<string, LinkBound> bounds = BoundsOf(workload, scenario, costs);
        var results = new RunResult[runs.Length];
        InParallel(runs.Length, i =>
        {
            cancel.ThrowIfCancellationRequested();
            results[i] = Simulation.Run(
                workload, OptionsFor(scenario, runs[i].Policy, runs[i].Link, scenario.Seed, costs, recording, bounds));
        });
        return results;
    }

    /// <summary>What no policy can beat, by link as typed.</summary>
    public static Dictionary<string, LinkBound> BoundsOf(ReplayWorkload workload, Scenario scenario, HostCosts costs) =>
        scenario.Links.AsParallel().ToDictionary(link => link.Text, link => LowerBound.Of(workload, link.Parameters, costs));

    /// <summary>How one policy of a scenario is replayed over one of its links.</summary>
    public static ReplayOptions OptionsFor(
        Scenario scenario, PolicySpec policy, LinkSpec link, ulong seed, HostCosts costs, IReadOnlyList<PageNumber>? recording, Dictionary<string, LinkBound> bounds) =>
        new(policy, link.Parameters, link.Text)
        {
            Transfer = TransferFor(scenario, policy),
            Costs = costs,
            Seed = seed,
            Recording = recording,
            Bound = bounds[link.Text],
        };

    /// <summary>The calibration that the command line names, or the scenario, or the reference.</summary>
    /// <exception cref="BadInputException">There is no such file, or it is no calibration.</exception>
    public static Calibration CalibrationFor(Scenario scenario, string? file = null) =>
        (file ?? scenario.CalibrationFile) is { } path ? Calibration.FromFile(path) : Calibration.Reference;

    /// <summary>The first error as itself, not wrapped with the others: an outside policy's is bad input.</summary>
    private static void InParallel(int count, Action<int> run)
    {
        try
        {
            Parallel.For(0, count, run);
        }
        catch (AggregateException e)
        {
            ExceptionDispatchInfo.Throw(e.InnerExceptions[0]);
        }
    }

    /// <summary>The scenario's transfer settings change what belongs to the policy, but not what CRIU does.</summary>
    public static TransferOptions TransferFor(Scenario scenario, PolicySpec policy) =>
        policy.About.CriuTransfer || scenario.Transfer is null ? policy.DefaultTransfer : scenario.Transfer.ToOptions(policy.DefaultTransfer);

    /// <summary>Writes the report and says where.</summary>
    public static void Report(
        string directory, Scenario scenario, Calibration calibration, IReadOnlyList<Trace> traces, IReadOnlyList<RunResult> results)
    {
        string index = Reports.Report.Write(directory, ContextOf(scenario, calibration, traces), results);
        Console.WriteLine($"report: {Path.GetRelativePath(Environment.CurrentDirectory, index)}");
    }

    /// <summary>What a report says about where its numbers come from.</summary>
    public static ReportContext ContextOf(Scenario scenario, Calibration calibration, IReadOnlyList<Trace> traces) =>
        ContextOf(scenario.Description, scenario.File, scenario.Seed) with
        {
            Traces = [.. traces.Select(t => new TraceProvenance(t.Header.Workload, Path.GetRelativePath(Environment.CurrentDirectory, t.Name), HashOf(t.Name), t.Image))],
            Calibration = Describe(calibration),
        };

    /// <summary>The same, of what was measured and not replayed.</summary>
    public static ReportContext ContextOf(string title, string file, ulong seed)
    {
        (string kernel, string cpu) = HostFacts.Read();
        string[] version = HostFacts.ToolVersion.Split('+', 2);
        return new ReportContext(
            title, CommandLine(), version.Length > 1 ? version[1] : "unknown", version[0], seed, Path.GetFileName(file), [],
            kernel, $"{cpu}, {Environment.ProcessorCount} CPUs", "", DateTimeOffset.UtcNow);
    }

    /// <summary>What was typed, as a shell takes it.</summary>
    private static string CommandLine() => string.Join(' ', ["./testbed", .. Environment.GetCommandLineArgs().Skip(1)
        .Select(a => Regex.IsMatch(a, @"\A[\w./:=,+@%-]+\z") ? a : $"'{a.Replace("'", @"'\''", StringComparison.Ordinal)}'")]);

    private static string Describe(Calibration calibration) =>
        $"{calibration.Host}, {calibration.Date:yyyy-MM-dd}, median of {calibration.Repetitions}: {calibration.ToCosts()}";

    /// <summary>The hash of a file's bytes (XXH128), as reports and baselines name traces.</summary>
    public static string HashOf(string file)
    {
        using FileStream stream = File.OpenRead(file);
        var hash = new XxHash128();
        hash.Append(stream);
        return Convert.ToHexStringLower(hash.GetCurrentHash());
    }
}
