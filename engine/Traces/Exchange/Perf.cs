using System.Globalization;
using System.Text.RegularExpressions;
using Testbed.Core;

namespace Testbed.Traces.Exchange;

/// <summary>Page faults as <c>perf trace -F all</c> prints them: times in milliseconds with three digits, and how long each took.</summary>
internal static partial class PerfTrace
{
    public static Trace Read(Stream stream, string name)
    {
        var lines = new NumberedLines(stream, name);
        var builder = new TraceBuilder(name, "perf trace -F all");
        long onFiles = 0;
        foreach (string line in lines.All())
        {
            // Beside faults there may be system calls, whose arguments may hold anything.
            if (!line.Contains(" minfault [", StringComparison.Ordinal) && !line.Contains(" majfault [", StringComparison.Ordinal))
                continue;
            if (Fault().Match(line) is not { Success: true } match)
                throw lines.Bad("MILLISECONDS ( TOOK ms): COMM/TID minfault [WHERE] => TARGET (KIND)");
            if (Address(match.Groups["target"].Value) is not { } address)
            {
                onFiles++;
                continue;
            }
            if (!int.TryParse(match.Groups["tid"].ValueSpan, CultureInfo.InvariantCulture, out int tid))
                throw lines.Bad("a thread id");
            Instant time = PerfText.Time(match.Groups["ms"].Value, 1e6m, lines);
            Instant end = time + (PerfText.Time(match.Groups["took"].Value, 1e6m, lines) - Instant.Zero);
            builder.Add(new FaultRecord(0, builder.Thread(tid, match.Groups["comm"].Value), PageNumber.Of(address), Access.Read, Cause.Demand, time, time, time, time, end));
        }
        builder.Properties["faults-on-files-left-out"] = onFiles.ToString(CultureInfo.InvariantCulture);
        return builder.Build("lines of perf trace -F all with minfault or majfault");
    }

    /// <summary>Mappings without a file are printed with their address; files with an offset, which is none.</summary>
    private static ulong? Address(string target)
    {
        string number = target;
        if (target.LastIndexOf('@') is var at and >= 0)
        {
            if (!target.StartsWith("//anon@", StringComparison.Ordinal) && !target.StartsWith('['))
                return null;
            number = target[(at + 1)..];
        }
        return number.StartsWith("0x", StringComparison.Ordinal)
            && ulong.TryParse(number.AsSpan(2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out ulong address) ? address : null;
    }

    // The target may hold blanks: file names do.
    [GeneratedRegex(@"^\s*(?<ms>\d+\.\d+) \(\s*(?<took>\d+\.\d+) ms\):\s+(?<comm>.*)/(?<tid>\d+) m(in|aj)fault \[(?<ip>.*)\] => (?<target>.+) \(\S+\)\s*$")]
    private static partial Regex Fault();
}

/// <summary>
/// Page faults as <c>perf script</c> prints them: of the software event page-faults with its address (-d when recorded, -F +addr when
/// printed), or of the tracepoint exceptions:page_fault_user, which says read or write too.
/// </summary>
internal static partial class PerfScript
{
    private readonly record struct Sample(int Pid, int Tid, string Comm, Instant Time, ulong Address, Access Access, bool IsSubset);

    /// <summary>The names of the events that are page faults; the last two count only some of those that the others count.</summary>
    private static readonly string[] s_faultEvents = ["page-faults", "faults", "exceptions:page_fault_user", "minor-faults", "major-faults"];

    public static Trace Read(Stream stream, string name)
    {
        var lines = new NumberedLines(stream, name);
        var samples = new List<Sample>();
        (Sample Sample, BadInputException Otherwise)? undecided = null;
        foreach (string line in lines.All())
        {
            if (undecided is { } waiting)
            {
                // With a call chain, which has the instruction, the one number of the line above is the address.
                samples.Add(CallChain().IsMatch(line) && !Head().IsMatch(line) ? waiting.Sample : throw waiting.Otherwise);
                undecided = null;
            }
            // Call chains follow their sample, a line each, indented; comments are perf's own.
            if (line.Length == 0 || line[0] == '#' || Head().Match(line) is not { Success: true } head)
            {
                if (line.Contains(" exceptions:page_fault_user:", StringComparison.Ordinal) || line.Contains(" page-faults:", StringComparison.Ordinal))
                    throw lines.Bad("COMM PID/TID SECONDS.MICROSECONDS: EVENT: ...");
                continue;
            }
            string rest = line[head.Length..].TrimEnd();
            // A recording may hold other events; without a name (-F without event) all samples are taken for faults.
            string eventName = EventName(rest);
            if (eventName.Length > 0 && !s_faultEvents.Contains(eventName))
                continue;
            int tid = Number(head.Groups["tid"], lines);
            int pid = head.Groups["pid"].Success ? Number(head.Groups["pid"], lines) : 0;
            (ulong address, Access access, bool isSure) = Target(rest, lines);
            Instant time = PerfText.Time(head.Groups["time"].Value, 1e9m, lines);
            var sample = new Sample(pid, tid, head.Groups["comm"].Value.Trim(), time, address, access, eventName is "minor-faults" or "major-faults");
            if (isSure)
                samples.Add(sample);
            else
                undecided = (sample, NoAddress(lines));
        }
        if (undecided is { } last)
            throw last.Otherwise;
        // Recorded beside page-faults they would count each fault twice.
        if (samples.Exists(s => !s.IsSubset))
            samples.RemoveAll(s => s.IsSubset);
        return Build(samples, name);
    }

