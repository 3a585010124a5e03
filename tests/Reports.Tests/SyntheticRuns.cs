using MathNet.Numerics.Distributions;
using MathNet.Numerics.Random;
using Testbed.Core;

namespace Testbed.Reports.Tests;

/// <summary>Results as a real run would give them in shape and size, from a seed. Not a model of any policy: only the
/// report is tested with them.</summary>
internal static class SyntheticRuns
{
    public const int Pages = 150_000;

    public static readonly string[] Policies = ["demand", "criu", "next-n:n=16", "bubbling", "working-set"];
    public static readonly string[] Links = ["10Gbit/s,50us", "1Gbit/s,1ms", "100Mbit/s,20ms"];

    public static readonly MemoryImage Image = MakeImage();

    public static readonly ReportContext Context = new(
        "Redis under five policies", "./testbed compare scenarios/redis.json --seed 7", "0123abc", "0.1.0", 7, "scenarios/redis.json",
        [new TraceProvenance("redis", "traces/redis.trace", "sha256:4af1", Image)], "6.18.0", "Example CPU, 2 CPUs",
        "local page 9.1 us, install 2.4 us, wake 3.0 us", new DateTimeOffset(2026, 11, 23, 20, 0, 0, TimeSpan.Zero));

    /// <summary>Every policy over every link.</summary>
    public static List<RunResult> All(RunMode mode, int faults = 100_000, int seed = 1) =>
        [.. from link in Enumerable.Range(0, Links.Length) from policy in Enumerable.Range(0, Policies.Length) select One(policy, link, mode, faults, seed)];

    public static RunResult One(int policy, int link, RunMode mode, int faults, int seed)
    {
        var random = new Xoshiro256StarStar((seed * 1000) + (policy * 10) + link + (mode == RunMode.Live ? 500 : 0), false);
        double roundTrip = new[] { 110e3, 2.06e6, 40.4e6 }[link], perPage = new[] { 3.3e3, 33e3, 330e3 }[link];
        double left = new[] { 1.0, 0.55, 0.2, 0.3, 0.03 }[policy];
        var latency = new LogNormal(Math.Log(roundTrip * new[] { 1, 1.7, 1.2, 1.4, 0.9 }[policy]), 0.35, random);
        int waiting = Math.Max(1, (int)(faults * left));
        Duration[] latencies = [.. Enumerable.Range(0, waiting).Select(_ => new Duration((long)Math.Clamp(latency.Sample(), 60e3, 80e6)))];
        long stall = latencies.Sum(l => l.Nanoseconds);
        double end = policy == 0 ? stall * 1.05 : Math.Max(Pages * perPage, stall / 4.0);
        long moved = policy == 0 ? faults : Pages;
        long prefetched = policy is 0 or 1 ? 0 : (long)(faults * (1 - left));
        return new RunResult
        {
            Workload = "redis",
            Policy = Policies[policy],
            Link = Links[link],
            Mode = mode,
            Latencies = latencies,
            ResolvedAt = [.. Enumerable.Range(1, latencies.Length).Select(i => new Instant((long)(end * i / latencies.Length)))],
            DemandFaults = waiting - (waiting / 20),
            LateFaults = waiting / 20,
            ZeroFaults = faults / 50,
            TotalStall = new Duration(stall),
            TimeToFirstResponse = new Duration((long)(roundTrip * 4 * (1 + left))),
            WorkloadTime = new Duration((long)end),
            TotalPages = Pages,
            Residency = [.. Enumerable.Range(0, 2001).Select(i => (new Instant((long)(end * i / 2000)), (long)(moved * Math.Pow(i / 2000.0, policy == 0 ? 1 : 0.9))))],
            Installs = Installs(policy, end, left, random),
            Bytes = moved * PageNumber.Size,
            Prefetch = mode == RunMode.Live ? new PrefetchCounts(prefetched, 0, waiting / 20, 0) : new PrefetchCounts(prefetched, prefetched * 8 / 10, waiting / 20, prefetched / 10),
            CommandHash = 0x9E3779B97F4A7C15UL * (ulong)((policy * 7) + link + 1),
        };
    }

