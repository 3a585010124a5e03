using Testbed.Core;
using Testbed.Live;
using Testbed.Policies;
using Testbed.Replay;
using Testbed.Scenarios;
using Testbed.Traces;
using Testbed.Uffd;

namespace Testbed.Cli;

/// <summary>What a live experiment gave.</summary>
/// <param name="Capture">The first of the demand-only captures that the replays run.</param>
/// <param name="Calibration">What they charged.</param>
/// <param name="Results">Live results, and behind them the replayed ones of the same policies and links.</param>
internal sealed record LiveOutcome(Trace Capture, Calibration Calibration, IReadOnlyList<RunResult> Results);

/// <summary>
/// Runs a scenario's workload for real. One process serves all runs, filled once: in place, every run ends with all memory back, so
/// the next one, under another policy, finds the same pages at the same addresses. Each repetition is a capture, and then every
/// policy over every link with the same requests: what the program or the machine changes over time, it changes for all alike.
/// Then each capture is replayed, so that what one run differs from the next is in the replays as it is in the live runs.
/// </summary>
internal sealed class LiveExperiment(Scenario scenario, string directory, Progress progress, CancellationToken cancel)
{
    private readonly WorkloadFile _workload = scenario.LoadWorkload()
        ?? throw new BadInputException($"{scenario.File}: workload: missing; expected the workload to run live");

    /// <summary>Done with each repetition: what is measured there has met the same noise of the machine as the runs.</summary>
    public Action? BetweenRepetitions { get; init; }

    /// <summary>Runs it all; traces go into the directory.</summary>
    /// <param name="calibration">What the host charges; asked for when all live runs are done.</param>
    /// <exception cref="BadInputException">The workload cannot run here, its data changed, or a run did not repeat itself exactly.</exception>
    public LiveOutcome Run(Func<Calibration> calibration)
    {
        Directory.CreateDirectory(directory);
        var captures = new List<Trace>();
        var results = new List<RunResult>();
        using (var running = new WorkloadRun(_workload, scenario.Seed, progress, cancel))
        {
            for (int repetition = 0; repetition < scenario.Live.Repetitions; repetition++)
            {
                BetweenRepetitions?.Invoke();
                captures.Add(Capture(running, repetition));
                IReadOnlyList<PageNumber> recording = captures[^1].FirstTouches().Recording;
                foreach (LinkSpec link in scenario.Links)
                {
                    foreach (string policy in scenario.Policies)
                        results.Add(Measure(running, PolicyCatalog.Parse(policy), link, recording, repetition));
                }
            }
            running.CheckData();
        }
        Calibration costs = calibration();
        for (int i = 0; i < captures.Count; i++)
            results.AddRange(Experiment.Replay(TraceWorkload.From(captures[i]), scenario with { Seed = scenario.Seed + (ulong)i }, costs, cancel: cancel));
        return new LiveOutcome(captures[0], costs, results);
    }

    private Trace Capture(WorkloadRun running, int repetition)
    {
        LiveOptions options = OptionsFor(PolicyCatalog.Parse("demand"), new LinkSpec("local", LinkParameters.Unshaped), [], repetition == 0 ? "capture.trace" : $"capture-{repetition}.trace");
        running.Run(options, scenario.Live.Duration, scenario.Live.Requests, cancel);
        return Trace.Load(options.TracePath!);
    }

    private RunResult Measure(WorkloadRun running, PolicySpec policy, LinkSpec link, IReadOnlyList<PageNumber> recording, int repetition)
    {
        progress.Line($"live: {policy.Text} over {link.Text}, run {repetition + 1} of {scenario.Live.Repetitions}");
        LiveOptions options = OptionsFor(policy, link, recording, $"live-{Safe(policy.Text)}-{Safe(link.Text)}-{repetition}.trace") with { TraceEvents = true, ThroughServer = true };
        RunResult result = running.Run(options, scenario.Live.Duration, scenario.Live.Requests, cancel).Result;
        Trace trace = Trace.Load(options.TracePath!);
        ulong replayed = TraceWorkload.ExactHash(trace, options.EffectiveTransfer, policy, recording);
        if (replayed != result.CommandHash)
            throw new InvalidOperationException($"{trace.Name}: exact replay gave command hash {replayed:x16}, live {result.CommandHash:x16}");
        return result;
    }

    private LiveOptions OptionsFor(PolicySpec policy, LinkSpec link, IReadOnlyList<PageNumber> recording, string trace) => new()
    {
        Workload = _workload.Name,
        Policy = policy,
        Transfer = Experiment.TransferFor(scenario, policy),
        Link = link.Parameters,
        LinkName = link.Text,
        Seed = scenario.Seed,
        Recording = recording,
        TracePath = Path.Combine(directory, trace),
        ToolCommandLine = "testbed " + string.Join(' ', Environment.GetCommandLineArgs().Skip(1)),
    };

    private static string Safe(string text) => string.Concat(text.Select(c => char.IsAsciiLetterOrDigit(c) ? c : '-'));
}
