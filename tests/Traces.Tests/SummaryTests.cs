using Testbed.Core;

namespace Testbed.Traces.Tests;

public class SummaryTests
{
    [Test]
    public void FiguresAreThoseOfTheRecords()
    {
        FaultRecord[] faults = Samples.Faults(10_000);
        Trace trace = Samples.Load(Samples.Write(Samples.Header(), faults, Samples.EveryEvent(), Samples.End));
        var summary = new TraceSummary(trace);
        FaultRecord[] fetched = [.. faults.Where(f => f.Cause == Cause.Demand).OrderBy(f => f.Latency)];
        Assert.That(summary.Faults, Is.EqualTo(10_000));
        Assert.That(summary.Events, Is.EqualTo(Samples.EveryEvent().Length));
        Assert.That(summary.Count(Cause.Demand), Is.EqualTo(fetched.Length));
        Assert.That(summary.Count(Cause.Zero), Is.EqualTo(10_000 - fetched.Length));
        Assert.That(summary.Count(Access.Write), Is.EqualTo(faults.Count(f => f.Access == Access.Write)));
        Assert.That(summary.DistinctPages, Is.EqualTo(faults.DistinctBy(f => f.Page).Count()));
        Assert.That(summary.Fetched.P50, Is.EqualTo(fetched[(fetched.Length + 1) / 2 - 1].Latency));
        Assert.That(summary.Fetched.Max, Is.EqualTo(fetched[^1].Latency));
        Assert.That(summary.Fetched.Sum.Nanoseconds, Is.EqualTo(fetched.Sum(f => f.Latency.Nanoseconds)));
        Assert.That(summary.Transfer.P50.Microseconds, Is.InRange(7, 9));
        Assert.That(summary.Duration, Is.EqualTo(Samples.End.Duration));
        Assert.That(summary.Threads.Sum(t => t.Faults), Is.EqualTo(10_000));
    }

    [Test]
    public void RunsAreCountedPerThread()
    {
        FaultRecord any = Samples.Faults(1)[0];
        (int Thread, ulong Page)[] touches = [(0, 10), (1, 50), (0, 11), (1, 7), (0, 12), (1, 8)];
        FaultRecord[] faults = [.. touches.Select((t, i) => any with { Thread = t.Thread, Page = new(t.Page), Woken = new(i) })];
        var summary = new TraceSummary(Samples.Load(Samples.Write(Samples.Header(), faults, [], Samples.End)));
        Assert.That((summary.SequentialRuns, summary.LongestRun), Is.EqualTo((3, 3)));
        Assert.That(summary.MeanRun, Is.EqualTo(2));
    }

    [Test]
    public void TextSaysWhatAPersonAsksFirst()
    {
        Trace trace = Samples.Load(Samples.Write(Samples.Header(), Samples.Faults(10_000), Samples.EveryEvent(), Samples.End));
        string text = new TraceSummary(trace).Render();
        TestContext.Out.WriteLine(text);
        foreach (string wanted in new[] { "redis-server *:6379", "complete, Drained", "6.18.0", "2026-11-23 12:00:00 UTC", "p99.9", "worker 3", "demand", "12.5 s" })
            Assert.That(text, Does.Contain(wanted));
        Assert.That(text, Does.Not.Contain("\x1b"));
        Assert.That(text.Split('\n').Max(l => l.Length), Is.LessThan(110));
    }

    [Test]
    public void NamesOfTheTargetCannotSteerTheTerminal()
    {
        TraceHeader header = Samples.Header() with { Workload = "evil\x1b[2J", Threads = [new TraceThread(0, 1, "\x1b[31m")] };
        Assert.That(new TraceSummary(Samples.Load(Samples.Write(header, [], [], null))).Render(), Does.Not.Contain("\x1b"));
    }

    [Test]
    public void EmptyAndUnfinishedTracesAreDescribedToo()
    {
        Trace trace = Samples.Load(Samples.Write(Samples.Header(threads: 0), [], [], end: null));
        Assert.That(new TraceSummary(trace).Render(), Does.Contain("NOT complete: cut off at byte"));
        Assert.That(TracePicture.Render(trace), Is.EqualTo("no faults to draw\n"));
    }

    [Test]
    public void PictureShowsAScanAsARisingLine()
    {
        FaultRecord any = Samples.Faults(1)[0];
        FaultRecord[] scan = [.. Enumerable.Range(0, 4000).Select(i =>
            any with { Page = new(0x55d0_0000_0 + (ulong)i), Woken = new(i * 1_000_000L), Resolved = new(i * 1_000_000L + 1000) })];
        string picture = TracePicture.Render(Samples.Load(Samples.Write(Samples.Header(), scan, [], Samples.End with { Duration = new(4_000_000_000) })), 40, 10);
        TestContext.Out.WriteLine(picture);
        string[] rows = picture.Split('\n')[1..11];
        int[] firstDot = [.. rows.Select(r => r.IndexOfAny([.. Enumerable.Range(0x2801, 255).Select(c => (char)c)]))];
        // The top row has the latest touches.
        Assert.That(firstDot, Is.Ordered.Descending.And.All.GreaterThan(0));
        Assert.That(picture, Does.Contain("0x55d00000000").And.Contain("[heap]").And.Contain("4 s").And.Contain("time since resume"));
    }

    [Test]
    public void PictureLeavesOutWhatNobodyTouched()
    {
        FaultRecord[] low = Samples.Faults(2000, areaPages: 500);
        FaultRecord[] high = [.. low.Select(f => f with { Page = f.Page + (0x7f10_0000_0L - 0x55d0_0000_0L) })];
        string picture = TracePicture.Render(Samples.Load(Samples.Write(Samples.Header(), [.. low, .. high], [], Samples.End with { Duration = Duration.Zero })));
        TestContext.Out.WriteLine(picture);
        Assert.That(picture, Does.Contain("in 2\n").And.Contain("0x55d00000000").And.Contain("0x7f100000000"));
        Assert.That(picture.Split('\n')[1..21].Count(r => r.Any(c => c > 0x2800)), Is.EqualTo(20), "every row has dots");
    }
}
