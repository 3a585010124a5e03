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
    public void A_replay_takes_at_most_16_bytes_a_touch()
    {
        var output = new StringWriter();
        Speed.Linear(100_000, output);
        double[] bytes = [.. output.ToString().Split('\n', StringSplitOptions.RemoveEmptyEntries)[1..]
            .Select(line => double.Parse(line.Split(' ')[^1], System.Globalization.CultureInfo.InvariantCulture))];
        Assert.That(bytes, Has.Length.EqualTo(6).And.All.AtMost(16.0));
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
