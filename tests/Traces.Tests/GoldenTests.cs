using Testbed.Core;

namespace Testbed.Traces.Tests;

/// <summary>Bytes written once and kept: a trace of today must be readable for good, so the format cannot drift silently.</summary>
public class GoldenTests
{
    /// <summary>Version 1. Never change this: a format that needs it changed is a new version.</summary>
    private const string Version1 =
        "894C52540D0A1A0A010000004C52544201000000000000007F0000007F00000022731FB30093727D0A0274311A0474696E792203636174284D320436" +
        "2E3138400248FBA0F1C2B1345204686561705801620A6E6578742D6E3A6E3D346A0B31476269742F732C316D73780982010E0864100A1A065B686561" +
        "705D200382010708C801100520018A0106640402025C059201026D019A0107104D1A03636174A201060A016B1201764C525442040000000100000009" +
        "000000090000008E5C0ECC508617FE0A070801104E1A01784C52544202000000020000003C0000003C0000001BAA0AAF68585B990A03000001120300" +
        "01011A04CE01010422030102062A07D00FD00FA099023206D804D804A0063A059003BF0C00420598759875004A06A01FF02ED0284C52544203010000" +
        "030000009A000000D60000000C97E16DE8CAF02928B52FFD20D68D040002071A2590398D01FF505FE9664AF1ED7FFB7E68C6F1B9D31A8F87B6A2A6A0" +
        "6F6D45414F7AA9112953FFF8182251D5078E6BEDD31A311BFF610B1843CD772EA82BCAB969BA5371976577778BB25BA9BEBB32D5C888C4781E3EECB9" +
        "4899342918080140F434A761106F28A3110062280142013320000807EC0293689019CF410889631A62CA8A14635DBB381996706D73634C5254420500" +
        "00000400000022000000220000000295BB14A1C5DD040803100D180220042880BABBC82E39EFBEADDE0000000040C08DB7014A0466696E65";

    private static TraceHeader Header => new()
    {
        ToolVersion = "t1",
        Workload = "tiny",
        TargetCommandLine = "cat",
        TargetPid = 77,
        Kernel = "6.18",
        CpuCount = 2,
        Recorded = DateTimeOffset.FromUnixTimeMilliseconds(1_800_000_000_123),
        Region = "heap",
        Kind = RecordingKind.Live,
        Policy = "next-n:n=4",
        Link = "1Gbit/s,1ms",
        Seed = 9,
        Image = new MemoryImage([new MemoryArea(Samples.Pages(100, 10), "[heap]", 3), new MemoryArea(Samples.Pages(200, 5), "", 1)],
            [Samples.Pages(100, 4), Samples.Pages(106, 2), Samples.Pages(200, 5)]),
        ResidentAtStart = [Samples.Pages(109, 1)],
        Threads = [new TraceThread(0, 77, "cat")],
        Properties = new Dictionary<string, string> { ["k"] = "v" },
    };

    private static FaultRecord[] Faults =>
    [
        new(0, 0, new(103), Access.Write, Cause.Demand, new(1000), new(1300), new(1500), new(9000), new(11000)),
        new(0, 1, new(102), Access.Read, Cause.Prefetch, new(2000), new(2300), new(1500), new(9000), new(12000)),
        new(1, 1, new(104), Access.Read, Cause.Zero, new(20000), new(20400), new(20400), new(20400), new(23000)),
    ];

    private static byte[] Write()
    {
        using var stream = new MemoryStream();
        using (TraceWriter writer = TraceWriter.Create(stream, Header, Samples.Never))
        {
            writer.AddThread(78, "x");
            writer.Flush();
            foreach (FaultRecord fault in Faults)
                writer.Append(fault);
            writer.Flush();
            foreach (ServiceEvent e in EventsOfThen)
                writer.Append(e with { Thread = 0 });
            writer.Finish(Samples.End);
        }
        return stream.ToArray();
    }

    /// <summary>The kinds that there were when the bytes were written.</summary>
    private static IEnumerable<ServiceEvent> EventsOfThen => Samples.EveryEvent().Where(e => e.Kind <= ServiceEventKind.Drain);

    [Test]
    public void OldBytesReadAsTheyDid()
    {
        Trace trace = Samples.Load(Convert.FromHexString(Version1));
        Assert.That(trace.Faults, Is.EqualTo(Faults));
        Assert.That(trace.Events, Is.EqualTo(EventsOfThen.Select(e => e with { Thread = 0 })));
        Assert.That(trace.End, Is.EqualTo(Samples.End));
        Assert.That(trace.Threads, Is.EqualTo(new[] { new TraceThread(0, 77, "cat"), new TraceThread(1, 78, "x") }));
        Assert.That(trace.Image.Areas, Is.EqualTo(Header.Image.Areas));
        Assert.That(trace.Image.Present, Is.EqualTo(Header.Image.Present));
        Assert.That(trace.Header.ResidentAtStart, Is.EqualTo(Header.ResidentAtStart));
        Assert.That(trace.Header with { Image = null!, ResidentAtStart = [], Threads = [], Properties = null! },
            Is.EqualTo(Header with { Image = null!, ResidentAtStart = [], Threads = [], Properties = null! }));
    }

    /// <summary>Compared unpacked: another version of zstd may pack otherwise.</summary>
    [Test]
    public void TheSameTraceGivesTheSameBytes()
    {
        byte[] written = Write();
        byte[] golden = Convert.FromHexString(Version1);
        string now = Convert.ToHexString(written);
        Assert.That(written[..FilePrefix.Size], Is.EqualTo(golden[..FilePrefix.Size]));
        Assert.That(RawFile.Payloads(written), Is.EqualTo(RawFile.Payloads(golden)), $"now: {now}");
    }
}
