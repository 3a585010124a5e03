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
    private readonly List<PageRange> _ranges = [];

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

    /// <summary>Memory that was there, touched or not. As it is said, for a line of text can say any number of pages.</summary>
    public void AddPages(PageRange range)
    {
        if (!range.IsEmpty)
            _ranges.Add(range);
    }

    public void Add(in FaultRecord fault)
    {
        if (fault.Cause != Cause.Zero)
            _ranges.Add(PageRange.Single(fault.Page));
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

    /// <summary>Areas and present ranges out of pieces in any order, which may overlap. What is present is in an area, too.</summary>
    public static MemoryImage ImageOf(IEnumerable<PageRange> touched, IReadOnlyCollection<PageRange> present)
    {
        List<PageRange> areas = Merge(touched.Concat(present), WidestGap);
        return new MemoryImage([.. areas.Select(range => new MemoryArea(range, "", 3))], Merge(present, 0));
    }

    private static List<PageRange> Merge(IEnumerable<PageRange> pieces, ulong widestGap)
    {
        var merged = new List<PageRange>();
        foreach (PageRange piece in pieces.OrderBy(p => p.Start))
        {
            if (merged.Count > 0 && (piece.Start <= merged[^1].End || piece.Start.Value - merged[^1].End.Value <= widestGap))
                merged[^1] = PageRange.Between(merged[^1].Start, piece.End > merged[^1].End ? piece.End : merged[^1].End);
            else
                merged.Add(piece);
        }
        return merged;
    }

    private MemoryImage MakeImage(FaultRecord[] faults) => ImageOf(faults.Where(f => f.Space == 0).Select(f => PageRange.Single(f.Page)), _ranges);

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
    // Of a command line of a thread that perf prints, at most; a file without a line end would be one string.
    private const int LongestLine = 64 * 1024;

    private int _number;
    private string _line = "";

    public IEnumerable<string> All()
    {
        using var reader = new StreamReader(stream);
        char[] buffer = new char[LongestLine + 1];
        for (int start = 0, end = 0; ;)
        {
            int length = buffer.AsSpan(start, end - start).IndexOf('\n');
            if (length < 0 && end - start > LongestLine)
                throw new BadInputException($"{name}: line {_number + 1}: longer than {LongestLine} characters; expected text in lines");
            if (length < 0)
            {
                buffer.AsSpan(start, end - start).CopyTo(buffer);
                (start, end) = (0, end - start);
                int got = reader.Read(buffer, end, buffer.Length - end);
                end += got;
                if (got > 0)
                    continue;
                if (end == 0)
                    yield break;
                // The last line may have no end.
                length = end;
            }
            _number++;
            yield return _line = buffer.AsSpan(start, length).TrimEnd('\r').ToString();
            start = Math.Min(end, start + length + 1);
        }
    }

    public BadInputException Bad(string expected) =>
        new($"{name}: line {_number}: \"{Printable.Of(_line.Length > 120 ? _line[..120] + "..." : _line)}\"; expected {expected}");
}
