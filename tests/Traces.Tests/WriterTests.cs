using Testbed.Core;

namespace Testbed.Traces.Tests;

public class WriterTests
{
    [Test]
    public void AppendingAllocatesNothing()
    {
        FaultRecord[] faults = Samples.Faults(TraceWriter.BlockRecords);
        ServiceEvent[] events = Samples.EveryEvent();
        using TraceWriter writer = TraceWriter.Create(Stream.Null, Samples.Header());
        Append(writer, faults, events, rounds: 20);
        writer.Flush();
        // Over all threads: the writer's own must not allocate either.
        long before = GC.GetTotalAllocatedBytes(precise: true);
        Append(writer, faults, events, rounds: 20);
        writer.Flush();
        long allocated = GC.GetTotalAllocatedBytes(precise: true) - before;
        Assert.That(writer.Faults, Is.EqualTo(40 * faults.Length));
        Assert.That(allocated, Is.LessThan(16 * 1024), $"for {20 * (faults.Length + events.Length)} records");
    }

    private static void Append(TraceWriter writer, FaultRecord[] faults, ServiceEvent[] events, int rounds)
    {
        for (int round = 0; round < rounds; round++)
        {
            foreach (ref readonly FaultRecord fault in faults.AsSpan())
                writer.Append(fault);
            for (int i = 0; i < 1000; i++)
            {
                foreach (ref readonly ServiceEvent e in events.AsSpan())
                    writer.Append(e);
            }
        }
    }

    [Test]
    public void WhatWasAppendedIsInTheFileAfterASecond()
    {
        string path = Path.Combine(TestContext.CurrentContext.WorkDirectory, "second.trace");
        using TraceWriter writer = TraceWriter.Create(path, Samples.Header());
        FaultRecord[] faults = Samples.Faults(10);
        foreach (FaultRecord fault in faults)
            writer.Append(fault);
        // No Flush and no Finish: this is what a crash leaves behind.
        Assert.That(() => Trace.Load(path).Faults, Is.EqualTo(faults).After(10_000, 50));
        Assert.That(Trace.Load(path).IsComplete, Is.False);
    }

    [Test]
    public void UnfinishedTraceIsReadableAndSaysSo()
    {
        FaultRecord[] faults = Samples.Faults(100);
        Trace trace = Samples.Load(Samples.Write(Samples.Header(), faults, [], end: null));
        Assert.That(trace.Faults, Is.EqualTo(faults));
        Assert.That(trace.IsComplete, Is.False);
        Assert.That(trace.IncompleteReason, Does.Contain("before its footer"));
        Assert.That(trace.Duration.Nanoseconds, Is.EqualTo(faults.Max(f => f.Resolved.Nanoseconds)));
    }

    [Test]
    public void RecordsThatTheFormatCannotHoldAreRefused()
    {
        using TraceWriter writer = TraceWriter.Create(Stream.Null, Samples.Header(threads: 2));
        FaultRecord fault = Samples.Faults(1)[0] with { Thread = 1 };
        Assert.That(() => writer.Append(fault), Throws.Nothing);
        Assert.That(() => writer.Append(fault with { Thread = 2 }), Throws.ArgumentException);
        Assert.That(() => writer.Append(fault with { Woken = new(-1) }), Throws.ArgumentException);
        Assert.That(() => writer.Append(fault with { Resolved = Instant.Never }), Throws.ArgumentException);
        Assert.That(() => writer.Append(new ServiceEvent(ServiceEventKind.Fault, new(1), 0, default) { Thread = -1 }), Throws.ArgumentException);
    }

    [Test]
    public void AFullDiskIsReportedAtTheEndAndNotWhileSomebodyWaits()
    {
        using TraceWriter writer = TraceWriter.Create(new FullAfter(20_000), Samples.Header());
        foreach (FaultRecord fault in Samples.Faults(TraceWriter.BlockRecords * 10))
            writer.Append(fault);
        Assert.That(() => writer.Finish(Samples.End), Throws.TypeOf<BadInputException>().With.Message.Contains("no space"));
    }

    [Test]
    public void AFileThatCannotBeMadeIsOneLine() =>
        Assert.That(() => TraceWriter.Create("/no/such/folder/x.trace", Samples.Header()),
            Throws.TypeOf<BadInputException>().With.Message.Contains("/no/such/folder/x.trace: cannot write"));

    [Test]
    public void AMapTooFragmentedForTheHeaderLeavesNoFile()
    {
        string path = Path.Combine(TestContext.CurrentContext.WorkDirectory, "fragmented.trace");
        File.Delete(path);
        string name = new('x', 17 << 20);
        Assert.That(() => TraceWriter.Create(path, Samples.Header() with { Workload = name }),
            Throws.TypeOf<BadInputException>().With.Message.Contains("at most"));
        Assert.That(File.Exists(path), Is.False);
    }

    private sealed class FullAfter(long bytes) : MemoryStream
    {
        public override void Write(byte[] buffer, int offset, int count)
        {
            if (Length + count > bytes)
                throw new IOException("no space left on device");
            base.Write(buffer, offset, count);
        }
    }
}
