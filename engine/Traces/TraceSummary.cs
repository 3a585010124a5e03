using System.Globalization;
using System.Text;
using Testbed.Core;

namespace Testbed.Traces;

/// <summary>Quantiles of a set of durations, by nearest rank; all zero when the set is empty.</summary>
/// <param name="Count">How many durations there were.</param>
/// <param name="P50">The median.</param>
/// <param name="P90">The 90 % quantile.</param>
/// <param name="P99">The 99 % quantile.</param>
/// <param name="P999">The 99.9 % quantile.</param>
/// <param name="Max">The longest.</param>
/// <param name="Sum">All of them together.</param>
public readonly record struct Quantiles(int Count, Duration P50, Duration P90, Duration P99, Duration P999, Duration Max, Duration Sum)
{
    /// <summary>Sorts <paramref name="nanoseconds"/> and takes the quantiles.</summary>
    public static Quantiles Of(long[] nanoseconds)
    {
        if (nanoseconds.Length == 0)
            return default;
        Array.Sort(nanoseconds);
        long sum = 0;
        foreach (long value in nanoseconds)
            sum += value;
        return new Quantiles(nanoseconds.Length, At(0.5), At(0.9), At(0.99), At(0.999), new Duration(nanoseconds[^1]), new Duration(sum));

        Duration At(double q) => new(nanoseconds[Math.Clamp((int)Math.Ceiling(q * nanoseconds.Length) - 1, 0, nanoseconds.Length - 1)]);
    }
}

/// <summary>How many faults a thread had.</summary>
/// <param name="Thread">The thread.</param>
/// <param name="Faults">Its faults.</param>
public readonly record struct ThreadFaults(TraceThread Thread, long Faults);

/// <summary>What is in a trace, in figures.</summary>
public sealed class TraceSummary
{
    private readonly Trace _trace;
    private readonly long[] _byCause = new long[4];
    private readonly long[] _byAccess = new long[2];

    /// <summary>Reads the figures off <paramref name="trace"/>.</summary>
    public TraceSummary(Trace trace)
    {
        _trace = trace;
        FaultRecord[] faults = trace.Faults;
        long[] byThread = new long[trace.Threads.Count];
        foreach (ref readonly FaultRecord fault in faults.AsSpan())
        {
            _byCause[(int)fault.Cause]++;
            _byAccess[(int)fault.Access]++;
            byThread[fault.Thread]++;
        }
        Threads = [.. trace.Threads.Select(t => new ThreadFaults(t, byThread[t.Index])).OrderByDescending(t => t.Faults).ThenBy(t => t.Thread.Index)];
        Fetched = QuantilesOf(f => f.Cause != Cause.Zero, f => f.Latency);
        Zero = QuantilesOf(f => f.Cause == Cause.Zero, f => f.Latency);
        ToService = QuantilesOf(f => f.Cause != Cause.Zero, f => f.Read - f.Woken);
        ToRequest = QuantilesOf(f => f.Cause == Cause.Demand, f => f.Requested - f.Read);
        Transfer = QuantilesOf(f => f.Cause == Cause.Demand, f => f.Arrived - f.Requested);
        Install = QuantilesOf(f => f.Cause != Cause.Zero, f => f.Resolved - f.Arrived);
        DistinctPages = faults.Select(f => (f.Space, f.Page)).Distinct().LongCount();
        (SequentialRuns, LongestRun) = Runs();
    }

    /// <summary>All faults.</summary>
    public long Faults => _trace.Faults.LongLength;

    /// <summary>All events of the fault service.</summary>
    public long Events => _trace.Events.LongLength;

    /// <summary>Pages that were touched, each counted once per address space.</summary>
    public long DistinctPages { get; }

    /// <summary>Threads, the one with most faults first.</summary>
    public IReadOnlyList<ThreadFaults> Threads { get; }

    /// <summary>From the first to the end of the recording.</summary>
    public Duration Duration => _trace.Duration;

    /// <summary>Touched pages per second of the recording.</summary>
    public double FirstTouchesPerSecond => Duration.Nanoseconds > 0 ? DistinctPages / Duration.Seconds : 0;

    /// <summary>Latency of faults that waited for a page to come.</summary>
    public Quantiles Fetched { get; }