    /// <summary>The same run with all its times longer.</summary>
    public static RunResult Slower(RunResult r, double factor) => Changed(r, r.Policy, factor);

    /// <summary>The same run, of a policy of another name.</summary>
    public static RunResult Renamed(RunResult r, string policy) => Changed(r, policy, 1);

    /// <summary>The same run, with a bound.</summary>
    public static RunResult Bounded(RunResult r, LinkBound bound) => Changed(r, r.Policy, 1, bound);

    /// <summary>The same run, with names from a hostile scenario.</summary>
    public static RunResult Named(RunResult r, string workload, string link, string policy) => Changed(r, policy, 1, null, workload, link);

    private static RunResult Changed(RunResult r, string policy, double factor, LinkBound? bound = null, string? workload = null, string? link = null)
    {
        Duration Slow(Duration d) => new((long)Math.Round(d.Nanoseconds * factor));
        return new RunResult
        {
            Workload = workload ?? r.Workload,
            Policy = policy,
            Link = link ?? r.Link,
            Mode = r.Mode,
            Bound = bound,
            Latencies = [.. r.Latencies.Select(Slow)],
            DemandFaults = r.DemandFaults,
            LateFaults = r.LateFaults,
            ZeroFaults = r.ZeroFaults,
            TotalStall = Slow(r.TotalStall),
            TimeToFirstResponse = r.TimeToFirstResponse is { } first ? Slow(first) : null,
            WorkloadTime = Slow(r.WorkloadTime),
            TotalPages = r.TotalPages,
            Residency = r.Residency,
            Installs = r.Installs,
            Bytes = r.Bytes,
            Prefetch = r.Prefetch,
            CommandHash = r.CommandHash,
        };
    }

    private static List<InstallRecord> Installs(int policy, double end, double left, Xoshiro256StarStar random)
    {
        var installs = new List<InstallRecord>();
        const int Records = 12_000;
        long background = 0;
        for (int i = 0; i < Records; i++)
        {
            var time = new Instant((long)(end * i / Records));
            if (random.NextDouble() < left * 0.6)
                installs.Add(new InstallRecord(time, 0, PageRange.Single(PageAt((long)(Pages * Math.Pow(random.NextDouble(), 2)))), random.Next(20) == 0 ? Cause.Zero : Cause.Demand));
            else if (policy >= 2 && random.Next(3) > 0)
                installs.Add(new InstallRecord(time, 0, new PageRange(PageAt(((i * 37L) + random.Next(4000)) % (Pages - 16)), 16), Cause.Prefetch));
            else if (policy > 0)
                installs.Add(new InstallRecord(time, 0, new PageRange(PageAt(background = (background + 25) % (Pages - 25)), 25), Cause.Background));
        }
        return installs;
    }

    private static PageNumber PageAt(long n)
    {
        foreach (MemoryArea area in Image.Areas)
        {
            if (n < area.Range.Count)
                return area.Range.Start + n;
            n -= area.Range.Count;
        }
        throw new ArgumentOutOfRangeException(nameof(n));
    }

    private static MemoryImage MakeImage()
    {
        MemoryArea[] areas =
        [
            new(new PageRange(PageNumber.Of(0x5581_0000_0000), 60), "/usr/bin/redis-server", 3),
            new(new PageRange(PageNumber.Of(0x5581_4000_0000), 40_000), "[heap]", 3),
            new(new PageRange(PageNumber.Of(0x7f10_0000_0000), 98_000), "", 3),
            new(new PageRange(PageNumber.Of(0x7f20_0000_0000), 11_900), "", 3),
            new(new PageRange(PageNumber.Of(0x7ffc_0000_0000), 40), "[stack]", 3),
        ];
        return new MemoryImage(areas, [.. areas.Select(a => a.Range)]);
    }
}
