using Benchmarks.Daemon;
using NUnit.Framework;
using Testbed.Policies;
using Testbed.Replay;

namespace Benchmarks;

/// <summary>Every benchmark runs, in small.</summary>
[TestFixture]
[System.Runtime.Versioning.SupportedOSPlatform("linux")]
public sealed class SmokeTests
{
    [Test]
    public void Speed_runs_and_gives_the_same_results_each_time()
    {
        ulong first = Speed.Run(2000, 1, TextWriter.Null);
        Assert.That(Speed.Run(2000, 2, TestContext.Out), Is.EqualTo(first));
    }

    [Test]
    public void A_replay_takes_at_most_16_bytes_a_touch()
    {
        var output = new StringWriter();
        Speed.Linear(100_000, output);
        double[] bytes = [.. output.ToString().Split('\n', StringSplitOptions.RemoveEmptyEntries)[1..]
            .Select(line => double.Parse(line.Split(' ')[^1], System.Globalization.CultureInfo.InvariantCulture))];
        Assert.That(bytes, Has.Length.EqualTo(6).And.All.AtMost(16.0));
    }

    [TestCaseSource(typeof(PolicyCatalog), nameof(PolicyCatalog.Names))]
    public void A_policy_takes_no_more_either(string policy)
    {
        ReplayWorkload workload = SyntheticWorkload.Make(300_000, 1, random: true);
        long bytes = GC.GetAllocatedBytesForCurrentThread();
        _ = Simulation.Run(workload, ReplayBenchmark.OptionsFor(policy));
        Assert.That((GC.GetAllocatedBytesForCurrentThread() - bytes) / (double)workload.Touches, Is.AtMost(16.0));
    }

    [Test]
    public void Our_page_server_is_measured()
    {
        using var output = new StringWriter();
        ServerSpeed.Run(1024, 1, "ours", output);
        Assert.That(output.ToString(), Does.Contain("ours median"));
    }

    /// <summary>Real daemons and real faults, in small; every page is looked at by the process that got it.</summary>
    [TestCase("fault")]
    [TestCase("busy")]
    [TestCase("bulk")]
    [TestCase("link")]
    [TestCase("size")]
    [TestCase("idle")]
    public void Our_daemon_is_measured(string name)
    {
        string? missing = Environment.UserName != "root" ? "root is needed for userfaultfd" : !File.Exists("/usr/bin/gcc") ? "gcc is not installed" : null;
        if (missing is not null && Environment.GetEnvironmentVariable("CI") == "true")
            Assert.Fail($"CI cannot run this test: {missing}");
        if (missing is not null)
            Assert.Ignore($"SKIPPED: {missing}");
        using var output = new StringWriter();
        DaemonBenchmark.Run(name, 1, output, scale: 64);
        TestContext.Out.Write(output);
        Assert.That(output.ToString(), Does.Match("ours.* median"));
    }

    [Test]
    public void The_parts_of_a_fault_set_up_and_run()
    {
        var parts = new PartsBenchmark();
        parts.Setup();
        foreach (Action part in (Action[])[parts.Fault, () => parts.LookUp(), () => parts.Scan(), () => parts.Message(), parts.Lane, parts.Install, parts.InstallPart])
        {
            parts.Restart();
            part();
        }
        parts.Restart();
        Assert.That((parts.LookUp(), parts.Scan()), Is.EqualTo((65_536, 65_536)));
        parts.Cleanup();
    }

    [Test]
    public void The_benchmark_sets_up_and_runs()
    {
        foreach (string policy in PolicyCatalog.Names)
        {
            var benchmark = new ReplayBenchmark { Policy = policy, Threads = 1, Random = false };
            benchmark.Setup();
            Assert.That(benchmark.Replay().Bytes, Is.GreaterThan(0));
        }
    }
}