    /// <summary>Latency of faults that were answered with a zero page.</summary>
    public Quantiles Zero { get; }

    /// <summary>Of a fault with a page to fetch: from the daemon's wake-up to the fault service.</summary>
    public Quantiles ToService { get; }

    /// <summary>Of a demand fault: from the fault service to the request.</summary>
    public Quantiles ToRequest { get; }

    /// <summary>Of a demand fault: from the request to the page.</summary>
    public Quantiles Transfer { get; }

    /// <summary>Of a fault with a page to fetch: from the page to the thread's wake-up.</summary>
    public Quantiles Install { get; }

    /// <summary>Runs of touches of one thread in which every page follows the one before. Equals the touches when there is no order at all.</summary>
    public long SequentialRuns { get; }

    /// <summary>Touches in the longest such run.</summary>
    public long LongestRun { get; }

    /// <summary>Touches per such run; 1 is no order at all.</summary>
    public double MeanRun => SequentialRuns == 0 ? 0 : Faults / (double)SequentialRuns;

    /// <summary>Size of the file over its faults and events.</summary>
    public double BytesPerRecord => Faults + Events == 0 ? 0 : _trace.FileBytes / (double)(Faults + Events);

    /// <summary>Faults with this cause.</summary>
    public long Count(Cause cause) => _byCause[(int)cause];

    /// <summary>Faults that read, or that wrote.</summary>
    public long Count(Access access) => _byAccess[(int)access];

    /// <summary>The figures as aligned text, without colour: lines of at most some 100 characters, each ended by a line feed.</summary>
    public string Render()
    {
        var text = new StringBuilder();
        RenderOrigin(text);
        RenderMemory(text);
        RenderFaults(text);
        RenderLatency(text);
        return text.ToString();
    }

    private void RenderOrigin(StringBuilder text)
    {
        TraceHeader header = _trace.Header;
        Line(text, "trace", $"{_trace.Name} ({Size(_trace.FileBytes)}, {BytesPerRecord.ToString("0.0", CultureInfo.InvariantCulture)} bytes per record)");
        Line(text, "state", _trace.End is TraceEnd end ? $"complete, {end.State}" : $"NOT complete: {_trace.IncompleteReason}");
        Line(text, "note", _trace.End?.Note);
        Line(text, "kind", $"{header.Kind}{(header.Kind == RecordingKind.Capture ? " (demand-only: every first touch is seen)" : "")}");
        Line(text, "workload", header.Workload);
        Line(text, "target", header.TargetCommandLine);
        // What was imported does not say when.
        Line(text, "recorded", header.Recorded == DateTimeOffset.UnixEpoch ? "" : header.Recorded.ToString("yyyy-MM-dd HH:mm:ss 'UTC'", CultureInfo.InvariantCulture));
        Line(text, "by", string.Join(": ", new[] { header.ToolVersion, header.ToolCommandLine }.Where(s => s.Length > 0)));
        Line(text, "on", string.Join(", ", new[] { header.Kernel, header.CpuModel, header.CpuCount > 0 ? $"{header.CpuCount} CPUs" : "" }.Where(s => s.Length > 0)));
        Line(text, "policy", header.Policy);
        Line(text, "link", string.Join(", ", new[] { header.Link, header.Transfer }.Where(s => s.Length > 0)));
        bool isLeft = LeftReason.Parse(header.Properties).Count > 0;
        foreach ((string name, string value) in header.Properties.Where(p => !isLeft || p.Key != LeftReason.Property))
            Line(text, name, value);
        Line(text, "duration", Duration.ToString());
        if (_trace.End?.TimeToFirstResponse is Duration first)
            Line(text, "first answer", $"{first} after resume");
        if (_trace.End?.CommandHash is ulong hash)
            Line(text, "command hash", $"{hash:x16}");
    }

