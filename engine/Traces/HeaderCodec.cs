using Google.Protobuf;
using Testbed.Core;

namespace Testbed.Traces;

/// <summary>Between the messages of trace.proto and the types that callers see.</summary>
internal static class HeaderCodec
{
    /// <summary>A page number above this is no x86-64 address.</summary>
    public const ulong MaxPage = 1UL << 52;

    public static byte[] Encode(TraceHeader header)
    {
        var message = new Proto.Header
        {
            ToolVersion = header.ToolVersion,
            ToolCommandLine = header.ToolCommandLine,
            Workload = header.Workload,
            TargetCommandLine = header.TargetCommandLine,
            TargetPid = (uint)header.TargetPid,
            Kernel = header.Kernel,
            CpuModel = header.CpuModel,
            CpuCount = (uint)header.CpuCount,
            RecordedUnixMs = header.Recorded.ToUnixTimeMilliseconds(),
            Region = header.Region,
            Kind = (Proto.RecordingKind)header.Kind,
            Policy = header.Policy,
            Link = header.Link,
            Transfer = header.Transfer,
            Seed = header.Seed,
        };
        foreach (MemoryArea area in header.Image.Areas)
        {
            message.Areas.Add(new Proto.Area
            {
                StartPage = area.Range.Start.Value,
                PageCount = (ulong)area.Range.Count,
                Name = area.Name,
                Protection = (uint)area.Protection,
            });
        }
        AddRanges(message.Present, header.Image.Present);
        AddRanges(message.Resident, header.ResidentAtStart);
        foreach (TraceThread thread in header.Threads)
            message.Threads.Add(ToMessage(thread));
        // Sorted, so that the same header gives the same bytes.
        foreach ((string name, string value) in header.Properties.OrderBy(p => p.Key, StringComparer.Ordinal))
            message.Properties.Add(name, value);
        return message.ToByteArray();
    }

    public static TraceHeader DecodeHeader(ReadOnlySpan<byte> payload)
    {
        Proto.Header message = Proto.Header.Parser.ParseFrom(payload);
        var areas = new MemoryArea[message.Areas.Count];
        for (int i = 0; i < areas.Length; i++)
        {
            Proto.Area area = message.Areas[i];
            if (area.StartPage > MaxPage || area.PageCount > MaxPage)
                throw new BadInputException($"header: area {i} lies at page 0x{area.StartPage:x}, {area.PageCount} pages; expected page numbers up to 2^52");
            areas[i] = new MemoryArea(new PageRange(new PageNumber(area.StartPage), (long)area.PageCount), area.Name, (int)area.Protection);
        }
        var threads = new List<TraceThread>(message.Threads.Count);
        AddThreads(threads, message.Threads);
        return new TraceHeader
        {
            ToolVersion = message.ToolVersion,
            ToolCommandLine = message.ToolCommandLine,
            Workload = message.Workload,
            TargetCommandLine = message.TargetCommandLine,
            TargetPid = (int)message.TargetPid,
            Kernel = message.Kernel,
            CpuModel = message.CpuModel,
            CpuCount = (int)message.CpuCount,
            Recorded = Date(message.RecordedUnixMs),
            Region = message.Region,
            Kind = Known((RecordingKind)message.Kind, "header: kind"),
            Policy = message.Policy,
            Link = message.Link,
            Transfer = message.Transfer,
            Seed = message.Seed,
            Image = new MemoryImage(areas, Ranges(message.Present, "present")),
            ResidentAtStart = Ranges(message.Resident, "resident"),
            Threads = threads,
            Properties = new SortedDictionary<string, string>(message.Properties, StringComparer.Ordinal),
        };
    }

    public static byte[] Encode(IEnumerable<TraceThread> threads)
    {
        var message = new Proto.Threads();
        message.Threads_.AddRange(threads.Select(ToMessage));
        return message.ToByteArray();
    }

    public static void DecodeThreads(ReadOnlySpan<byte> payload, List<TraceThread> threads) =>
        AddThreads(threads, Proto.Threads.Parser.ParseFrom(payload).Threads_);

