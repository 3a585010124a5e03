using CsCheck;
using NUnit.Framework;
using Testbed.Core;
using Testbed.Policies;
using Testbed.Replay;
using Testbed.Traces;

namespace Replay.Tests;

/// <summary>No policy is below the bound, and a link that is fed rightly reaches it.</summary>
[TestFixture]
public sealed class LowerBoundTests
{
    private const long PageTime = 32_768, Trip = 1_000_000;
    private static readonly LinkParameters Link = new(ByteRate.FromBitsPerSecond(1e9), new Duration(Trip));
    private static readonly TransferOptions Wide = new() { MaxInFlight = 1 << 30 };

    [Test]
    public void With_a_pencil()
    {
        // Three pages and a hole. The link brings pages at 1,032,768, 1,065,536 and 1,098,304; the thread thinks 2 ms before the last.
        LinkBound bound = Of([Touches([0, 1, 90, 2], [0, 0, 0, 2_000_000])], new HostCosts { InstallPerCall = new Duration(500) });
        Assert.That(bound.WorkloadTime.Nanoseconds, Is.EqualTo(Trip + 2 * PageTime + 500 + 2_000_000));
        Assert.That(bound.Waiting.Nanoseconds, Is.EqualTo(Trip + 2 * PageTime + 500));
        Assert.That(bound.TimeToFirstResponse, Is.Null);
        Assert.That(bound.AllIn.Nanoseconds, Is.EqualTo(Trip + 80 * PageTime));
    }

    [Test]
    public void Two_threads_share_the_link()
    {
        // The thread with one page ends first, the other one behind all three.
        LinkBound bound = Of([Touches([0, 1], [0, 0]), Touches([2], [0])], new HostCosts());
        Assert.That(bound.WorkloadTime.Nanoseconds, Is.EqualTo(Trip + 3 * PageTime));
        Assert.That(bound.Waiting.Nanoseconds, Is.EqualTo(Trip + PageTime + Trip + 3 * PageTime));
    }

    [Test]
    public void The_page_with_the_longest_work_behind_it_comes_first()
    {
        LinkBound bound = Of([Touches([0, 1, 2], [0, 0, 0]), Touches([3, 4], [0, 10_000_000])], new HostCosts());
        Assert.That(bound.WorkloadTime.Nanoseconds, Is.EqualTo(Trip + PageTime + 10_000_000));
    }

    [Test]
    public void The_first_response_needs_only_what_it_touches()
    {
        var image = Image(80, 20);
        TouchSequence touches = Touches([0, 1, 2, 3], [0, 0, 0, 0]) with { BeforeFirstResponse = 2 };
        LinkBound bound = LowerBound.Of(new ReplayWorkload("pencil", image, [touches]) { FirstResponseTail = new Duration(77) }, Link, new HostCosts());
        Assert.That(bound.TimeToFirstResponse, Is.EqualTo(new Duration(Trip + 2 * PageTime + 77)));
    }

    /// <summary>One thread, a host that costs nothing, all its pages asked for in order at once: exactly the bound.</summary>
    [Test]
    public void One_thread_attains_it()
    {
        Gen.Select(Worlds.Larger, Worlds.Link).Sample((world, link) =>
        {
            ReplayWorkload alone = world with { Threads = [world.Threads[0] with { BeforeFirstResponse = 0 }] };
            alone = alone with { Recording = [.. alone.Threads[0].Pages.Distinct().Select(i => new PageMap(world.Image).PageAt(i))] };
            var options = new ReplayOptions(PolicyCatalog.Parse("oracle:background=false"), link, "any") { Transfer = Wide, Costs = new HostCosts() };
            RunResult result = Simulation.Run(alone, options);
            LinkBound bound = LowerBound.Of(alone, link, options.Costs);
            // The link rounds each reply up, the bound all of them down; no request is ready before 0.
            long rounding = alone.Threads[0].Pages.Length + 1;
            Near(result.WorkloadTime, bound.WorkloadTime, rounding, "workload");
            Near(result.Waiting!.Value, bound.Waiting, rounding, "waiting");
        }, iter: 3000);
    }

    private static void Near(Duration result, Duration bound, long rounding, string what)
    {
        if (result < bound || result.Nanoseconds - bound.Nanoseconds > rounding)
            throw new InvalidOperationException($"{what}: {result.Nanoseconds} ns, bound {bound.Nanoseconds} ns");
    }

