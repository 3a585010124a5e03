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
    private static readonly Gen<Duration> GenCost = Gen.Long[0, 100_003].Select(ns => new Duration(ns));

    private static readonly Gen<HostCosts> GenCosts =
        Gen.Select(GenCost, GenCost, GenCost, GenCost, Gen.Select(GenCost, GenCost, GenCost), Gen.Select(GenCost, GenCost, GenCost, GenCost, GenCost)).Select((a, b, c, d, e, f) => new HostCosts
        {
            FaultDelivery = a,
            ThreadWake = b,
            RequestSend = c,
            // Zero would make requests ready while the link decides: no order.
            ServerPerRequest = d + new Duration(7),
            ServerPerPage = e.Item1,
            InstallPerCall = e.Item2,
            InstallPerPage = e.Item3,
            HostDelay = f.Item1,
            ShaperDelay = f.Item2,
            ReceivePerCall = f.Item3,
            ReceivePerPage = f.Item4,
            InstallWake = f.Item5,
        });

    private static readonly Gen<LinkParameters> GenLink = Gen.Select(Gen.Int[0, 4], Gen.Long[1, 3_000_017]).Select((rate, delay) =>
        new LinkParameters(rate == 0 ? ByteRate.Unlimited : ByteRate.FromBitsPerSecond(rate * 3.7e8), new Duration(delay)));

    private static readonly Gen<TransferOptions> GenTransfer = Gen.Select(Gen.Int[1, 3], Gen.Int[1, 12], Gen.Int[1, 9]).Select((lanes, flight, request) =>
        new TransferOptions { Lanes = lanes, MaxInFlight = flight * 4096, MaxRequest = request * 4096 });

    private static readonly Gen<TransferOptions> GenCriuTransfer = GenTransfer.Select(t => t with { Lanes = 1, ExclusiveBackground = true });

    private static readonly Gen<ReplayWorkload> GenSmall = GenWorkload(pages: 12, touches: 15);

    /// <summary>Large enough for policies that learn.</summary>
    private static readonly Gen<ReplayWorkload> GenLarger = GenWorkload(pages: 60, touches: 60);

    private static Gen<ReplayWorkload> GenWorkload(int pages, int touches) =>
        GenImage(pages).SelectMany(image => GenThread(image, touches).Array[1, 3].Select(threads => new ReplayWorkload("small", image, threads)
        {
            FirstResponseTail = new Duration(5),
            Recording = [.. threads.SelectMany(t => t.Pages).Distinct().Select(i => new PageMap(image).PageAt(i))],
        }));

    private static Gen<MemoryImage> GenImage(int pages) =>
        Gen.Select(Gen.Int[0, 2], Gen.Int[1, pages]).Array[1, 3].SelectMany(areas => Gen.Bool.Array[areas.Sum(a => a.Item2)].Select(holes => Image(areas, holes)));

    private static Gen<TouchSequence> GenThread(MemoryImage image, int most) =>
        Gen.Select(Gen.OneOf(Scattered(image, most), Strided(image, most)), Gen.Int[0, most]).SelectMany((pages, first) =>
            Gen.Select(Gen.Long[0, 2_000_003].Array[pages.Length], Gen.Bool.Array[pages.Length]).Select((think, writes) =>
                new TouchSequence(pages, think, writes) { BeforeFirstResponse = Math.Min(first, pages.Length) }));

    private static Gen<uint[]> Scattered(MemoryImage image, int most) => Gen.UInt[0, (uint)image.TotalPages - 1].Array[0, most];

    private static Gen<uint[]> Strided(MemoryImage image, int most) =>
        Gen.Select(Gen.Int[0, (int)image.TotalPages - 1], Gen.Int[-3, 3], Gen.Int[0, most]).Select((from, step, count) => Enumerable.Range(0, count)
            .Select(i => (long)from + i * step).TakeWhile(page => page >= 0 && page < image.TotalPages).Select(page => (uint)page).ToArray());

    private static MemoryImage Image((int Gap, int Count)[] areas, bool[] holes)
    {
        var all = new List<MemoryArea>();
        var present = new List<PageRange>();
        ulong at = 100;
        foreach ((int gap, int count) in areas)
        {
            at += (ulong)gap;
            all.Add(new MemoryArea(new PageRange(new PageNumber(at), count), "", 3));
            for (int i = 0; i < count; i++, at++)
            {
                if (!holes[(int)all.Take(all.Count - 1).Sum(a => a.Range.Count) + i])
                    present.Add(PageRange.Single(new PageNumber(at)));
            }
        }
        return new MemoryImage(all, present);
    }

    [Test]
    public void Demand_agrees() => Agree("demand", GenSmall, GenTransfer, 2500, _ => new HandWritten(0, false));

    [TestCase(1)]
    [TestCase(5)]
    public void Next_n_agrees(int n) => Agree($"next-n:n={n},background=false", GenSmall, GenTransfer, 2500, _ => new HandWritten(n, false));

    [Test]
    public void Next_n_with_background_agrees() => Agree("next-n:n=3", GenSmall, GenTransfer, 2500, _ => new HandWritten(3, true));

    /// <summary>Every policy, asked by the reference as often as there is time and room, must say what the service heard.</summary>
    [TestCaseSource(typeof(PolicyCatalog), nameof(PolicyCatalog.Names))]
    public void Every_policy_agrees(string policy)
    {
        PolicySpec spec = PolicyCatalog.Parse(policy);
        Agree(policy, GenLarger, spec.About.CriuTransfer ? GenCriuTransfer : GenTransfer, 1000, workload =>
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
        Gen.Select(workloads, GenLink, GenCosts, transfers).Sample((workload, link, costs, transfer) =>
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
