using System.Text;
using Testbed.Core;
using Testbed.Traces.Exchange;
using Testbed.Traces.Perfetto;

namespace Testbed.Traces.Tests;

/// <summary>Out and in again: nothing is lost that the format can hold.</summary>
public class ExportTests
{
    private static Trace Sample(int faults = 3000) =>
        Samples.Load(Samples.Write(Samples.Header(), Awkward(Samples.Faults(faults)), Samples.EveryEvent(), Samples.End));

    /// <summary>Every cause, a child's fault, and a request that went out before its fault.</summary>
    private static FaultRecord[] Awkward(FaultRecord[] faults)
    {
        faults[3] = faults[3] with { Cause = Cause.Prefetch, Requested = new(faults[3].Woken.Nanoseconds - 500) };
        faults[4] = faults[4] with { Cause = Cause.Background, Space = 1 };
        return faults;
    }

    private static byte[] Export(string format, Trace trace)
    {
        using var stream = new MemoryStream();
        ExchangeFormat.Named(format, export: true).Export!(trace, stream);
        return stream.ToArray();
    }

    private static Trace Import(string format, byte[] bytes) => ExchangeFormat.Named(format, export: false).Import!(new MemoryStream(bytes), "t." + format);

    [Test]
    public void TablesWithMetadataGiveBackAllButTheEvents([Values("parquet", "arrow")] string format)
    {
        // More than one batch.
        Trace trace = Sample(faults: 70_000);
        Trace back = Import(format, Export(format, trace));
        Assert.That(back.Faults, Is.EqualTo(trace.Faults));
        Assert.That(back.Threads, Is.EqualTo(trace.Threads));
        Assert.That(back.End, Is.EqualTo(trace.End));
        Assert.That(HeaderCodec.Encode(back.Header), Is.EqualTo(HeaderCodec.Encode(trace.Header)));
        Assert.That(back.Events, Is.Empty);
    }

    [Test]
    public void AnUnfinishedTraceStaysUnfinished([Values("parquet", "arrow")] string format)
    {
        Trace trace = Samples.Load(Samples.Write(Samples.Header(), Samples.Faults(10), [], end: null));
        Assert.That(Import(format, Export(format, trace)).End, Is.Null);
    }

    [Test]
    public void AnEmptyTraceIsAnEmptyTable([Values("parquet", "arrow", "csv")] string format)
    {
        Trace trace = Samples.Load(Samples.Write(Samples.Header(), [], [], Samples.End));
        Assert.That(Import(format, Export(format, trace)).Faults, Is.Empty);
    }

    [Test]
    public void CsvGivesBackTheFaults()
    {
        Trace trace = Sample();
        byte[] csv = Export("csv", trace);
        Trace back = Import("csv", csv);
        Assert.That(back.Faults, Is.EqualTo(trace.Faults));
        Assert.That(back.Header.Kind, Is.EqualTo(RecordingKind.Live), "a late prefetch is in it");
        Assert.That(back.Image.PresentPages, Is.EqualTo(trace.Faults.Where(f => f.Cause != Cause.Zero && f.Space == 0).Select(f => f.Page).Distinct().Count()));
        Assert.That(Export("csv", back), Is.EqualTo(csv));
    }

    [TestCase("0,0,0x1000,read,demand,1,2,3,4", "10 values")]
    [TestCase("0,0,4096,read,demand,1,2,3,4,5", "an address such as")]
    [TestCase("0,0,0x1000,look,demand,1,2,3,4,5", "read or write")]
    [TestCase("0,0,0x1000,read,luck,1,2,3,4,5", "demand, prefetch")]
    [TestCase("0,0,0x1000,read,demand,1,-2,3,4,5", "whole number for read")]
    [TestCase("0,9999999999,0x1000,read,demand,1,2,3,4,5", "whole number for thread")]
    public void ABadLineOfCsvIsNamed(string line, string expected)
    {
        string csv = Encoding.UTF8.GetString(Export("csv", Sample(5))) + line + "\n";
        Assert.That(() => Import("csv", Encoding.UTF8.GetBytes(csv)),
            Throws.TypeOf<BadInputException>().With.Message.StartsWith("t.csv: line 7: ").And.Message.Contains(expected));
    }

