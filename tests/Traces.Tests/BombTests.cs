using System.Buffers.Binary;
using System.IO.Hashing;
using System.Text;
using NUnit.Framework;
using Testbed.Core;
using Testbed.Traces.Exchange;
using ZstdSharp;

namespace Testbed.Traces.Tests;

/// <summary>Small files that claim to be large: one line says so, before there is room for what they claim.</summary>
public sealed class BombTests
{
    // Of 2.5 GB that the first of these files took when nothing held it.
    private const long AllocatedMax = 700L << 20;

    [Test]
    public void Trace_is_refused_when_its_blocks_unpack_to_far_more_than_the_file()
    {
        byte[] payload = new byte[16 << 20];
        byte[] file = WithBlocks(Enumerable.Range(1, 600).Select(i => Packed((BlockKind)200, (uint)i, payload)));
        Assert.That(file, Has.Length.LessThan(1 << 20), "9 GB in a MiB");
        Refused(() => Samples.Load(file), "unpacked");
    }

    [TestCase(BlockKind.Faults, 9)]
    [TestCase(BlockKind.Events, 12)]
    public void Trace_is_refused_when_it_holds_more_records_than_it_has_room_for(BlockKind kind, int columns)
    {
        const int records = 1_300_000;
        byte[] file = WithBlocks([Packed(kind, 1, Columns(columns, records))]);
        Assert.That(file, Has.Length.LessThan(10_000));
        Refused(() => Samples.Load(file), "records");
    }

    /// <summary>One column says 16 million records, and the others say nothing.</summary>
    [TestCase(BlockKind.Faults, 4)]
    [TestCase(BlockKind.Events, 1)]
    public void Trace_is_refused_when_one_column_alone_is_long(BlockKind kind, int field)
    {
        using var payload = new MemoryStream();
        Column(payload, field, (16 << 20) - 16);
        byte[] file = WithBlocks([Packed(kind, 1, payload.ToArray())]);
        Refused(() => Samples.Load(file), "columns of different length", allocated: 150L << 20);
    }

    [Test]
    public void Trace_is_refused_when_it_names_millions_of_threads()
    {
        // An empty message: two bytes, and an object when it was read.
        byte[] payload = new byte[16 << 20];
        for (int i = 0; i < payload.Length; i += 2)
            payload[i] = 1 << 3 | 2;
        Refused(() => Samples.Load(WithBlocks([Packed(BlockKind.Threads, 1, payload)])), "names and page ranges", allocated: 100L << 20);
    }

    [TestCase(4L << 40)]
    [TestCase(1L << 62)]
    public void Replay_is_refused_when_a_tiny_trace_claims_an_address_space(long bytes)
    {
        TraceHeader header = Samples.Header() with
        {
            Image = new MemoryImage([new MemoryArea(Samples.Pages(0, bytes / PageNumber.Size), "", 3)], [Samples.Pages(5, 1)]),
            ResidentAtStart = [],
        };
        Trace trace = Samples.Load(Samples.Write(header, [], [], null));
        Refused(() => trace.FirstTouches(), "expected at most", allocated: 50L << 20);
    }

    /// <summary>A Java heap is reserved by the TiB; the trace of it may be small.</summary>
    [Test]
    public void Replay_is_taken_when_an_area_has_a_tebibyte()
    {
        TraceHeader header = Samples.Header() with
        {
            Image = new MemoryImage([new MemoryArea(Samples.Pages(0, (1L << 40) / PageNumber.Size), "", 3)], [Samples.Pages(5, 1)]),
            ResidentAtStart = [],
        };
        Assert.That(Samples.Load(Samples.Write(header, [], [], null)).FirstTouches().Count, Is.Zero);
    }

