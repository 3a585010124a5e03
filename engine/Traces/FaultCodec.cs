using Testbed.Core;

namespace Testbed.Traces;

/// <summary>Turns records into the columns of a block, and back. Blocks do not depend on each other.</summary>
internal interface IBlockCodec<T> where T : struct
{
    BlockKind Kind { get; }

    void Encode(ReadOnlySpan<T> records, ColumnWriter to);

    /// <summary>Fills <paramref name="records"/>, which is grown when it is too small, and says how many there are.</summary>
    /// <exception cref="BadInputException">Malformed, or more of them than <paramref name="most"/>.</exception>
    int Decode(ReadOnlySpan<byte> payload, int threads, long most, ref T[] records);
}

/// <summary>Faults: times as differences along the way of one fault, pages and starts as differences to the fault before.</summary>
internal sealed class FaultCodec : IBlockCodec<FaultRecord>
{
    /// <summary>146 years: a time above it is none.</summary>
    public const long MaxTime = 1L << 62;

    private enum Field { Space = 1, Thread, Page, How, Woken, Read, Requested, Arrived, Resolved }

    public BlockKind Kind => BlockKind.Faults;

    public void Encode(ReadOnlySpan<FaultRecord> records, ColumnWriter to)
    {
        to.Clear();
        Column(to, Field.Space, records, static (in r, in _) => (ulong)r.Space);
        Column(to, Field.Thread, records, static (in r, in _) => (ulong)r.Thread);
        Column(to, Field.Page, records, static (in r, in before) => ColumnWriter.Zigzag(r.Page - before.Page));
        Column(to, Field.How, records, static (in r, in _) => (ulong)r.Access | (ulong)r.Cause << 1);
        Column(to, Field.Woken, records, static (in r, in before) => ColumnWriter.Zigzag(r.Woken.Nanoseconds - before.Woken.Nanoseconds));
        Column(to, Field.Read, records, static (in r, in _) => ColumnWriter.Zigzag(r.Read.Nanoseconds - r.Woken.Nanoseconds));
        Column(to, Field.Requested, records, static (in r, in _) => ColumnWriter.Zigzag(r.Requested.Nanoseconds - r.Read.Nanoseconds));
        Column(to, Field.Arrived, records, static (in r, in _) => ColumnWriter.Zigzag(r.Arrived.Nanoseconds - r.Requested.Nanoseconds));
        Column(to, Field.Resolved, records, static (in r, in _) => ColumnWriter.Zigzag(r.Resolved.Nanoseconds - r.Arrived.Nanoseconds));
    }

    public int Decode(ReadOnlySpan<byte> payload, int threads, long most, ref FaultRecord[] records)
    {
        var table = new ColumnTable(payload);
        int count = Check.Count(table.Count((int)Field.How), columns: 9, payload.Length, most);
        if (records.Length < count)
            records = new FaultRecord[count];
        var space = table.Reader((int)Field.Space);
        var thread = table.Reader((int)Field.Thread);
        var pageDelta = table.Reader((int)Field.Page);
        var how = table.Reader((int)Field.How);
        var wokenDelta = table.Reader((int)Field.Woken);
        var read = table.Reader((int)Field.Read);
        var requested = table.Reader((int)Field.Requested);
        var arrived = table.Reader((int)Field.Arrived);
        var resolved = table.Reader((int)Field.Resolved);
        long page = 0;
        long woken = 0;
        for (int i = 0; i < count; i++)
        {
            ulong bits = how.Next();
            if (bits > (1 | (int)Cause.Zero << 1))
                throw new BadInputException($"fault {i}: access and cause are {bits}; expected 0 to {1 | (int)Cause.Zero << 1}");
            page += pageDelta.NextSigned();
            woken += wokenDelta.NextSigned();
            long t1 = woken + read.NextSigned();
            long t2 = t1 + requested.NextSigned();
            long t3 = t2 + arrived.NextSigned();
            long t4 = t3 + resolved.NextSigned();
            records[i] = new FaultRecord(
                Check.Below(space.Next(), int.MaxValue, i, "address space"), Check.Below(thread.Next(), threads, i, "thread"),
                Check.Page(page, i), (Access)(bits & 1), (Cause)(bits >> 1),
                Check.Time(woken, i), Check.Time(t1, i), Check.Time(t2, i), Check.Time(t3, i), Check.Time(t4, i));
        }
        if (!(space.AtEnd && thread.AtEnd && pageDelta.AtEnd && how.AtEnd && wokenDelta.AtEnd
            && read.AtEnd && requested.AtEnd && arrived.AtEnd && resolved.AtEnd))
            throw new BadInputException($"columns of different length; expected {count} values in each");
        return count;
    }

    /// <summary>What the format cannot hold is a fault in the program that records, and must not reach the file.</summary>
    public static void ThrowIfUnfit(in FaultRecord r, int threads)
    {
        bool fits = r.Space >= 0 && (uint)r.Thread < (uint)threads && r.Page.Value <= HeaderCodec.MaxPage
            && r.Access <= Access.Write && r.Cause <= Cause.Zero
            && Check.IsTime(r.Woken) && Check.IsTime(r.Read) && Check.IsTime(r.Requested) && Check.IsTime(r.Arrived) && Check.IsTime(r.Resolved);
        if (!fits)
            throw new ArgumentException($"{r} cannot be recorded: {threads} threads are known, times are 0 to 2^62 ns");
    }

    private delegate ulong Value(in FaultRecord record, in FaultRecord before);

    private static void Column(ColumnWriter to, Field field, ReadOnlySpan<FaultRecord> records, Value value)
    {
        to.BeginColumn(records.Length);
        FaultRecord before = default;
        foreach (ref readonly FaultRecord record in records)
        {
            to.Add(value(record, before));
            before = record;
        }
        to.EndColumn((int)field);
    }
}

/// <summary>Limits that hold for every number read from a trace.</summary>
internal static class Check
{
    public static bool IsTime(Instant time) => (ulong)time.Nanoseconds <= FaultCodec.MaxTime;

    /// <summary>A count, before there is room for so many: each column has a byte at least for each record.</summary>
    public static int Count(int count, int columns, int bytes, long most)
    {
        if (count > bytes / columns)
            throw new BadInputException($"columns of different length; expected {count} values in each");
        return count <= most ? count : throw new BadInputException($"{count} records more than a file of this size can hold; expected at most {most}");
    }

    public static Instant Time(long nanoseconds, int record) => (ulong)nanoseconds <= FaultCodec.MaxTime
        ? new Instant(nanoseconds)
        : throw new BadInputException($"record {record}: time is {nanoseconds} ns; expected 0 to 2^62");

    public static PageNumber Page(long page, int record) => (ulong)page <= HeaderCodec.MaxPage
        ? new PageNumber((ulong)page)
        : throw new BadInputException($"record {record}: page number is {page}; expected 0 to 2^52");

    public static int Below(ulong value, int limit, int record, string what) => value < (ulong)limit
        ? (int)value
        : throw new BadInputException($"record {record}: {what} is {value}; expected less than {limit}");

    public static int Int(long value, int record, string what) => value == (int)value
        ? (int)value
        : throw new BadInputException($"record {record}: {what} is {value}; expected a 32-bit number");
}
