using BenchmarkDotNet.Attributes;
using BenchmarkDotNet.Columns;
using BenchmarkDotNet.Configs;
using BenchmarkDotNet.Jobs;
using Perfolizer.Horology;
using Testbed.Core;
using Testbed.Policies;
using Testbed.Replay;

namespace Benchmarks;

/// <summary>How many touches a second a replay does on one core, for every policy: the column Op/s.</summary>
[Config(typeof(Brief))]
[MemoryDiagnoser]
public class ReplayBenchmark
{
    private const int Touches = 150_000;
    private ReplayWorkload _workload = null!;
    private ReplayOptions _options = null!;

    /// <summary>Every policy of the catalog.</summary>
    [ParamsSource(nameof(Policies))]
    public string Policy { get; set; } = "demand";

    /// <summary>Threads of the workload.</summary>
    [Params(1, 4)]
    public int Threads { get; set; }

    /// <summary>Random order, or that of addresses.</summary>
    [Params(true, false)]
    public bool Random { get; set; }

    /// <summary>The catalog.</summary>
    public static IEnumerable<string> Policies => PolicyCatalog.Names;

    /// <summary>Makes the workload.</summary>
    [GlobalSetup]
    public void Setup()
    {
        _workload = SyntheticWorkload.Make(Touches, Threads, Random);
        _options = OptionsFor(Policy);
    }

    /// <summary>One whole replay; the time shown is that of one touch.</summary>
    [Benchmark(OperationsPerInvoke = Touches)]
    public RunResult Replay() => Simulation.Run(_workload, _options);

    /// <summary>A replay takes some milliseconds and little of it is chance: two seconds for each of the many cases are enough. Each has a process
    /// of its own, for code is compiled with what was learnt from the cases that ran first.</summary>
    private sealed class Brief : ManualConfig
    {
        public Brief() => AddColumn(StatisticColumn.OperationsPerSecond).AddJob(Job.Default
            .WithIterationTime(TimeInterval.FromMilliseconds(100))
            .WithWarmupCount(10)
            .WithIterationCount(8));
    }

    /// <summary>A policy as it is without options.</summary>
    public static ReplayOptions OptionsFor(string policy) =>
        new(PolicyCatalog.Parse(policy), SyntheticWorkload.Link, "1Gbit/s,1ms") { Costs = SyntheticWorkload.Costs };
}
