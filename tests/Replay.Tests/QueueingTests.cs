using NUnit.Framework;
using Testbed.Core;
using Testbed.Policies;
using Testbed.Replay;

namespace Replay.Tests;

/// <summary>
/// Queues with a closed form: one touch per thread is an open stream of arrivals, the link is the one server, and a page
/// on it a constant service of 32,768 ns (1 Gbit/s). The host costs nothing.
/// </summary>
[TestFixture]
public sealed class QueueingTests
{
    private const long Service = 32_768;

    /// <summary>D/D/1: the wait of the n-th arrival is n (service - interval), or nothing.</summary>
    [TestCase(Service / 2)]
    [TestCase(Service - 1)]
    [TestCase(Service)]
    [TestCase(Service * 2)]
    public void Deterministic_arrivals_wait_as_their_sum_says(long interval)
    {
        long[] latencies = Latencies([.. Enumerable.Range(0, 2000).Select(i => i * interval)]);
        Assert.That(latencies, Is.EqualTo(Enumerable.Range(0, 2000).Select(n => Service + n * Math.Max(0, Service - interval))));
    }

    /// <summary>k arrivals at once, again and again: the i-th of a batch waits i services.</summary>
    [Test]
    public void Batches_wait_for_those_before_them()
    {
        const int batch = 8;
        long[] latencies = Latencies([.. Enumerable.Range(0, 1600).Select(i => i / batch * (batch * Service + 5))]);
        Assert.That(latencies, Is.EqualTo(Enumerable.Range(0, 1600).Select(i => (i % batch + 1) * Service)));
    }

    /// <summary>
    /// M/D/1: the mean wait is rho / (2 (1 - rho)) services (Pollaczek and Khinchine), and an arrival finds the server idle
    /// with probability 1 - rho. Means over 10 seeds of 20,000 arrivals each, within 3 standard errors of theirs.
    /// </summary>
    [TestCase(0.2)]
    [TestCase(0.5)]
    [TestCase(0.7)]
    public void Poisson_arrivals_wait_as_Pollaczek_and_Khinchine_say(double rho)
    {
        double[] waits = new double[10], idle = new double[10];
        for (int seed = 0; seed < 10; seed++)
        {
            long[] latencies = Latencies(Poisson(seed, 20_000, Service / rho));
            waits[seed] = latencies.Average(l => (double)(l - Service) / Service);
            idle[seed] = latencies.Count(l => l == Service) / (double)latencies.Length;
        }
        Near(waits, rho / (2 * (1 - rho)));
        Near(idle, 1 - rho);
    }

    private static void Near(double[] samples, double expected)
    {
        double mean = samples.Average();
        double error = Math.Sqrt(samples.Sum(s => (s - mean) * (s - mean)) / (samples.Length - 1) / samples.Length);
        Assert.That(mean, Is.EqualTo(expected).Within(3 * error));
        Assert.That(error, Is.LessThan(0.03 * expected + 0.003), "or the check says little");
    }

    private static long[] Poisson(int seed, int count, double interval)
    {
        var random = new Random(seed);
        double at = 0;
        return [.. Enumerable.Range(0, count).Select(_ => (long)(at -= Math.Log(1 - random.NextDouble()) * interval))];
    }

    /// <summary>One thread and one page for each arrival; answered in order.</summary>
    private static long[] Latencies(long[] arrivals)
    {
        var image = new MemoryImage(
            [new MemoryArea(new PageRange(new PageNumber(16), arrivals.Length), "", 3)], [new PageRange(new PageNumber(16), arrivals.Length)]);
        TouchSequence[] threads = [.. arrivals.Select((at, i) => new TouchSequence([(uint)i], [at], [false]))];
        var link = new LinkParameters(ByteRate.FromBitsPerSecond(1e9), Duration.Zero);
        RunResult result = Simulation.Run(
            new ReplayWorkload("queue", image, threads), new ReplayOptions(PolicyCatalog.Parse("demand"), link, "link") { Costs = new HostCosts() });
        Assert.That(result.DemandFaults, Is.EqualTo(arrivals.Length));
        return [.. result.Latencies.Select(l => l.Nanoseconds)];
    }
}
