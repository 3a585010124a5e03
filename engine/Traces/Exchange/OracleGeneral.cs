using System.Buffers.Binary;
using System.Globalization;
using Testbed.Core;
using ZstdSharp;

namespace Testbed.Traces.Exchange;

/// <summary>
/// libCacheSim's oracleGeneral (Yang, Qiu, Zhang, Yue, Rashmi, SOSP 2023): records of 24 bytes, little-endian, without padding: time in seconds
/// (uint32), object (uint64), size (uint32), when the object is next requested, as a record's number (int64, -1: never). An object becomes a
/// page; of its requests the first counts, for later ones find it there. Requests of one second are spread over it evenly.
/// </summary>
internal static class OracleGeneral
{
    private const int RecordSize = 24;
    private const uint ZstdMagic = 0xFD2FB528;

    public static Trace Read(Stream stream, string name)
    {
        var builder = new TraceBuilder(name, "libCacheSim oracleGeneral") { Kind = RecordingKind.Generated };
        List<(uint Second, ulong Object)> requests = Requests(stream, name, out ulong highest);
        // Block numbers are pages as they are; hashes are numbered by their order, for no address space is that wide.
        Dictionary<ulong, ulong>? numbered = highest < HeaderCodec.MaxPage ? null
            : requests.Select(r => r.Object).Distinct().Order().Select((o, i) => (o, (ulong)i)).ToDictionary(p => p.o, p => p.Item2);
        int thread = builder.Thread(0, "");
        var seen = new HashSet<ulong>();
        for (int i = 0; i < requests.Count;)
        {
            int next = i;
            while (next < requests.Count && requests[next].Second == requests[i].Second)
                next++;
            for (int k = i; k < next; k++)
            {
                ulong page = numbered is null ? requests[k].Object : numbered[requests[k].Object];
                if (seen.Add(page))
                    builder.Touch(thread, new PageNumber(page), Access.Read, new Instant((requests[k].Second * 1_000_000_000L) + (1_000_000_000L * (k - i) / (next - i))));
            }
            i = next;
        }
        builder.Properties["requests"] = requests.Count.ToString(CultureInfo.InvariantCulture);
        builder.Properties["objects"] = numbered is null ? "are page numbers" : "are numbered by order";
        return builder.Build("records of 24 bytes");
    }

    private static List<(uint, ulong)> Requests(Stream stream, string name, out ulong highest)
    {
        using var buffered = new BufferedStream(stream, 1 << 16);
        byte[] record = new byte[RecordSize];
        int got = buffered.ReadAtLeast(record, 4, throwOnEndOfStream: false);
        buffered.Position = 0;
        using Stream plain = got >= 4 && BinaryPrimitives.ReadUInt32LittleEndian(record) == ZstdMagic ? new DecompressionStream(buffered, leaveOpen: true) : buffered;
        var requests = new List<(uint, ulong)>();
        highest = 0;
        uint time = 0;
        while ((got = ReadRecord(plain, record, name, requests.Count)) == RecordSize)
        {
            uint second = BinaryPrimitives.ReadUInt32LittleEndian(record);
            long next = BinaryPrimitives.ReadInt64LittleEndian(record.AsSpan(16));
            if (second < time)
                throw Bad(name, requests.Count, $"time {second} after {time}", "times that do not fall");
            if (next < -1 || (next != -1 && next <= requests.Count && next != 0))
                throw Bad(name, requests.Count, $"next request {next}", "-1 or the number of a later record");
            time = second;
            ulong id = BinaryPrimitives.ReadUInt64LittleEndian(record.AsSpan(4));
            highest = Math.Max(highest, id);
            requests.Add((second, id));
            if (requests.Count % 4096 == 0)
                Budget.CheckRecords(name, requests.Count, stream.Length);
        }
        return got == 0 ? requests : throw Bad(name, requests.Count, $"cut off after {got} bytes", $"{RecordSize}");
    }

    private static int ReadRecord(Stream stream, byte[] record, string name, int number)
    {
        try
        {
            return stream.ReadAtLeast(record, RecordSize, throwOnEndOfStream: false);
        }
        catch (Exception e) when (e is ZstdException or EndOfStreamException)
        {
            throw Bad(name, number, $"the zstd stream breaks off ({e.Message})", "a whole one");
        }
    }

    private static BadInputException Bad(string name, int number, string wrong, string expected) => new($"{name}: record {number}: {wrong}; expected {expected}");
}
