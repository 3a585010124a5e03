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
    public static ReplayWorkload Make(int touches, int threads, bool random)
    {
        var seeded = new Random(42);
        uint[] order = [.. Enumerable.Range(0, touches).Select(i => (uint)i)];
        if (random)
            seeded.Shuffle(order);
        TouchSequence[] sequences = [.. Enumerable.Range(0, threads).Select(t =>
        {
            uint[] own = [.. order.Where((_, i) => i * (long)threads / touches == t)];
            return new TouchSequence(own, [.. own.Select(_ => seeded.NextInt64(40_000))], [.. own.Select(_ => seeded.Next(3) == 0)]);
        })];
        // Areas of 4 MiB to 64 MiB, as malloc's arenas and a heap are.
        var areas = new List<MemoryArea>();
        for (long at = 0; at < touches;)
        {
            long count = Math.Min(touches - at, seeded.Next(1024, 16384));
            areas.Add(new MemoryArea(new PageRange(new PageNumber((ulong)(0x10000 + at * 2)), count), "", 3));
            at += count;
        }
        var image = new MemoryImage(areas, [.. areas.Select(a => a.Range)]);
        var map = new PageMap(image);
        return new ReplayWorkload("synthetic", image, sequences) { Recording = [.. order.Select(i => map.PageAt(i))] };
    }
}
