using System.IO.Hashing;
using System.Text;
using Testbed.Core;
using Testbed.Policies;
using Testbed.Replay;
using Testbed.Reports;
using Testbed.Scenarios;
using Testbed.Traces;

namespace Testbed.Cli;

/// <summary>
/// Many replays: every policy of some scenarios, with every value that its options list (<c>next-n:n=4|16|64</c>), over every link and
/// with every seed. What is done stands in a journal beside the results as soon as it is done, under a key of everything that it
/// depends on; a sweep that was killed, or whose scenario changed, runs what is missing.
/// </summary>
internal sealed class Sweep(string directory, Progress progress, CancellationToken cancel)
{
    private readonly object _gate = new();

    /// <summary>Of each policy from outside, the hash of its file.</summary>
    private readonly Dictionary<string, string> _outside = [];

    private sealed record Cell(string Key, int Scenario, PolicySpec Policy, LinkSpec Link, ulong Seed);

    private sealed record Input(
        Scenario Scenario, ReplayWorkload Workload, IReadOnlyList<PageNumber>? Recording, HostCosts Costs, string Identity, Dictionary<string, LinkBound> Bounds);

    /// <summary>Runs it; the files are <c>sweep.csv</c>, <c>sweep.parquet</c> and the journal <c>sweep.journal</c>.</summary>
    /// <param name="files">Scenarios.</param>
    /// <param name="policyFiles">Policies from outside, which join each scenario's.</param>
    /// <param name="seeds">How many seeds, from each scenario's on.</param>
    /// <param name="calibration">A calibration file; null: the scenario's.</param>
    /// <returns>How many replays there are, and how many of them had to be run.</returns>
    /// <exception cref="BadInputException">A scenario has no trace, or a policy is unknown.</exception>
    /// <exception cref="OperationCanceledException">Interrupted; what was done is kept.</exception>
    public (int All, int Run) Run(IReadOnlyList<string> files, IReadOnlyList<string> policyFiles, int seeds, string? calibration)
    {
        Input[] inputs = [.. files.Select(f => Load(f, policyFiles, calibration))];
        Cell[] cells = [.. inputs.SelectMany((input, i) => CellsOf(input, i, seeds))];
        Directory.CreateDirectory(directory);
        string journal = Path.Combine(directory, "sweep.journal");
        Dictionary<string, SweepRow> done = Read(journal);
        Cell[] missing = [.. cells.Where(c => !done.ContainsKey(c.Key))];
        if (missing.Length > 0)
            RunCells(inputs, missing, journal, done);
        cancel.ThrowIfCancellationRequested();
        Write(journal, [.. cells.Select(c => done[c.Key])]);
        return (cells.Length, missing.Length);
    }

    private Input Load(string file, IReadOnlyList<string> policyFiles, string? calibrationFile)
    {
        Scenario scenario = Scenario.FromFile(file);
        foreach (string outside in (IEnumerable<string>)[.. scenario.Resolve(scenario.PolicyFiles), .. policyFiles])
        {
            foreach (string name in PolicyFileOption.Load([outside]))
                _outside[name] = Experiment.HashOf(outside);
        }
        scenario = Experiment.WithPolicies(scenario, policyFiles);
        string path = Experiment.TraceOf(scenario);
        IReadOnlyList<string> recordings = scenario.Resolve(scenario.Recordings);
        ReplayWorkload workload = TraceWorkload.From(Trace.Load(path));
        HostCosts costs = Experiment.CalibrationFor(scenario, calibrationFile).ToCosts();
        // What a result depends on beside its policy, link and seed: trace, recordings, costs, transfer settings, and the code itself.
        IEnumerable<string> files = [path, .. recordings];
        string identity = string.Join('|', string.Join(' ', files.Select(Experiment.HashOf)), string.Join(' ', costs.LocalDelays.Nanoseconds), string.Join(' ', costs.ShapedDelays.Nanoseconds),
            costs, scenario.Transfer, Code(typeof(FaultService)), Code(typeof(PolicySpec)), Code(typeof(Simulation)), Code(typeof(Trace)), Code(typeof(SweepRow)));
        return new Input(scenario, workload, Options.LoadRecordings(recordings), costs, identity, Experiment.BoundsOf(workload, scenario, costs));
    }