    [Test]
    public void Import_is_refused_when_zstd_unpacks_to_endless_requests()
    {
        // Records of zeros: as many requests of one object at one time as there are 24 bytes.
        using var file = new MemoryStream();
        using (var packed = new CompressionStream(file, leaveOpen: true))
        {
            byte[] zeros = new byte[24 << 16];
            for (int i = 0; i < 200; i++)
                packed.Write(zeros);
        }
        Assert.That(file.Length, Is.LessThan(100_000), "300 MB");
        file.Position = 0;
        Refused(() => ExchangeFormat.Named("oracle-general", export: false).Import!(file, "bomb.zst"), "records");
    }

    [Test]
    public void Import_takes_a_line_that_says_a_tebibyte_as_it_is()
    {
        string log = "(00.000001) uffd: 5-6: #PF at 0x7f0000000000\n(00.000002) uffd: 5-6: uffd_copy: 0x7f0000000000/1099511627776\n";
        using var file = new MemoryStream(Encoding.ASCII.GetBytes(log));
        long before = GC.GetAllocatedBytesForCurrentThread();
        Trace trace = ExchangeFormat.Named("criu-log", export: false).Import!(file, "criu.log");
        Assert.That(trace.Image.PresentPages, Is.EqualTo((1L << 40) / PageNumber.Size));
        Assert.That(GC.GetAllocatedBytesForCurrentThread() - before, Is.LessThan(16L << 20));
    }

    [TestCase("criu-log")]
    [TestCase("lackey")]
    [TestCase("perf-script")]
    [TestCase("csv")]
    public void Import_is_refused_when_a_line_has_no_end(string format)
    {
        using var file = new MemoryStream(Encoding.ASCII.GetBytes(new string('a', 50 << 20)));
        Refused(() => ExchangeFormat.Named(format, export: false).Import!(file, "long.txt"), "longer than", allocated: 20L << 20);
    }

    [Test]
    public void Lines_are_read_as_before_whatever_ends_them()
    {
        string text = "one\r\ntwo\n\nfour" + new string('x', 60_000) + "\nlast";
        using var file = new MemoryStream(Encoding.UTF8.GetBytes(text));
        Assert.That(new NumberedLines(file, "t").All(), Is.EqualTo(text.Split('\n').Select(l => l.TrimEnd('\r'))));
    }

    private static void Refused(Action read, string says, long allocated = AllocatedMax)
    {
        long before = GC.GetAllocatedBytesForCurrentThread();
        BadInputException e = Assert.Throws<BadInputException>(() => read())!;
        Assert.That(e.Message, Does.Contain(says).And.Not.Contain("\n"));
        Assert.That(GC.GetAllocatedBytesForCurrentThread() - before, Is.LessThan(allocated), "bytes allocated");
    }

    private static byte[] WithBlocks(IEnumerable<byte[]> blocks)
    {
        byte[] whole = Samples.Write(Samples.Header(), [], [], null);
        (int _, int end, BlockKind _) = RawFile.Blocks(whole).First();
        return [.. whole.AsSpan(0, end), .. blocks.SelectMany(b => b)];
    }

    private static byte[] Packed(BlockKind kind, uint sequence, byte[] payload)
    {
        using var compressor = new Compressor(3);
        byte[] stored = compressor.Wrap(payload).ToArray();
        byte[] block = new byte[Frame.Size + stored.Length];
        new Frame(kind, Codec.Zstd, sequence, stored.Length, payload.Length, Crc32.HashToUInt32(stored)).Write(block);
        stored.CopyTo(block, Frame.Size);
        return block;
    }

    private static byte[] Columns(int columns, int records)
    {
        using var payload = new MemoryStream();
        for (int field = 1; field <= columns; field++)
            Column(payload, field, records);
        return payload.ToArray();
    }

    private static void Column(MemoryStream to, int field, int records)
    {
        to.WriteByte((byte)(field << 3 | 2));
        for (uint length = (uint)records; ; length >>= 7)
        {
            to.WriteByte((byte)(length < 0x80 ? length : length | 0x80));
            if (length < 0x80)
                break;
        }
        to.Write(new byte[records]);
    }
}
