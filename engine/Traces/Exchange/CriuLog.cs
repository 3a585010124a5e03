using System.Globalization;
using System.Text.RegularExpressions;
using Testbed.Core;

namespace Testbed.Traces.Exchange;

/// <summary>
/// The log of <c>criu lazy-pages -v4</c>: page faults, requests, copies and zero pages, with times in microseconds. A fault is resolved by the
/// copy that covers its page. CRIU moves pages in the background meanwhile, and a touch of a page that is in already is no fault: such a
/// trace shows how CRIU did, and is no capture.
/// </summary>
internal static partial class CriuLog
{
    // Each thread waits for one; each line looks through all that wait.
    private const int OpenMax = 1 << 14;

    private const string Form = "(SECONDS.MICROSECONDS) uffd: PID-FD: #PF at 0xADDRESS";

    public static Trace Read(Stream stream, string name)
    {
        var lines = new NumberedLines(stream, name);
        var builder = new TraceBuilder(name, "criu lazy-pages -v4") { Kind = RecordingKind.Live, Policy = "criu" };
        var spaces = new Dictionary<string, int>();
        var open = new List<Open>();
        foreach (string line in lines.All())
        {
            if (line.Contains("#PF at", StringComparison.Ordinal))
            {
                open.Add(Begin(Parse(Fault(), line, lines, Form)));
                if (open.Count > OpenMax)
                    throw lines.Bad($"at most {OpenMax} faults that wait at once");
            }
            else if (line.Contains("uffd_copy:", StringComparison.Ordinal))
                Resolve(Parse(Copy(), line, lines, "(SECONDS.MICROSECONDS) uffd: PID-FD: uffd_copy: 0xADDRESS/BYTES"), Cause.Demand);
            else if (line.Contains("zero page at", StringComparison.Ordinal))
                Resolve(Parse(Zero(), line, lines, "(SECONDS.MICROSECONDS) uffd: PID-FD: zero page at 0xADDRESS"), Cause.Zero);
            else if (Request().Match(line) is { Success: true } request)
                Ask(request, Time(request, lines));
        }
        // What was never resolved, because the process went away, took no time that anybody knows.
        foreach (Open fault in open)
            builder.Add(fault.Done(fault.Woken, Cause.Demand));
        return builder.Build("a log of criu lazy-pages with -v4");

        Open Begin((Instant Time, Match Match) found) =>
            new(Space(spaces, found.Match, builder), Page(found.Match, lines), found.Time, found.Time);

        void Ask(Match match, Instant time)
        {
            PageNumber page = Page(match, lines);
            for (int i = 0; i < open.Count; i++)
            {
                if (open[i].Page == page)
                    open[i] = open[i] with { Requested = time };
            }
        }

        void Resolve((Instant Time, Match Match) found, Cause cause)
        {
            int space = Space(spaces, found.Match, builder);
            long bytes = cause == Cause.Zero ? PageNumber.Size : long.Parse(found.Match.Groups["bytes"].ValueSpan, CultureInfo.InvariantCulture);
            if (bytes is <= 0 or > 1L << 40)
                throw lines.Bad("a length of whole pages");
            var range = new PageRange(Page(found.Match, lines), bytes / PageNumber.Size);
            if (cause != Cause.Zero && space == 0)
                builder.AddPages(range);
            foreach (Open fault in open.Where(f => f.Space == space && range.Contains(f.Page)))
                builder.Add(fault.Done(found.Time, cause));
            open.RemoveAll(f => f.Space == space && range.Contains(f.Page));
        }
    }

    private readonly record struct Open(int Space, PageNumber Page, Instant Woken, Instant Requested)
    {
        /// <summary>The log has one thread per process.</summary>
        public FaultRecord Done(Instant time, Cause cause) =>
            new(Space, Space, Page, Access.Read, cause, Woken, Woken, Requested, time, time);
    }

    private static (Instant, Match) Parse(Regex form, string line, NumberedLines lines, string expected) =>
        form.Match(line) is { Success: true } match ? (Time(match, lines), match) : throw lines.Bad(expected);

    private static Instant Time(Match match, NumberedLines lines) =>
        long.TryParse(match.Groups["s"].ValueSpan, NumberStyles.None, CultureInfo.InvariantCulture, out long s) && s < 1_000_000_000
            ? new Instant((s * 1_000_000_000) + (long.Parse(match.Groups["us"].ValueSpan, CultureInfo.InvariantCulture) * 1000))
            : throw lines.Bad("a time of less than a billion seconds");

    private static PageNumber Page(Match match, NumberedLines lines) =>
        ulong.TryParse(match.Groups["at"].ValueSpan, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out ulong address)
            ? PageNumber.Of(address) : throw lines.Bad("an address of up to 16 hexadecimal digits");

    private static int Space(Dictionary<string, int> spaces, Match match, TraceBuilder builder)
    {
        string process = match.Groups["pid"].Value;
        if (spaces.TryGetValue(process, out int space))
            return space;
        spaces.Add(process, space = spaces.Count);
        int pid = int.TryParse(process, CultureInfo.InvariantCulture, out int number) ? number : 0;
        builder.Thread(pid, "");
        if (space == 0)
            builder.Pid = pid;
        return space;
    }

    private const string Stamp = @"^\((?<s>\d+)\.(?<us>\d{6})\)\s+";

    [GeneratedRegex(Stamp + @"uffd: (?<pid>\d+)-\d+: #PF at 0x(?<at>[0-9a-f]+)$")]
    private static partial Regex Fault();

    [GeneratedRegex(Stamp + @"uffd: (?<pid>\d+)-\d+: uffd_copy: 0x(?<at>[0-9a-f]+)/(?<bytes>\d{1,18})$")]
    private static partial Regex Copy();

    [GeneratedRegex(Stamp + @"uffd: (?<pid>\d+)-\d+: zero page at 0x(?<at>[0-9a-f]+)$")]
    private static partial Regex Zero();

    [GeneratedRegex(Stamp + @"pr\d+-\d+ Read (?<at>[0-9a-f]+) \d+ pages")]
    private static partial Regex Request();
}
