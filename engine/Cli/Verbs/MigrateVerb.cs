using System.CommandLine;
using Testbed.Cli.Migration;
using Testbed.Core;
using Testbed.Reports;
using Testbed.Scenarios;

namespace Testbed.Cli.Verbs;

/// <summary>testbed migrate</summary>
internal static class MigrateVerb
{
    /// <summary>Of the resampling in the report.</summary>
    private const ulong Seed = 1;

    public static Command Create()
    {
        var file = new Argument<string>("SCENARIO") { Description = "a migration scenario file" };
        var rounds = new Option<int?>("--rounds") { Description = "how often each pair is run; default: as the scenario has it" };
        rounds.Validators.Add(r =>
        {
            if (r.GetValueOrDefault<int?>() is < 1 or > 1000)
                r.AddError("--rounds: expected 1 to 1000.");
        });
        var pairs = new Option<string[]>("--pair") { Description = "only these pairs", AllowMultipleArgumentsPerToken = true };
        var source = new Option<string?>("--source") { Description = "USER@HOST, reached by ssh; default: namespaces of this machine" };
        var destination = new Option<string?>("--destination") { Description = "USER@HOST, reached by ssh; default: namespaces of this machine" };
        var criu = new Option<string>("--criu") { Description = "CRIU on hosts that are reached by ssh", DefaultValueFactory = _ => "criu" };
        var testbed = new Option<string>("--testbed") { Description = "this program on hosts that are reached by ssh", DefaultValueFactory = _ => "testbed" };
        var output = Options.Output("directory of the report; default: reports/out/migrate-NAME");
        var command = new Command("migrate", """
            Migrate a real program lazily with CRIU between two hosts, under load, with CRIU's daemon and page server or ours; check all its
            data, and compare the pairs in a table and a report. The hosts are two sets of network, pid and mount namespaces on this machine with
            a veth pair between, or two machines that let root in by ssh. Needs root and CRIU (sh scenarios/setup/criu.sh).

            Examples:
              testbed migrate scenarios/migrations/redis.json
              testbed migrate scenarios/migrations/redis.json --rounds 2 --pair criu+criu testbed+testbed
              testbed migrate scenarios/migrations/redis.json --source root@10.0.0.1 --destination root@10.0.0.2 --testbed /opt/testbed/testbed
            """)
        { file, rounds, pairs, source, destination, criu, testbed, output };
        command.SetAction(parsed =>
        {
            (string? from, string? to) = (parsed.GetValue(source), parsed.GetValue(destination));
            if (from is null != to is null)
                throw new BadInputException("--source without --destination, or the other way round; expected both, or none for namespaces");
            Func<MigrationScenario, CancellationToken, (MigrationHost, MigrationHost)> hosts =
                from is null ? (scenario, cancel) => NamespaceHost.Pair(scenario.CongestionControl, cancel) : (_, cancel) => Connect(from, to!, cancel);
            if (from is null)
                MigrationNeeds.Require();
            CriuPrograms programs = from is null ? CriuPrograms.Find() : new CriuPrograms(parsed.GetRequiredValue(criu), parsed.GetRequiredValue(testbed).Split(' '));
            Migrate(parsed.GetRequiredValue(file), parsed.GetValue(rounds), parsed.GetValue(pairs) ?? [], parsed.GetValue(output), programs, hosts);
        });
        return command;
    }

    private static (MigrationHost, MigrationHost) Connect(string from, string to, CancellationToken cancel)
    {
        var source = SshHost.Connect(from, cancel);
        try
        {
            return (source, SshHost.Connect(to, cancel));
        }
        catch
        {
            source.Dispose();
            throw;
        }
    }

