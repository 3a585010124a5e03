using NUnit.Framework;
using Testbed.Policies;

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
    public void Our_page_server_is_measured()
    {
        using var output = new StringWriter();
        ServerSpeed.Run(1024, 1, "ours", output);
        Assert.That(output.ToString(), Does.Contain("ours median"));
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
