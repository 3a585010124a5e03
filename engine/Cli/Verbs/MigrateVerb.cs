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
        var output = Options.Output("directory of the figure and the CSV files; default: reports/out/migrate-NAME");
        var command = new Command("migrate", """
            Migrate a real program lazily with CRIU between two hosts (two sets of network, pid and mount namespaces with a veth pair
            between), under load, with CRIU's daemon and page server or ours; check all its data, and compare the pairs. Needs root and
            CRIU (sh scenarios/setup/criu.sh).

            Example:
              testbed migrate scenarios/migrations/redis.json
            """)
        { file, rounds, pairs, output };
        command.SetAction(parsed => Migrate(parsed.GetRequiredValue(file), parsed.GetValue(rounds), parsed.GetValue(pairs) ?? [], parsed.GetValue(output)));
        return command;
    }

    private static void Migrate(string file, int? rounds, string[] only, string? output)
    {
        MigrationScenario scenario = MigrationScenario.FromFile(file);
        WorkloadFile workload = scenario.LoadWorkload();
        CriuPrograms programs = CriuPrograms.Find();
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
                results.Add(RunOnce(scenario, workload, programs, pair, round));
                File.WriteAllText(Path.Combine(target, "migrations.csv"), MigrationReport.Csv(results));
            }
        }
        Console.WriteLine(MigrationReport.Table(results));
        MigrationReport.Write(target, scenario, results);
        Console.WriteLine($"All data equal after every migration. {target}: migrations.csv, requests.csv{(scenario.Requests > 0 ? ", restore-timeline.png .svg .pdf" : "")}");
    }

    private static MigrationResult RunOnce(MigrationScenario scenario, WorkloadFile workload, CriuPrograms programs, string pair, int round)
    {
        string directory = Directory.CreateTempSubdirectory("testbed-migrate-").FullName;
        MigrationResult result;
        using (var run = new MigrationRun(scenario, workload, programs, scenario.Tls ? CriuTls.Create(directory) : null, directory))
            result = run.Run(pair, round);
        // Kept when the run failed: its logs say why.
        Directory.Delete(directory, recursive: true);
        return result;
    }
}