    /// <summary>The compiler's name of an assembly's content.</summary>
    private static string Code(Type type) => type.Module.ModuleVersionId.ToString("N");

    private IEnumerable<Cell> CellsOf(Input input, int scenario, int seeds)
    {
        PolicySpec[] policies = [.. input.Scenario.Policies.Select(PolicyCatalog.Parse)];
        return
            from link in input.Scenario.Links
            from policy in policies
            from i in Enumerable.Range(0, seeds)
            let seed = input.Scenario.Seed + (ulong)i
            select new Cell(KeyOf(input.Identity, policy.Text, link, seed), scenario, policy, link, seed);
    }

    private string KeyOf(string identity, string policy, LinkSpec link, ulong seed)
    {
        string code = string.Join(' ', Experiment.PolicyNames(policy).Select(name => _outside.GetValueOrDefault(name)));
        return Convert.ToHexStringLower(XxHash128.Hash(Encoding.UTF8.GetBytes($"{identity}|{policy}|{code}|{link.Text}|{seed}")));
    }

    private void RunCells(Input[] inputs, Cell[] missing, string journal, Dictionary<string, SweepRow> done)
    {
        using var writer = new StreamWriter(journal, append: true) { AutoFlush = true };
        long before = done.Count;
        Parallel.ForEach(
            System.Collections.Concurrent.Partitioner.Create(missing, loadBalance: true),
            (cell, state) =>
            {
                if (cancel.IsCancellationRequested)
                {
                    state.Stop();
                    return;
                }
                Input input = inputs[cell.Scenario];
                RunResult result = Simulation.Run(input.Workload, Experiment.OptionsFor(
                    input.Scenario, cell.Policy, cell.Link, cell.Seed, input.Costs, input.Recording, input.Bounds));
                SweepRow row = SweepRow.Of(cell.Key, input.Scenario.Name, cell.Seed, result);
                lock (_gate)
                {
                    writer.WriteLine(row.ToLine());
                    done[cell.Key] = row;
                    progress.Show("sweep", done.Count - before, missing.Length, " replays");
                }
            });
    }

    /// <summary>What is whole in the journal: a kill may have cut its last line.</summary>
    private static Dictionary<string, SweepRow> Read(string journal)
    {
        var rows = new Dictionary<string, SweepRow>();
        if (!File.Exists(journal))
            return rows;
        string text = File.ReadAllText(journal);
        foreach (string line in text.Split('\n'))
        {
            if (SweepRow.FromLine(line) is { } row)
                rows[row.Key] = row;
        }
        // What is appended must begin a line of its own.
        if (text.Length > 0 && text[^1] != '\n')
            File.AppendAllText(journal, "\n");
        return rows;
    }

    /// <summary>Each file beside and renamed; the journal keeps what this sweep has.</summary>
    private void Write(string journal, IReadOnlyList<SweepRow> rows)
    {
        Replace(Path.Combine(directory, "sweep.csv"), stream => stream.Write(Encoding.UTF8.GetBytes(SweepTable.Csv(rows))));
        Replace(Path.Combine(directory, "sweep.parquet"), stream => SweepTable.WriteParquetAsync(rows, stream).GetAwaiter().GetResult());
        Replace(journal, stream => stream.Write(Encoding.UTF8.GetBytes(string.Concat(rows.Select(r => r.ToLine() + "\n")))));
    }

    private static void Replace(string file, Action<Stream> write)
    {
        string part = file + ".part";
        using (FileStream stream = File.Create(part))
            write(stream);
        File.Move(part, file, overwrite: true);
    }
}
