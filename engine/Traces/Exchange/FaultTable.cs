using Google.Protobuf;
using Testbed.Core;

namespace Testbed.Traces.Exchange;

/// <summary>
/// The faults of a trace as columns, as tables of other tools have them: space, thread, address, access, cause, and the five times in
/// nanoseconds since resume. Header and end go beside it, as the messages of trace.proto in base64, where a format has a place for such.
/// </summary>
internal static class FaultTable
{
    public const string HeaderKey = "testbed.trace.header", EndKey = "testbed.trace.end";

    public static readonly string[] Names = ["space", "thread", "address", "access", "cause", "woken", "read", "requested", "arrived", "resolved"];

    public static string Word(Access access) => access == Access.Write ? "write" : "read";

    public static string Word(Cause cause) => cause switch
    {
        Cause.Demand => "demand",
        Cause.Prefetch => "prefetch",
        Cause.Background => "background",
        _ => "zero",
    };

    public static Access? AccessOf(ReadOnlySpan<char> word) => word switch { "read" => Access.Read, "write" => Access.Write, _ => null };

    public static Cause? CauseOf(ReadOnlySpan<char> word) => word switch
    {
        "demand" => Cause.Demand,
        "prefetch" => Cause.Prefetch,
        "background" => Cause.Background,
        "zero" => Cause.Zero,
        _ => null,
    };

    /// <summary>What a table has no column for.</summary>
    public static IEnumerable<KeyValuePair<string, string>> Metadata(Trace trace)
    {
        // The threads of the whole trace: a table has no place for those that come later.
        yield return new(HeaderKey, Convert.ToBase64String(HeaderCodec.Encode(trace.Header with { Threads = trace.Threads })));
        if (trace.End is { } end)
            yield return new(EndKey, Convert.ToBase64String(HeaderCodec.Encode(end, default)));
    }

    /// <summary>A trace of faults and what was beside them; without that, its memory is what the faults touched.</summary>
    /// <exception cref="BadInputException">A fault that no trace can hold, by its number, or metadata that are none.</exception>
    public static Trace ToTrace(string name, FaultRecord[] faults, IReadOnlyDictionary<string, string> metadata)
    {
        TraceHeader header = Decode(metadata, HeaderKey, name, bytes => HeaderCodec.DecodeHeader(bytes)) ?? Rebuilt(name, faults);
        TraceEnd? end = Decode(metadata, EndKey, name, bytes => HeaderCodec.DecodeFooter(bytes).End);
        for (int i = 0; i < faults.Length; i++)
        {
            try
            {
                FaultCodec.ThrowIfUnfit(faults[i], header.Threads.Count);
            }
            catch (ArgumentException e)
            {
                throw new BadInputException($"{name}: fault {i}: {e.Message}", e);
            }
        }
        // Only a table without metadata needs an end: a trace that was not complete is not made so by a round trip.
        bool plain = !metadata.ContainsKey(HeaderKey);
        return new Trace
        {
            Name = name,
            Header = header,
            Threads = header.Threads,
            Faults = [.. faults.OrderBy(f => f.Woken)],
            Events = [],
            End = plain ? new TraceEnd { Duration = faults.Length == 0 ? Duration.Zero : faults.Max(f => f.Resolved) - Instant.Zero } : end,
        };
    }

    private static TraceHeader Rebuilt(string name, FaultRecord[] faults)
    {
        PageRange[] present = [.. faults.Where(f => f.Space == 0 && f.Cause != Cause.Zero).Select(f => PageRange.Single(f.Page))];
        int threads = faults.Length == 0 ? 0 : faults.Max(f => f.Thread) + 1;
        return new TraceHeader
        {
            Workload = Path.GetFileNameWithoutExtension(name),
            // A late page is one that a prefetch or the background had asked for: others may have hidden touches.
            Kind = faults.Any(f => f.Cause is Cause.Prefetch or Cause.Background) ? RecordingKind.Live : RecordingKind.Capture,
            Image = TraceBuilder.ImageOf(faults.Where(f => f.Space == 0).Select(f => PageRange.Single(f.Page)), present),
            Threads = [.. Enumerable.Range(0, Math.Clamp(threads, 0, 1 << 20)).Select(i => new TraceThread(i, 0, ""))],
            Properties = new Dictionary<string, string> { ["imported-from"] = Path.GetExtension(name).TrimStart('.') },
        };
    }

    private static T? Decode<T>(IReadOnlyDictionary<string, string> metadata, string key, string name, Func<byte[], T> decode) where T : class
    {
        if (!metadata.TryGetValue(key, out string? text))
            return null;
        try
        {
            return decode(Convert.FromBase64String(text));
        }
        catch (Exception e) when (e is FormatException or InvalidProtocolBufferException or BadInputException)
        {
            throw new BadInputException($"{name}: metadata {key}: {e.Message}", e);
        }
    }
}