    private void RenderMemory(StringBuilder text)
    {
        MemoryImage image = _trace.Image;
        long resident = _trace.Header.ResidentAtStart.Sum(r => r.Count);
        text.Append('\n');
        Line(text, "memory", $"{Size(image.TotalPages * PageNumber.Size)} in {image.Areas.Count} areas{(_trace.Header.Region.Length > 0 ? $" (region {_trace.Header.Region})" : "")}");
        Line(text, "to fetch", $"{image.PresentPages:N0} pages, {Size(image.PresentPages * PageNumber.Size)}, in {image.Present.Count:N0} ranges");
        Line(text, "touched", $"{DistinctPages:N0} pages, {Size(DistinctPages * PageNumber.Size)}, {FirstTouchesPerSecond:N0} a second");
        if (resident > 0)
            Line(text, "never away", $"{resident:N0} pages");
        if (LeftReason.Parse(_trace.Header.Properties) is { Count: > 0 } left)
            Line(text, "left in place", $"{Size(left.Sum(r => r.Bytes))}: {LeftReason.Describe(left)}");
    }

    private void RenderFaults(StringBuilder text)
    {
        text.Append('\n');
        Line(text, "faults", $"{Faults:N0}: {string.Join(", ", Enum.GetValues<Cause>().Where(c => Count(c) > 0).Select(c => $"{Count(c):N0} {Name(c)}"))}");
        Line(text, "access", $"{Count(Access.Read):N0} reads, {Count(Access.Write):N0} writes");
        if (Events > 0)
            Line(text, "events", $"{Events:N0}");
        Line(text, "order", $"runs of consecutive pages: mean {MeanRun.ToString("0.0", CultureInfo.InvariantCulture)}, longest {LongestRun:N0}");
        const int shown = 8;
        foreach ((TraceThread thread, long faults) in Threads.Take(shown))
            Line(text, $"thread {thread.Index}", $"{faults,12:N0} faults   tid {thread.Tid} {thread.Name}");
        if (Threads.Count > shown)
            Line(text, "others", $"{Threads.Skip(shown).Sum(t => t.Faults),12:N0} faults   {Threads.Count - shown} threads");
    }

    private void RenderLatency(StringBuilder text)
    {
        text.Append('\n');
        text.Append($"{"latency",-18}{"faults",10}{"p50",10}{"p90",10}{"p99",10}{"p99.9",10}{"max",10}{"sum",10}\n");
        Row("page fetched", Fetched);
        Row("  to the service", ToService);
        Row("  to the request", ToRequest);
        Row("  transfer", Transfer);
        Row("  install, wake", Install);
        Row("zero page", Zero);

        void Row(string name, in Quantiles q)
        {
            if (q.Count > 0)
                text.Append($"{name,-18}{q.Count,10}{q.P50,10}{q.P90,10}{q.P99,10}{q.P999,10}{q.Max,10}{q.Sum,10}\n");
        }
    }

    private static void Line(StringBuilder text, string name, string? value)
    {
        if (string.IsNullOrEmpty(value))
            return;
        // What the target calls itself is not ours.
        text.Append(Printable.Of($"{name,-13} {value}")).Append('\n');
    }

    private static string Name(Cause cause) => cause switch
    {
        Cause.Demand => "demand",
        Cause.Prefetch => "late prefetch",
        Cause.Background => "late background",
        _ => "zero page",
    };

    /// <summary>Bytes for people: <c>3.1 MiB</c>.</summary>
    public static string Size(long bytes)
    {
        string[] units = ["B", "KiB", "MiB", "GiB", "TiB"];
        double value = bytes;
        int unit = 0;
        for (; value >= 1024 && unit < units.Length - 1; unit++)
            value /= 1024;
        return value.ToString(value < 10 && unit > 0 ? "0.0" : "0", CultureInfo.InvariantCulture) + " " + units[unit];
    }

    private Quantiles QuantilesOf(Func<FaultRecord, bool> which, Func<FaultRecord, Duration> value) =>
        Quantiles.Of([.. _trace.Faults.Where(which).Select(f => value(f).Nanoseconds)]);

    private (long Runs, long Longest) Runs()
    {
        var last = new (int Space, PageNumber Page, long Length)[_trace.Threads.Count];
        long runs = 0;
        long longest = 0;
        foreach (ref readonly FaultRecord fault in _trace.Faults.AsSpan())
        {
            ref (int Space, PageNumber Page, long Length) run = ref last[fault.Thread];
            bool follows = run.Length > 0 && run.Space == fault.Space && fault.Page == run.Page + 1;
            run = (fault.Space, fault.Page, follows ? run.Length + 1 : 1);
            runs += follows ? 0 : 1;
            longest = Math.Max(longest, run.Length);
        }
        return (runs, longest);
    }
}
