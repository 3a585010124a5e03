using CsCheck;
using NUnit.Framework;
using Testbed.Core;
using Testbed.Policies;
using Testbed.Replay;

namespace Replay.Tests;

/// <summary>Small random worlds, in which the simulation and the reference must agree on every number.</summary>
[TestFixture]
public sealed class ReferenceTests
{
    [Test]
    public void Demand_agrees() => Agree("demand", Worlds.Small, Worlds.Transfer, 2500, _ => new HandWritten(0, false));

    [TestCase(1)]
    [TestCase(5)]
    public void Next_n_agrees(int n) => Agree($"next-n:n={n},background=false", Worlds.Small, Worlds.Transfer, 2500, _ => new HandWritten(n, false));

    [Test]
    public void Next_n_with_background_agrees() => Agree("next-n:n=3", Worlds.Small, Worlds.Transfer, 2500, _ => new HandWritten(3, true));

    /// <summary>Every policy, asked by the reference as often as there is time and room, must say what the service heard.</summary>
    [TestCaseSource(typeof(PolicyCatalog), nameof(PolicyCatalog.Names))]
    [TestCase("leap + bubbling")]
    [TestCase("working-set:order=sorted then hot-first:region=8")]
    [TestCase("markov limit 3 then next-n:n=4 + bubbling:chunk=2")]
    public void Every_policy_agrees(string policy)
    {
        PolicySpec spec = PolicyCatalog.Parse(policy);
        Agree(policy, Worlds.Larger, spec.About.CriuTransfer ? Worlds.CriuTransfer : Worlds.Transfer, 1000, workload =>
        {
            var map = new PageMap(workload.Image);
            return new Wrapped(spec.Create(new PolicyEnvironment(map, workload.Recording, 1)), map);
        });
    }

    private static void Agree(
        string policy, Gen<ReplayWorkload> workloads, Gen<TransferOptions> transfers, int cases, Func<ReplayWorkload, IChooser> choose)
    {
        int ambiguous = 0, counted = 0;
        PolicySpec spec = PolicyCatalog.Parse(policy);
        Gen.Select(workloads, Worlds.Link, Worlds.Costs, transfers).Sample((workload, link, costs, transfer) =>
        {
            var options = new ReplayOptions(spec, link, "any") { Costs = costs, Transfer = transfer };
            var reference = new Reference(workload, options, choose(workload));
            reference.Run();
            if (reference.IsAmbiguous)
            {
                Interlocked.Increment(ref ambiguous);
                return;
            }
            Interlocked.Increment(ref counted);
            Compare(Simulation.Run(workload, options), reference, workload.Image);
        }, iter: cases);
        Assert.That(counted, Is.GreaterThan(cases * 4 / 10).And.GreaterThan(ambiguous), "most cases must count");
    }

    private static void Compare(RunResult result, Reference reference, MemoryImage image)
    {
        var map = new PageMap(image);
        Same(result.DemandFaults, reference.Demand, "demand faults");
        Same(result.LateFaults, reference.Late, "late faults");
        Same(result.ZeroFaults, reference.Zero, "zero faults");
        Same(result.TotalStall.Nanoseconds, reference.Stall, "stall");
        Same(result.Waiting!.Value.Nanoseconds, reference.Waiting, "waiting");
        Same(result.WorkloadTime.Nanoseconds, reference.End, "workload time");
        Same(result.TimeToFirstResponse!.Value.Nanoseconds, reference.FirstResponse + 5, "first response");
        Same(result.Bytes, reference.Requested * 4096, "bytes");
        Same(result.Prefetch, reference.Prefetch, "prefetch");
        Same(string.Join(' ', result.Latencies.Select(l => l.Nanoseconds).Order()), string.Join(' ', reference.Latencies.Order()), "latencies");
        Same(
            string.Join(' ', result.Installs.Select(i => (i.Time.Nanoseconds, Index(map, i.Range), (int)i.Range.Count, i.Cause))),
            string.Join(' ', reference.Installs), "installs");
        Same(result.Residency[^1].Pages, reference.Installs.Sum(i => (long)i.Count), "residency");
    }

    private static int Index(PageMap map, PageRange range) => map.TryIndex(range.Start, out long index) ? (int)index : -1;

    private static void Same<T>(T simulated, T reference, string what)
    {
        if (!EqualityComparer<T>.Default.Equals(simulated, reference))
            throw new InvalidOperationException($"{what}: simulated {simulated}, reference {reference}");
    }
}
