using System.CommandLine;
using System.Diagnostics;
using nietras.SeparatedValues;
using Testbed.Core;
using Testbed.Replay;
using Testbed.Reports.Regression;
using Testbed.Scenarios;
using Testbed.Traces;
using Testbed.Uffd;
using Trace = Testbed.Traces.Trace;

namespace Testbed.Cli.Verbs;

/// <summary>testbed regress</summary>
internal static class RegressVerb
{
    private sealed record Request(
        string Scenario, string? Baseline, bool Update, string? Against, string? Guard, double Tolerance, int Rounds,
        string? JUnit, string? Markdown);

    public static Command Create()
    {
        var scenario = new Argument<string>("SCENARIO") { Description = "a scenario file; it names the trace to replay, or with --against the workload to run" };
        var baseline = new Option<string?>("--baseline", "-b") { Description = "the baseline file; default: reports/baselines/NAME.json" };
        var update = new Option<bool>("--update") { Description = "write what is now as the new baseline, and say what changed" };
        var against = new Option<string?>("--against") { Description = "measure live: another build's launcher (./testbed of another checkout), which takes turns with this one" };
        var guard = new Option<string?>("--guard") { Description = $"metrics whose rise fails; some of {string.Join(", ", GateMetric.All.Select(m => m.Name))}; default: {GateMetric.Guarded}, live {GateMetric.GuardedLive}" };
        var tolerance = new Option<double?>("--tolerance") { Description = "by how many per cent a guarded metric may rise; default: 0 in replay, 5 live" };
        var rounds = new Option<int>("--rounds") { Description = "live: rounds before the first of four looks; the number doubles for each later one, if it is needed", DefaultValueFactory = _ => 8 };
        var junit = new Option<string?>("--junit") { Description = "write JUnit XML to this file" };
        var markdown = new Option<string?>("--markdown") { Description = "write Markdown to this file; the file of $GITHUB_STEP_SUMMARY is appended to" };
        var command = new Command("regress", """
            Fail when fault latency regresses. In replay it is exact: same trace, same code, same numbers, so that any change of a policy's
            p99 is seen without noise. With --against it is measured: both builds take turns, and statistics decide.

            Exit codes: 0 same or better, 1 regressed, 2 could not tell, or bad input. Under GitHub Actions it also prints annotations.

            Examples:
              testbed regress scenarios/demo.json --update                 # agree with what is now
              testbed regress scenarios/demo.json --junit regress.xml      # in CI
              testbed regress scenarios/gate-live.json --against ../before/testbed   # before: git worktree add ../before main
            """)
        { scenario, baseline, update, against, guard, tolerance, rounds, junit, markdown };
        command.SetAction(parsed => Regress(new Request(
            parsed.GetRequiredValue(scenario), parsed.GetValue(baseline), parsed.GetValue(update), parsed.GetValue(against), parsed.GetValue(guard),
            (parsed.GetValue(tolerance) ?? (parsed.GetValue(against) is null ? 0 : 5)) / 100, parsed.GetValue(rounds), parsed.GetValue(junit), parsed.GetValue(markdown))));
        return command;
    }

    private static int Regress(Request request)
    {
        if (request.Tolerance is not (>= 0 and < 10))
            throw new BadInputException($"--tolerance {request.Tolerance * 100:0.###}: expected 0 to 1000 per cent");
        if (request.Rounds is < 3 or > 1000)
            throw new BadInputException($"--rounds {request.Rounds}: expected 3 to 1000");
        Scenario scenario = Experiment.WithPolicies(Scenario.FromFile(request.Scenario), []);
        IReadOnlyList<GateMetric> guarded = GateMetric.Parse(request.Guard ?? (request.Against is null ? GateMetric.Guarded : GateMetric.GuardedLive));
        GateResult result = request.Against is null ? Replay(request, scenario, guarded) : Live(request, scenario, guarded);
        Console.WriteLine(GateReport.Table(result));
        if (request.JUnit is not null)
            File.WriteAllText(request.JUnit, GateReport.JUnit(result));
        if (request.Markdown is not null)
            WriteMarkdown(request.Markdown, GateReport.Markdown(result));
        if (Environment.GetEnvironmentVariable("GITHUB_ACTIONS") == "true")
            Console.Write(GateReport.Annotations(result, request.Scenario));
        if (result.ExitCode != 0 && request.Against is null && !request.Update)
            Console.WriteLine($"If that is meant: ./testbed regress {request.Scenario}{(request.Baseline is { } b ? $" --baseline {b}" : "")} --update, and commit the baseline.");
        return request.Update ? 0 : result.ExitCode;
    }

