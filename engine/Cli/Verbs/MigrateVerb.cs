using System.CommandLine;
using System.Globalization;
using Testbed.Cli.Migration;
using Testbed.Core;
using Testbed.Reports;
using Testbed.Reports.Figures;
using Testbed.Scenarios;
using static System.FormattableString;

namespace Testbed.Cli.Verbs;

/// <summary>testbed migrate</summary>
internal static class MigrateVerb
{
    public static Command Create()
    {
        var file = new Argument<string>("SCENARIO") { Description = "a migration scenario file" };
        var rounds = new Option<int?>("--rounds") { Description = "how often each pair is run; default: as the scenario has it" };
        var pairs = new Option<string[]>("--pair") { Description = "only these pairs", AllowMultipleArgumentsPerToken = true };
        var source = new Option<string?>("--source") { Description = "USER@HOST, reached by ssh; default: namespaces of this machine" };
        var destination = new Option<string?>("--destination") { Description = "USER@HOST, reached by ssh; default: namespaces of this machine" };
        var criu = new Option<string>("--criu") { Description = "CRIU on hosts that are reached by ssh", DefaultValueFactory = _ => "criu" };
        var testbed = new Option<string>("--testbed") { Description = "this program on hosts that are reached by ssh", DefaultValueFactory = _ => "testbed" };
        var output = Options.Output("directory of the figure and the CSV files; default: reports/out/migrate-NAME");
        var command = new Command("migrate", """
            Migrate a real program lazily with CRIU between two hosts, under load, with CRIU's daemon and page server or ours; check all its
            data, and compare the pairs. The hosts are two sets of network, pid and mount namespaces on this machine with a veth pair between,
            or two machines that let root in by ssh. Needs root and CRIU (sh scenarios/setup/criu.sh).

            Examples:
              testbed migrate scenarios/migrations/redis.json
              testbed migrate scenarios/migrations/redis.json --source root@10.0.0.1 --destination root@10.0.0.2 --testbed /opt/testbed/testbed
            """)
        { file, rounds, pairs, source, destination, criu, testbed, output };
        command.SetAction(parsed =>
        {
            (string? from, string? to) = (parsed.GetValue(source), parsed.GetValue(destination));
            if (from is null != to is null)
                throw new BadInputException("--source without --destination, or the other way round; expected both, or none for namespaces");
            Func<(MigrationHost, MigrationHost)> hosts = from is null ? () => NamespaceHost.Pair() : () => (SshHost.Connect(from), SshHost.Connect(to!));
            CriuPrograms programs = from is null ? CriuPrograms.Find() : new CriuPrograms(parsed.GetRequiredValue(criu), parsed.GetRequiredValue(testbed).Split(' '));
            Migrate(parsed.GetRequiredValue(file), parsed.GetValue(rounds), parsed.GetValue(pairs) ?? [], parsed.GetValue(output), programs, hosts);
        });
        return command;
    }

    private static void Migrate(
        string file, int? rounds, string[] only, string? output, CriuPrograms programs, Func<(MigrationHost, MigrationHost)> hosts)
    {
        MigrationScenario scenario = MigrationScenario.FromFile(file);
        WorkloadFile workload = scenario.LoadWorkload();
        IReadOnlyList<string> pairs = only.Length > 0 ? only : scenario.Pairs;
        if (pairs.FirstOrDefault(p => !scenario.Pairs.Contains(p)) is { } unknown)
            throw new BadInputException($"--pair {unknown}: not in {file}; expected {string.Join(", ", scenario.Pairs)}");
        string target = output ?? Path.Combine("reports", "out", "migrate-" + scenario.Name);
        Directory.CreateDirectory(target);
        using var interrupt = new Interrupt();
        using var progress = new Progress();
        using IDisposable limits = CriuPrograms.LiftLimits();
        var results = new List<MigrationResult>();
        int count = rounds ?? scenario.Rounds;
        for (int round = 0; round < count; round++)
        {
            foreach (string pair in pairs)
            {
                interrupt.Token.ThrowIfCancellationRequested();
                progress.Line($"{pair}, round {round + 1} of {count}");
                results.Add(RunOnce(scenario, workload, programs, hosts(), pair, round));
                File.WriteAllText(Path.Combine(target, "migrations.csv"), MigrationReport.Csv(results));
            }
        }
        Console.WriteLine(MigrationReport.Table(results));
        MigrationReport.Write(target, scenario, results);
        Console.WriteLine($"All data equal after every migration. {target}: migrations.csv, requests.csv{(scenario.Requests > 0 ? ", restore-timeline.png .svg .pdf" : "")}");
    }

    private static MigrationResult RunOnce(
        MigrationScenario scenario, WorkloadFile workload, CriuPrograms programs, (MigrationHost, MigrationHost) hosts, string pair, int round)
    {
        string directory = Directory.CreateTempSubdirectory("testbed-migrate-").FullName;
        MigrationResult result;
        using (var run = new MigrationRun(scenario, workload, programs, hosts, directory))
            result = run.Run(pair, round);
        // Kept when the run failed: its logs say why. A host reached by ssh may be this machine.
        if (Directory.Exists(directory))
            Directory.Delete(directory, recursive: true);
        return result;
    }
}