    private static void Migrate(
        string file, int? rounds, string[] only, string? output, CriuPrograms programs,
        Func<MigrationScenario, CancellationToken, (MigrationHost, MigrationHost)> hosts)
    {
        MigrationScenario scenario = MigrationScenario.FromFile(file);
        WorkloadFile workload = scenario.LoadWorkload();
        if (new Workload(workload).Missing() is [var missing, ..])
            throw new BadInputException($"{workload.File}: {missing}");
        IReadOnlyList<string> pairs = only.Length > 0 ? only : scenario.Pairs;
        if (pairs.FirstOrDefault(p => !scenario.Pairs.Contains(p)) is { } unknown)
            throw new BadInputException($"--pair {unknown}: not in {file}; expected {string.Join(", ", scenario.Pairs)}");
        string target = output ?? Path.Combine("reports", "out", "migrate-" + scenario.Name);
        Directory.CreateDirectory(target);
        using var interrupt = new Interrupt();
        using var progress = new Progress();
        using var limits = new PipeLimits();
        if (limits.Changed.Count > 0)
            Console.Error.WriteLine($"testbed: changed for CRIU, until this ends: {string.Join(", ", limits.Changed)}");
        string? warning = null;
        var runs = new List<RestoreRun>();
        int count = rounds ?? scenario.Rounds;
        for (int round = 0; round < count; round++)
        {
            foreach (string pair in pairs)
            {
                interrupt.Token.ThrowIfCancellationRequested();
                progress.Line($"{pair}, round {round + 1} of {count}");
                runs.Add(RunOnce(scenario, workload, programs, hosts, pair, round, progress, interrupt.Token));
                // A later one may fail: what was measured is kept.
                File.WriteAllText(Path.Combine(target, "migrations.csv"), RestoreReport.Csv(runs));
                if (warning is null && (warning = FellBack(scenario, runs[^1])) is not null)
                {
                    progress.Clear();
                    Console.Error.WriteLine("testbed: warning: " + warning);
                }
            }
        }
        progress.Clear();
        Console.WriteLine(RestoreReport.Table(runs));
        Console.WriteLine("All data equal after every migration.");
        string index = RestoreReport.Write(target, Experiment.ContextOf(scenario.Description, file, Seed), runs, warning is null ? [] : [warning]);
        Console.WriteLine($"report: {Path.GetRelativePath(Environment.CurrentDirectory, index)}, with migrations.csv, requests.csv and figures/");
    }

    /// <summary>What to say when the hosts did not use the congestion control that the scenario prefers; null when they did.</summary>
    private static string? FellBack(MigrationScenario scenario, RestoreRun run) =>
        scenario.CongestionControl is not [var first, ..] || run.CongestionControl == first ? null
        : $"congestionControl: the scenario prefers {first}, and the hosts used {run.CongestionControl}; compare these numbers with others under {run.CongestionControl} only. "
            + $"Namespaces of this machine may use: {MigrationNeeds.AllowedCongestionControls} ({MigrationNeeds.AllowCongestionControl(first)})";

    private static RestoreRun RunOnce(
        MigrationScenario scenario, WorkloadFile workload, CriuPrograms programs,
        Func<MigrationScenario, CancellationToken, (MigrationHost, MigrationHost)> hosts, string pair, int round, Progress progress, CancellationToken cancel)
    {
        (MigrationHost, MigrationHost) pairOfHosts = hosts(scenario, cancel);
        string directory = Directory.CreateTempSubdirectory("testbed-migrate-").FullName;
        bool failed = true;
        try
        {
            RestoreRun result;
            using (var run = new MigrationRun(scenario, workload, programs, pairOfHosts, directory, cancel))
                result = run.Run(pair, round) with { CongestionControl = pairOfHosts.Item1.CongestionControl };
            failed = false;
            return result;
        }
        catch (Exception e) when (cancel.IsCancellationRequested)
        {
            // A step that was cut off may fail in its own words.
            progress.Say($"interrupted; {pair}, round {round + 1}: both hosts and what ran there are ended, nothing of it is kept");
            failed = false;
            throw e as OperationCanceledException ?? new OperationCanceledException(e.Message, e, cancel);
        }
        finally
        {
            // Kept when the run failed: its logs say why. A host reached by ssh may be this machine.
            if (!failed && Directory.Exists(directory))
                Directory.Delete(directory, recursive: true);
        }
    }
}
