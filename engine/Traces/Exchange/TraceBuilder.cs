using Testbed.Core;

namespace Testbed.Traces.Exchange;

/// <summary>
/// Makes a trace of touches that another tool has seen. It knows only of pages that were touched: those are the memory, and what lies
/// between close ones belongs to the same area.
/// </summary>
internal sealed class TraceBuilder(string name, string format)
{
    /// <summary>A gap wider than this, 2 MiB, begins another area.</summary>
    private const ulong WidestGap = 512;

    private readonly List<FaultRecord> _faults = [];
    private readonly List<TraceThread> _threads = [];
    private readonly Dictionary<int, int> _threadByTid = [];
    private readonly HashSet<ulong> _pages = [];

    public int Count => _faults.Count;

    public string Workload { get; set; } = Path.GetFileNameWithoutExtension(name);

    public RecordingKind Kind { get; set; } = RecordingKind.Capture;

    public string Policy { get; set; } = "demand";

    public int Pid { get; set; }

    /// <summary>Said about the trace, by name.</summary>
    public Dictionary<string, string> Properties { get; } = new() { ["imported-from"] = format };

    /// <summary>The index of a thread; it is new when it was not seen before.</summary>
    public int Thread(int tid, string comm)
    {
        if (_threadByTid.TryGetValue(tid, out int index))
            return index;
        _threadByTid.Add(tid, index = _threads.Count);
        _threads.Add(new TraceThread(index, tid, comm));
        return index;
    }

    /// <summary>Memory that was there, touched or not.</summary>
    public void AddPages(PageRange range)
    {
        for (PageNumber page = range.Start; page < range.End; page += 1)
            _pages.Add(page.Value);
    }

    public void Add(in FaultRecord fault)
    {
        if (fault.Cause != Cause.Zero)
            _pages.Add(fault.Page.Value);
        _faults.Add(fault);
    }

    /// <summary>A touch that took no time, as far as the source knows.</summary>
    public void Touch(int thread, PageNumber page, Access access, Instant time) =>
        Add(new FaultRecord(0, thread, page, access, Cause.Demand, time, time, time, time, time));

    /// <exception cref="BadInputException">There was nothing in it.</exception>
    public Trace Build(string expected)
    {
        if (_faults.Count == 0)
            throw new BadInputException($"{name}: no page faults in it; expected {expected}");
        FaultRecord[] faults = [.. _faults.OrderBy(f => f.Woken)];
        // Zero is when the first one came.
        Instant begin = faults[0].Woken;
        for (int i = 0; i < faults.Length; i++)
            faults[i] = Shift(faults[i], begin - Instant.Zero);
        Instant last = faults.Max(f => f.Resolved);
        return new Trace
        {
            Name = name,
            Header = new TraceHeader
            {
                Workload = Workload,
                Kind = Kind,
                Policy = Policy,
                TargetPid = Pid,
                Image = MakeImage(faults),
                Threads = _threads,
                Properties = Properties,
            },
            Threads = _threads,
            Faults = faults,
            Events = [],
            End = new TraceEnd { State = EndState.Drained, Duration = last - Instant.Zero },
        };
    }

    /// <summary>Areas and present ranges out of single pages.</summary>
    public static MemoryImage ImageOf(IEnumerable<ulong> areaPages, HashSet<ulong> present)
    {
        var areas = new List<MemoryArea>();
        var ranges = new List<PageRange>();
        foreach (ulong page in areaPages.Distinct().Order())
        {
            if (areas.Count > 0 && page - areas[^1].Range.End.Value <= WidestGap)
                areas[^1] = areas[^1] with { Range = PageRange.Between(areas[^1].Range.Start, new PageNumber(page + 1)) };
            else
                areas.Add(new MemoryArea(PageRange.Single(new PageNumber(page)), "", 3));
            if (!present.Contains(page))
                continue;
            if (ranges.Count > 0 && ranges[^1].End.Value == page)
                ranges[^1] = ranges[^1] with { Count = ranges[^1].Count + 1 };
            else
                ranges.Add(PageRange.Single(new PageNumber(page)));
        }
        return new MemoryImage(areas, ranges);
    }

    private MemoryImage MakeImage(FaultRecord[] faults) => ImageOf(_pages.Concat(faults.Where(f => f.Space == 0).Select(f => f.Page.Value)), _pages);

    private static FaultRecord Shift(in FaultRecord fault, Duration by) => fault with
    {
        Woken = new Instant(fault.Woken.Nanoseconds - by.Nanoseconds),
        Read = new Instant(fault.Read.Nanoseconds - by.Nanoseconds),
        Requested = new Instant(fault.Requested.Nanoseconds - by.Nanoseconds),
        Arrived = new Instant(fault.Arrived.Nanoseconds - by.Nanoseconds),
        Resolved = new Instant(fault.Resolved.Nanoseconds - by.Nanoseconds),
    };
}

/// <summary>The lines of a text that another tool wrote. What is wrong in one is told with its number.</summary>
internal sealed class NumberedLines(Stream stream, string name)
{
    private int _number;
    private string _line = "";

    public IEnumerable<string> All()
    {
        using var reader = new StreamReader(stream);
        while (reader.ReadLine() is { } line)
        {
            (_number, _line) = (_number + 1, line);
            yield return line;
        }
    }

    public BadInputException Bad(string expected) =>
        new($"{name}: line {_number}: \"{Printable.Of(_line.Length > 120 ? _line[..120] + "..." : _line)}\"; expected {expected}");
}
