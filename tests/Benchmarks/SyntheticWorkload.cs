using Testbed.Core;
using Testbed.Replay;

namespace Benchmarks;

/// <summary>First touches of every page of a memory, once each, in random or in address order.</summary>
public static class SyntheticWorkload
{
    /// <summary>1 Gbit/s and 1 ms, and what a host like the ones we measured charges.</summary>
    public static readonly LinkParameters Link = new(ByteRate.FromBitsPerSecond(1e9), Duration.FromMilliseconds(1));

    /// <summary>Microseconds, in round numbers.</summary>
    public static readonly HostCosts Costs = new()
    {
        FaultDelivery = Duration.FromMicroseconds(5),
        ThreadWake = Duration.FromMicroseconds(4),
        RequestSend = Duration.FromMicroseconds(3),
        ServerPerRequest = Duration.FromMicroseconds(12),
        ServerPerPage = Duration.FromMicroseconds(0.4),
        InstallPerCall = Duration.FromMicroseconds(1.2),
        InstallPerPage = Duration.FromMicroseconds(0.6),
    };

    /// <summary>Threads share the touches; each thinks up to 40 us between them.</summary>
    /// <param name="touches">How many.</param>
    /// <param name="threads">By how many threads.</param>
    /// <param name="random">In random order, or in that of addresses.</param>
    /// <param name="recorded">Whether an earlier run is known, which takes more memory than the touches themselves.</param>
    public static ReplayWorkload Make(int touches, int threads, bool random, bool recorded = true)
    {
        var seeded = new Random(42);
        var order = new uint[touches];
        for (int i = 0; i < touches; i++)
            order[i] = (uint)i;
        if (random)
            seeded.Shuffle(order);
        TouchSequence[] sequences = [.. Enumerable.Range(0, threads).Select(t => Share(order, t, threads, seeded))];
        // Areas of 4 MiB to 64 MiB, as malloc's arenas and a heap are.
        var areas = new List<MemoryArea>();
        for (long at = 0; at < touches;)
        {
            long count = Math.Min(touches - at, seeded.Next(1024, 16384));
            areas.Add(new MemoryArea(new PageRange(new PageNumber((ulong)(0x10000 + at * 2)), count), "", 3));
            at += count;
        }
        var image = new MemoryImage(areas, [.. areas.Select(a => a.Range)]);
        var workload = new ReplayWorkload("synthetic", image, sequences);
        var map = new PageMap(image);
        return recorded ? workload with { Recording = [.. order.Select(i => map.PageAt(i))] } : workload;
    }

    /// <summary>A thread's touches: as many as each of the others has, and behind those of the thread before.</summary>
    private static TouchSequence Share(uint[] order, int thread, int threads, Random random)
    {
        int First(int t) => (int)((((long)t * order.Length) + threads - 1) / threads);
        uint[] own = threads == 1 ? order : order[First(thread)..First(thread + 1)];
        var think = new long[own.Length];
        foreach (ref long time in think.AsSpan())
            time = random.NextInt64(40_000);
        var writes = new bool[own.Length];
        foreach (ref bool write in writes.AsSpan())
            write = random.Next(3) == 0;
        return new TouchSequence(own, think, writes);
    }
}