    /// <summary>Several threads, every order of pages tried on an ideal link: the best end is the bound, the best sum not below it.</summary>
    [Test]
    public void Several_threads_attain_the_end_of_the_work()
    {
        Gen.Select(Gen.Select(Gen.Int[0, 4], Gen.Long[0, 100_000]).Array[0, 4].Array[1, 3], Gen.Long[1, 50_000]).Sample((threads, trip) =>
        {
            var link = Link with { RoundTrip = new Duration(trip) };
            TouchSequence[] sequences = [.. threads.Select(t => Touches([.. t.Select(x => (uint)x.Item1)], [.. t.Select(x => x.Item2)]))];
            LinkBound bound = LowerBound.Of(new ReplayWorkload("few", Image(5, 0), sequences), link, new HostCosts());
            (long end, long waiting) = (long.MaxValue, long.MaxValue);
            foreach (int[] order in Orders([0, 1, 2, 3, 4]))
            {
                long[] ends = [.. threads.Select(t => t.Aggregate(0L, (now, x) => Math.Max(now + x.Item2, trip + (Array.IndexOf(order, x.Item1) + 1) * PageTime)))];
                end = Math.Min(end, ends.Max());
                waiting = Math.Min(waiting, ends.Sum() - threads.Sum(t => t.Sum(x => x.Item2)));
            }
            if (end != bound.WorkloadTime.Nanoseconds || waiting < bound.Waiting.Nanoseconds)
                throw new InvalidOperationException($"end {end}, bound {bound.WorkloadTime.Nanoseconds}; waiting {waiting}, bound {bound.Waiting.Nanoseconds}");
        }, iter: 3000);
    }

    private static IEnumerable<int[]> Orders(int[] of) => of.Length == 0 ? [[]]
        : of.SelectMany(first => Orders([.. of.Where(x => x != first)]).Select(rest => (int[])[first, .. rest]));

    [TestCaseSource(typeof(PolicyCatalog), nameof(PolicyCatalog.Names))]
    public void No_policy_is_below_it_in_random_worlds(string policy)
    {
        PolicySpec spec = PolicyCatalog.Parse(policy);
        Gen<TransferOptions> transfers = spec.About.CriuTransfer ? Worlds.CriuTransfer : Gen.OneOf(Worlds.Transfer, Gen.Const(Wide));
        Gen.Select(Worlds.Larger, Worlds.Link, Gen.OneOf(Worlds.Costs, Gen.Const(new HostCosts())), transfers).Sample((world, link, costs, transfer) =>
            NotBelow(Simulation.Run(world, new ReplayOptions(spec, link, "any") { Costs = costs, Transfer = transfer }), LowerBound.Of(world, link, costs)),
            iter: 1000);
    }

    /// <summary>With the recordings that policies have by default: of the trace itself, which is the most that they can know.</summary>
    [Test]
    public void No_policy_is_below_it_on_a_shipped_trace([ValueSource(nameof(Traces))] string trace)
    {
        ReplayWorkload workload = TraceWorkload.From(Trace.Load(Path.Combine(TraceDirectory, trace)));
        foreach (double rate in new[] { 0, 10e9, 1e9, 1e8 })
        {
            var link = new LinkParameters(rate == 0 ? ByteRate.Unlimited : ByteRate.FromBitsPerSecond(rate), rate == 0 ? Duration.Zero : Duration.FromMilliseconds(1e9 / rate));
            LinkBound bound = LowerBound.Of(workload, link, HostCosts.Reference);
            Parallel.ForEach(PolicyCatalog.Names, policy =>
                NotBelow(Simulation.Run(workload, new ReplayOptions(PolicyCatalog.Parse(policy), link, $"{rate}") { Costs = HostCosts.Reference }), bound));
        }
    }

    private static string TraceDirectory
    {
        get
        {
            DirectoryInfo at = new(AppContext.BaseDirectory);
            while (!File.Exists(Path.Combine(at.FullName, "Testbed.sln")))
                at = at.Parent!;
            return Path.Combine(at.FullName, "traces");
        }
    }

    private static IEnumerable<string> Traces() => Directory.GetFiles(TraceDirectory, "*.trace").Select(f => Path.GetFileName(f)!).Order();

    private static void NotBelow(RunResult result, LinkBound bound)
    {
        Check(result.WorkloadTime, bound.WorkloadTime, "workload");
        Check(result.Waiting!.Value, bound.Waiting, "waiting");
        if (result.TimeToFirstResponse is { } response)
            Check(response, bound.TimeToFirstResponse!.Value, "first response");
        if (result.TimeToResidency(1) is { } all)
            Check(all - Instant.Zero, bound.AllIn, "all in");

        void Check(Duration value, Duration least, string what)
        {
            if (value < least)
                throw new InvalidOperationException($"{result.Policy} over {result.Link}: {what} {value.Nanoseconds} ns, bound {least.Nanoseconds} ns");
        }
    }

    private static LinkBound Of(TouchSequence[] threads, HostCosts costs) =>
        LowerBound.Of(new ReplayWorkload("pencil", Image(80, 20), threads), Link, costs);

    private static MemoryImage Image(long pages, long holes) => new(
        [new MemoryArea(new PageRange(new PageNumber(16), pages + holes), "", 3)], [new PageRange(new PageNumber(16), pages)]);

    private static TouchSequence Touches(uint[] pages, long[] think) => new(pages, think, new bool[pages.Length]);
}
