using Testbed.Core;

namespace Testbed.Traces.Tests;

/// <summary>Headers and streams of records that look like those of real captures, made from a seed.</summary>
internal static class Samples
{
    /// <summary>Blocks end only when the test says so, however slow the machine.</summary>
    public static TimeSpan Never => TimeSpan.FromDays(20);

    public static PageRange Pages(ulong start, long count) => new(new PageNumber(start), count);

    public static TraceHeader Header(int areaPages = 150_000, int threads = 4) => new()
    {
        ToolVersion = "testbed 0.1",
        ToolCommandLine = "testbed record --pid 4242 -o redis.trace",
        Workload = "redis",
        TargetCommandLine = "redis-server *:6379",
        TargetPid = 4242,
        Kernel = "6.18.0",
        CpuModel = "Some CPU",
        CpuCount = 2,
        Recorded = new DateTimeOffset(2026, 11, 23, 12, 0, 0, TimeSpan.Zero),
        Region = "anon",
        Policy = "demand",
        Link = "local",
        Transfer = "lanes=1",
        Seed = 7,
        Image = new MemoryImage(
            [new MemoryArea(Pages(0x55d0_0000_0, areaPages), "[heap]", 3), new MemoryArea(Pages(0x7f10_0000_0, 1000), "", 3)],
            [Pages(0x55d0_0000_0, areaPages / 2), Pages(0x55d0_0000_0 + (ulong)(areaPages / 2) + 7, areaPages / 4), Pages(0x7f10_0000_0, 10)]),
        ResidentAtStart = [Pages(0x7f10_0000_0 + 990, 2)],
        Threads = [.. Enumerable.Range(0, threads).Select(i => new TraceThread(i, 4242 + i, $"worker {i}"))],
        Properties = new Dictionary<string, string> { ["b"] = "2", ["a"] = "1" },
    };

    public static TraceEnd End => new()
    {
        State = EndState.Drained,
        Duration = Duration.FromSeconds(12.5),
        CommandHash = 0xDEADBEEF,
        TimeToFirstResponse = Duration.FromMilliseconds(3),
        Note = "fine",
    };

    /// <summary>Faults as a capture gives them: some threads, pages partly in runs and partly at random, microseconds of service.</summary>
    public static FaultRecord[] Faults(int count, int seed = 1, int areaPages = 150_000, int threads = 4)
    {
        var random = new Random(seed);
        var faults = new FaultRecord[count];
        long now = 1000;
        ulong page = 0;
        for (int i = 0; i < count; i++)
        {
            page = random.Next(3) == 0 ? (page + 1) % (ulong)areaPages : (ulong)random.Next(areaPages);
            now += 2_000 + (long)(-Math.Log(1 - random.NextDouble()) * 20_000);
            long read = now + random.Next(200, 900);
            bool zero = random.Next(10) == 0;
            long requested = zero ? read : read + random.Next(300, 900);
            long arrived = zero ? read : requested + random.Next(4_000, 12_000);
            faults[i] = new FaultRecord(0, random.Next(threads), new PageNumber(0x55d0_0000_0 + page), (Access)random.Next(2),
                zero ? Cause.Zero : Cause.Demand, new(now), new(read), new(requested), new(arrived), new(arrived + random.Next(2_000, 5_000)));
        }
        return faults;
    }

    /// <summary>One event of every kind, with every field that the kind uses.</summary>
    public static ServiceEvent[] EveryEvent() =>
    [
        new(ServiceEventKind.LaneUp, new(10), 0, default) { Lane = 1 },
        new(ServiceEventKind.Fault, new(1_000), 0, Pages(0x55d0_0000_1, 1)) { Thread = 2, Access = Access.Write, Woken = new(900) },
        new(ServiceEventKind.Arrived, new(2_000), 0, Pages(0x55d0_0000_0, 16)) { Request = 3 },
        new(ServiceEventKind.InstallOutcome, new(2_500), 0, Pages(0x55d0_0000_0, 16)) { Request = 3, Outcome = InstallOutcome.Again },
        new(ServiceEventKind.InstallOutcome, new(2_600), 0, Pages(0x55d0_0002_0, 1)) { Request = -1, Outcome = InstallOutcome.ProcessGone },
        new(ServiceEventKind.Removed, new(2_700), 0, Pages(0x7f10_0000_0, 5)),
        new(ServiceEventKind.Unmapped, new(2_800), 1, Pages(0x7f10_0000_0, 50)),
        new(ServiceEventKind.Remapped, new(2_900), 0, Pages(0x55d0_0000_0, 64)) { Destination = new(0x7f20_0000_0) },
        new(ServiceEventKind.Forked, new(3_000), 0, default) { Other = 1 },
        new(ServiceEventKind.Exited, new(3_100), 1, default),
        new(ServiceEventKind.Idle, new(3_100), 0, default),
        new(ServiceEventKind.LaneDown, new(3_200), 0, default) { Lane = 1 },
        new(ServiceEventKind.Drain, new(3_300), 0, default),
        new(ServiceEventKind.Released, new(3_400), 0, default),
        new(ServiceEventKind.Delayed, new(3_500), 0, default) { Request = 2 },
        new(ServiceEventKind.Needed, new(3_600), 0, PageRange.Single(new PageNumber(77))),
    ];

    public static byte[] Write(TraceHeader header, ReadOnlySpan<FaultRecord> faults, ReadOnlySpan<ServiceEvent> events, TraceEnd? end)
    {
        using var stream = new MemoryStream();
        using (TraceWriter writer = TraceWriter.Create(stream, header))
        {
            foreach (ref readonly FaultRecord fault in faults)
                writer.Append(fault);
            foreach (ref readonly ServiceEvent e in events)
                writer.Append(e);
            if (end != null)
                writer.Finish(end);
        }
        return stream.ToArray();
    }

    /// <summary>A small file of several blocks: the writer is flushed now and then.</summary>
    public static byte[] WriteBlocks(int blocks, int faultsPerBlock, TraceEnd? end)
    {
        using var stream = new MemoryStream();
        using (TraceWriter writer = TraceWriter.Create(stream, Header(areaPages: 64), Never))
        {
            FaultRecord[] faults = Faults(blocks * faultsPerBlock, areaPages: 64);
            for (int i = 0; i < faults.Length; i++)
            {
                writer.Append(faults[i]);
                if ((i + 1) % faultsPerBlock == 0)
                    writer.Flush();
            }
            if (end != null)
                writer.Finish(end);
        }
        return stream.ToArray();
    }

    public static Trace Load(byte[] file) => Trace.Load(new MemoryStream(file), "sample.trace");
}
