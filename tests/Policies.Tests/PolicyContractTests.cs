using NUnit.Framework;
using Testbed.Core;
using Testbed.Policies;

namespace Policies.Tests;

/// <summary>What every policy of the catalog must do, under its own transfer configuration and under tight ones.</summary>
[TestFixtureSource(nameof(All))]
public sealed class PolicyContractTests(string policy, string transferName)
{
    private readonly TransferOptions _transfer = transferName switch
    {
        "own" => PolicyCatalog.Parse(policy).DefaultTransfer,
        "criu" => TransferOptions.Criu,
        "one page" => new TransferOptions { Lanes = 1, MaxInFlight = 4096, MaxRequest = 4096 },
        _ => new TransferOptions { Lanes = 2, MaxInFlight = 7 * 4096, MaxRequest = 3 * 4096 },
    };

    public static IEnumerable<TestFixtureData> All() =>
        from name in PolicyCatalog.Names.Concat(Combinations)
        from transfer in new[] { "own", "criu", "one page", "odd" }
        select new TestFixtureData(name, transfer);

    /// <summary>One of each kind, and all in one.</summary>
    private static readonly string[] Combinations =
        ["leap + hot-first", "working-set then bubbling", "markov then next-n:n=4 limit 2", "adaptive limit 1 + qemu", "faasnap then leap limit 4 + criu", "criu then leap"];

    private bool HasBackground => policy != "demand";

    [Test]
    public void Ends_stays_in_bounds_and_moves_everything_when_it_has_a_background([Range(0, 19)] int seed)
    {
        PolicyBench bench = Run(seed, cuts: false);
        bench.Settle();
        Assert.That(bench.Service.PendingFaults, Is.Zero);
        if (HasBackground)
            Assert.That(bench.Service.IsComplete);
    }

    [Test]
    public void Moves_everything_though_lanes_are_cut([Range(0, 9)] int seed)
    {
        PolicyBench bench = Run(seed, cuts: true);
        bench.Settle();
        Assert.That(bench.Service.PendingFaults, Is.Zero);
        if (HasBackground)
            Assert.That(bench.Service.IsComplete);
    }

    [Test]
    public void Drains_when_told() =>
        Assert.That(Drained().Service.IsComplete);

    [Test]
    public void Does_the_same_again([Range(0, 4)] int seed)
    {
        ulong first = Run(seed, cuts: true).Service.CommandHash;
        Assert.That(Run(seed, cuts: true).Service.CommandHash, Is.EqualTo(first));
    }

    [Test]
    public void Allocates_nothing_in_steady_state()
    {
        MemoryImage image = Images.Of([(16, 60_000), (70_000, 5000)], [(16, 60_000), (70_000, 5000)]);
        var random = new Random(1);
        PageNumber[] recording = [.. Enumerable.Range(0, 3000).Select(_ => new PageNumber((ulong)random.Next(16, 60_016)))];
        var bench = new PolicyBench(policy, image, _transfer, recording) { Log = null };
        Touch(bench, random, 1000);
        long before = GC.GetAllocatedBytesForCurrentThread();
        Touch(bench, random, 2000);
        Assert.That(GC.GetAllocatedBytesForCurrentThread() - before, Is.Zero, $"{policy}, {transferName}");
    }

    private static void Touch(PolicyBench bench, Random random, int touches)
    {
        for (int i = 0; i < touches; i++)
        {
            bench.Fault(i % 50 == 0 ? (ulong)random.Next(70_000, 75_000) : (ulong)random.Next(16, 60_016), random.Next(4));
            bench.Idle();
            bench.Arrive();
            bench.Idle();
            while (bench.OnTheWire > 20)
                bench.Arrive();
        }
    }

    private PolicyBench Drained()
    {
        PolicyBench bench = Run(3, cuts: false);
        bench.Service.Handle(new ServiceEvent(ServiceEventKind.Drain, new Instant(1 << 30), 0, default));
        bench.Settle();
        return bench;
    }

    private PolicyBench Run(int seed, bool cuts)
    {
        var random = new Random(seed);
        MemoryImage image = Images.Any(random, random.Next(1, 8), random.Next(2, 300));
        List<PageNumber> pages = [.. image.Areas.SelectMany(a => Enumerable.Range(0, (int)a.Range.Count).Select(i => a.Range.Start + i))];
        PageNumber[] recording = [.. Enumerable.Range(0, random.Next(200)).Select(_ => pages[random.Next(pages.Count)])];
        var bench = new PolicyBench(policy, image, _transfer, recording);
        for (int i = 0; i < 300; i++)
        {
            int what = random.Next(cuts ? 100 : 98);
            if (what < 30)
                bench.Fault(pages[random.Next(pages.Count)].Value, random.Next(4));
            else if (what < 65)
                bench.Arrive();
            else if (what < 98)
                bench.Idle();
            else
                bench.CutAll();
        }
        return bench;
    }
}