    /// <summary>
    /// The event of a sample, without what was said about it (:u, /period=1/); empty when none is printed. perf's own records
    /// (PERF_RECORD_MMAP2 and others, with --show-mmap-events and the like) count as events.
    /// </summary>
    private static string EventName(string rest)
    {
        if (rest.StartsWith("PERF_RECORD_", StringComparison.Ordinal))
            return rest.Split(' ')[0];
        if (Event().Match(rest) is not { Success: true } match)
            return "";
        string found = match.Groups["event"].Value;
        return Array.Find(s_faultEvents, e => found == e || (found.StartsWith(e, StringComparison.Ordinal) && (found[e.Length] is ':' or '/'))) ?? found;
    }

    private static Trace Build(List<Sample> samples, string name)
    {
        var builder = new TraceBuilder(name, "perf script");
        // Without pids in the file, all threads are taken for those of one process.
        IGrouping<int, Sample>? most = samples.GroupBy(s => s.Pid).MaxBy(g => g.Count());
        foreach (Sample sample in most ?? Enumerable.Empty<Sample>())
            builder.Touch(builder.Thread(sample.Tid, sample.Comm), PageNumber.Of(sample.Address), sample.Access, sample.Time);
        builder.Pid = most?.Key ?? 0;
        builder.Properties["faults-of-other-processes-left-out"] = (samples.Count - builder.Count).ToString(CultureInfo.InvariantCulture);
        return builder.Build("samples of page-faults, or of exceptions:page_fault_user");
    }

    /// <summary>The address that a sample names, and whether it is surely one: a single number with a symbol may be the instruction's.</summary>
    private static (ulong Address, Access Access, bool IsSure) Target(string rest, NumberedLines lines)
    {
        if (Tracepoint().Match(rest) is { Success: true } point)
        {
            ulong code = Hex(point.Groups["code"], lines);
            const int write = 2; // of the processor's error code
            return (Hex(point.Groups["at"], lines), (code & write) != 0 ? Access.Write : Access.Read, true);
        }
        Match sample = Addressed().Match(rest);
        if (!sample.Success)
            throw NoAddress(lines);
        bool isSure = sample.Groups["symbol"].Value.Trim().Length == 0 || sample.Groups["ip"].Success;
        return (Hex(sample.Groups["at"], lines), Access.Read, isSure);
    }

    private static BadInputException NoAddress(NumberedLines lines) =>
        lines.Bad("the address that was touched: record with perf record -e page-faults -c 1 -d, print with perf script -F +addr");

    private static ulong Hex(Group group, NumberedLines lines) =>
        ulong.TryParse(group.ValueSpan, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out ulong value)
            ? value : throw lines.Bad("a number of up to 16 hexadecimal digits");

    private static int Number(Group group, NumberedLines lines) =>
        int.TryParse(group.ValueSpan, NumberStyles.None, CultureInfo.InvariantCulture, out int value) ? value : throw lines.Bad("a process id");

    [GeneratedRegex(@"^\s*(?<comm>\S.*?)\s+(?:(?<pid>\d+)/)?(?<tid>\d+)\s+(?:\[\d+\]\s+)?(?<time>\d+\.\d+):\s+")]
    private static partial Regex Head();

    [GeneratedRegex(@"^\s+[0-9a-f]+ \S.*$")]
    private static partial Regex CallChain();

    // [period] event: ...
    [GeneratedRegex(@"^(?:\d+\s+)?(?<event>[A-Za-z_][^\s]*):(?:\s|$)")]
    private static partial Regex Event();

    [GeneratedRegex(@"page_fault_user: address=0x(?<at>[0-9a-f]+) ip=\S+ error_code=0x(?<code>[0-9a-f]+)")]
    private static partial Regex Tracepoint();

    // [period] [event:] address [symbol (file)] [ip symbol (file)]
    [GeneratedRegex(@"^(?:\d+\s+)?(?:\S*faults\S*:\s+)?(?<at>[0-9a-f]+)(?<symbol>(?:\s.*?)?)(?:\s(?<ip>[0-9a-f]{6,16})(?:\s.*)?)?$")]
    private static partial Regex Addressed();
}

/// <summary>What perf's two texts have in common.</summary>
internal static class PerfText
{
    /// <summary>A decimal number of some unit, without rounding; below some thirty years.</summary>
    public static Instant Time(string text, decimal nanoseconds, NumberedLines lines) =>
        decimal.TryParse(text, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out decimal value) && value * nanoseconds < 1e18m
            ? new Instant((long)(value * nanoseconds)) : throw lines.Bad("a time");
}