    private static GateResult Replay(Request request, Scenario scenario, IReadOnlyList<GateMetric> guarded)
    {
        _ = Experiment.TraceOf(scenario);
        string file = request.Baseline ?? Path.Combine("reports", "baselines", scenario.Name + ".json");
        Baseline? before = request.Update && !File.Exists(file) ? null : Baseline.Load(file);
        Calibration calibration = Experiment.CalibrationFor(scenario);
        (Trace trace, IReadOnlyList<RunResult> results) = Experiment.ReplayTrace(scenario, calibration);
        var after = Baseline.Of(scenario.Name, Experiment.HashOf(trace.Name), calibration.ToCosts().ToString(), scenario.Seed, results);
        if (request.Update)
            after.Save(file);
        return ReplayGate.Compare(before ?? after, after, guarded, request.Tolerance);
    }

    private static GateResult Live(Request request, Scenario scenario, IReadOnlyList<GateMetric> guarded)
    {
        if (request.Update || request.Baseline is not null)
            throw new BadInputException("--against: --baseline and --update are of replay; live, the other build is the baseline");
        _ = scenario.LoadWorkload() ?? throw new BadInputException($"{request.Scenario}: workload: missing; expected the workload to run live");
        string[] own = OwnProgram.Command;
        using var interrupt = new Interrupt();
        using var progress = new Progress();
        var gate = new LiveGate { FirstRounds = request.Rounds, Threshold = request.Tolerance, Seed = scenario.Seed };
        GateResult result = gate.Run(scenario.Name, after =>
        {
            progress.Line($"round {gate.Rounds + 1}: {(after ? "this build" : request.Against)}");
            return RunOnce(after ? own : [request.Against!], request.Scenario, guarded, progress, interrupt.Token);
        });
        progress.Clear();
        return result;
    }

    /// <summary>One side once, in a process of its own; its numbers come from the CSV that it writes.</summary>
    private static List<LiveNumber> RunOnce(
        string[] program, string scenario, IReadOnlyList<GateMetric> metrics, Progress progress, CancellationToken cancel)
    {
        cancel.ThrowIfCancellationRequested();
        DirectoryInfo folder = Directory.CreateTempSubdirectory("testbed-regress-");
        try
        {
            string report = Path.Combine(folder.FullName, "report");
            var start = new ProcessStartInfo(program[0], [.. program[1..], "live", scenario, "--output", report])
            {
                RedirectStandardOutput = true,
                RedirectStandardError = true,
            };
            using Process process = Start(start);
            Task<string> errors = process.StandardError.ReadToEndAsync(CancellationToken.None);
            // It has a process's memory, and gives it back before it ends: it is asked, and waited for.
            using (cancel.Register(() => End(process, program[0], progress)))
            {
                process.StandardOutput.ReadToEnd();
                process.WaitForExit();
            }
            cancel.ThrowIfCancellationRequested();
            string[] said = errors.Result.Split('\n', StringSplitOptions.RemoveEmptyEntries);
            if (process.ExitCode != 0)
                throw new BadInputException($"{program[0]} live {scenario}: exit code {process.ExitCode}: {(said.Length > 0 ? said[^1] : "nothing said")}");
            return Read(Path.Combine(report, "results.csv"), metrics);
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    private static void End(Process process, string program, Progress progress)
    {
        progress.Say($"interrupted; waiting for {program}, which gives its workload's memory back");
        _ = Mono.Unix.Native.Syscall.kill(process.Id, Mono.Unix.Native.Signum.SIGTERM);
    }

    private static Process Start(ProcessStartInfo start)
    {
        try
        {
            return Process.Start(start)!;
        }
        catch (System.ComponentModel.Win32Exception e)
        {
            throw new BadInputException($"--against {start.FileName}: cannot be started ({e.Message}); expected the launcher ./testbed of another checkout", e);
        }
    }

    private static List<LiveNumber> Read(string file, IReadOnlyList<GateMetric> metrics)
    {
        var numbers = new List<LiveNumber>();
        using SepReader csv = Sep.New(',').Reader(o => o with { Unescape = true }).FromFile(file);
        foreach (SepReader.Row row in csv)
        {
            if (row["mode"].ToString() != "live")
                continue;
            foreach (GateMetric metric in metrics)
            {
                if (row[metric.Column].TryParse<double>() is { } value)
                    numbers.Add(new LiveNumber(row["policy"].ToString(), row["link"].ToString(), metric, value * metric.Scale));
            }
        }
        return numbers;
    }

    private static void WriteMarkdown(string file, string text)
    {
        // A step may run the gate more than once, and its summary is one file.
        if (file == Environment.GetEnvironmentVariable("GITHUB_STEP_SUMMARY"))
            File.AppendAllText(file, text + "\n");
        else
            File.WriteAllText(file, text);
    }
}