    [Test]
    public void DamagedTablesAreBadInput([Values("parquet", "arrow", "csv")] string format)
    {
        byte[] good = Export(format, Sample(200));
        var random = new Random(3);
        Assert.That(() => Import(format, []), Throws.TypeOf<BadInputException>());
        for (int round = 0; round < 300; round++)
        {
            byte[] bad = [.. round % 3 == 0 ? good[..random.Next(good.Length)] : good];
            for (int i = 0; i < 3 && bad.Length > 0; i++)
                bad[random.Next(bad.Length)] = (byte)random.Next(256);
            try
            {
                Import(format, bad);
            }
            catch (BadInputException e)
            {
                Assert.That(e.Message, Does.StartWith($"t.{format}: ").And.Not.Contain("\n"));
            }
        }
    }

    [Test]
    public void PerfettoSlicesNeverOverlapOnATrack()
    {
        Trace trace = Sample();
        PerfettoTraceFile file = new(Export("perfetto", trace));
        Assert.That(file.Slices.Count(s => file.IsStall(s.Track)), Is.EqualTo(trace.Faults.Length), "every stall is a slice");
        foreach (var track in file.Slices.GroupBy(s => s.Track))
        {
            ulong end = 0;
            foreach ((_, ulong begin, ulong slice, _) in track)
            {
                Assert.That(begin, Is.GreaterThanOrEqualTo(end), file.Tracks[track.Key].ToString());
                Assert.That(slice, Is.GreaterThanOrEqualTo(begin));
                end = slice;
            }
        }
        var threads = file.Tracks.Values.Where(t => t.Thread is not null).ToList();
        Assert.That(threads.Select(t => t.Thread.ThreadName), Is.EqualTo(trace.Threads.Select(t => t.Name)));
        Assert.That(file.Tracks.Values.Where(t => t.HasParentUuid).Select(t => t.ParentUuid), Is.All.Matches<ulong>(file.Tracks.ContainsKey));
        Assert.That(file.Tracks.Values.Select(t => t.Name), Has.Some.EqualTo("lane 0").And.Some.EqualTo("lane 0 (2 at once)"));
        Assert.That(file.Slices.Select(s => s.Name).Distinct(), Is.EquivalentTo(new[] { "demand", "prefetch", "background", "zero" }));
    }

    /// <summary>A file of Perfetto, read back: slices in the order in which they stand, which is that of each track.</summary>
    private sealed class PerfettoTraceFile
    {
        public PerfettoTraceFile(byte[] bytes)
        {
            var open = new Dictionary<ulong, (ulong Begin, string Name)>();
            foreach (TracePacket packet in Testbed.Traces.Perfetto.PerfettoTrace.Parser.ParseFrom(bytes).Packet)
            {
                if (packet.TrackDescriptor is { } descriptor)
                    Tracks.Add(descriptor.Uuid, descriptor);
                if (packet.TrackEvent is not { } e)
                    continue;
                Assert.That(Tracks, Does.ContainKey(e.TrackUuid), "described before it is used");
                if (e.Type == TrackEvent.Types.Type.SliceBegin)
                    open.Add(e.TrackUuid, (packet.Timestamp, e.Name));
                else if (open.Remove(e.TrackUuid, out var slice))
                    Slices.Add((e.TrackUuid, slice.Begin, packet.Timestamp, slice.Name));
            }
            Assert.That(open, Is.Empty, "every slice ends");
        }

        public Dictionary<ulong, TrackDescriptor> Tracks { get; } = [];

        public List<(ulong Track, ulong Begin, ulong End, string Name)> Slices { get; } = [];

        public bool IsStall(ulong track) => Tracks[track].Thread is not null || Tracks[Tracks[track].ParentUuid].Thread is not null;
    }

    [Test]
    public void FormatsAreFoundByNameAndExtension()
    {
        Assert.That(ExchangeFormat.OfFile("a/b.parquet", export: true).Name, Is.EqualTo("parquet"));
        Assert.That(ExchangeFormat.OfFile("w106.oracleGeneral.zst", export: false).Name, Is.EqualTo("oracle-general"));
        Assert.That(() => ExchangeFormat.OfFile("b.txt", export: false), Throws.TypeOf<BadInputException>().With.Message.Contains("--from"));
        Assert.That(() => ExchangeFormat.Named("perfetto", export: false), Throws.TypeOf<BadInputException>().With.Message.Contains("criu-log"));
    }
}