    public static byte[] Encode(TraceEnd end, TraceTotals totals)
    {
        var message = new Proto.Footer
        {
            Faults = (ulong)totals.Faults,
            Events = (ulong)totals.Events,
            Threads = (uint)totals.Threads,
            Blocks = totals.Blocks,
            DurationNs = end.Duration.Nanoseconds,
            EndState = (Proto.EndState)end.State,
            Note = end.Note,
        };
        if (end.CommandHash is ulong hash)
            message.CommandHash = hash;
        if (end.TimeToFirstResponse is Duration first)
            message.TimeToFirstResponseNs = first.Nanoseconds;
        return message.ToByteArray();
    }

    public static (TraceEnd End, TraceTotals Totals) DecodeFooter(ReadOnlySpan<byte> payload)
    {
        Proto.Footer message = Proto.Footer.Parser.ParseFrom(payload);
        if (message.DurationNs < 0)
            throw new BadInputException($"footer: duration is {message.DurationNs} ns; expected 0 or more");
        var end = new TraceEnd
        {
            State = Known((EndState)message.EndState, "footer: end state"),
            Duration = new Duration(message.DurationNs),
            CommandHash = message.HasCommandHash ? message.CommandHash : null,
            TimeToFirstResponse = message.HasTimeToFirstResponseNs ? new Duration(message.TimeToFirstResponseNs) : null,
            Note = message.Note,
        };
        return (end, new TraceTotals((long)message.Faults, (long)message.Events, (int)message.Threads, message.Blocks));
    }

    private static Proto.Thread ToMessage(TraceThread thread) =>
        new() { Index = (uint)thread.Index, Tid = (uint)thread.Tid, Name = thread.Name };

    private static void AddThreads(List<TraceThread> threads, IEnumerable<Proto.Thread> messages)
    {
        foreach (Proto.Thread message in messages)
        {
            if (message.Index != threads.Count)
                throw new BadInputException($"thread table: index {message.Index} after {threads.Count} threads; expected {threads.Count}");
            threads.Add(new TraceThread((int)message.Index, (int)message.Tid, message.Name));
        }
    }

    private static void AddRanges(Google.Protobuf.Collections.RepeatedField<ulong> to, IReadOnlyList<PageRange> ranges)
    {
        to.Capacity = ranges.Count * 2;
        PageNumber end = default;
        foreach (PageRange range in ranges)
        {
            if (range.Start < end)
                throw new BadInputException($"page range {range}: unsorted or overlapping; expected sorted ranges");
            to.Add((ulong)(range.Start - end));
            to.Add((ulong)range.Count);
            end = range.End;
        }
    }

    private static PageRange[] Ranges(Google.Protobuf.Collections.RepeatedField<ulong> from, string what)
    {
        if (from.Count % 2 != 0)
            throw new BadInputException($"header: {what} has {from.Count} numbers; expected pairs (gap, pages)");
        var ranges = new PageRange[from.Count / 2];
        ulong end = 0;
        for (int i = 0; i < ranges.Length; i++)
        {
            (ulong gap, ulong count) = (from[2 * i], from[2 * i + 1]);
            if (gap > MaxPage || count is 0 or > MaxPage || end + gap + count > MaxPage)
                throw new BadInputException($"header: {what} range {i} has gap {gap} and {count} pages; expected page numbers up to 2^52");
            ranges[i] = new PageRange(new PageNumber(end + gap), (long)count);
            end += gap + count;
        }
        return ranges;
    }

    private static DateTimeOffset Date(long unixMilliseconds)
    {
        if (unixMilliseconds < 0 || unixMilliseconds > DateTimeOffset.MaxValue.ToUnixTimeMilliseconds())
            throw new BadInputException($"header: date is {unixMilliseconds} ms since 1970; expected a date before the year 10000");
        return DateTimeOffset.FromUnixTimeMilliseconds(unixMilliseconds);
    }

    private static T Known<T>(T value, string what) where T : struct, Enum =>
        Enum.IsDefined(value) ? value : throw new BadInputException($"{what} is {value:d}; expected one of {string.Join(", ", Enum.GetNames<T>())}");
}

/// <summary>What a footer promises, and what was seen.</summary>
internal readonly record struct TraceTotals(long Faults, long Events, int Threads, uint Blocks);
