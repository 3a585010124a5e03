using CsCheck;
using Testbed.Core;

namespace Testbed.Traces.Tests;

public class RoundTripTests
{
    [Test]
    public void HeaderAndFooterComeBack()
    {
        TraceHeader header = Samples.Header();
        Trace trace = Samples.Load(Samples.Write(header, [], [], Samples.End));
        Assert.That(trace.IsComplete);
        Assert.That(trace.End, Is.EqualTo(Samples.End));
        Assert.That(trace.Image.Areas, Is.EqualTo(header.Image.Areas));
        Assert.That(trace.Image.Present, Is.EqualTo(header.Image.Present));
        Assert.That(trace.Header.ResidentAtStart, Is.EqualTo(header.ResidentAtStart));
        Assert.That(trace.Threads, Is.EqualTo(header.Threads));
        Assert.That(trace.Header.Properties, Is.EqualTo(header.Properties.OrderBy(p => p.Key)));
        // The rest has the equality of records once the lists are the same objects.
        Assert.That(trace.Header with { Image = header.Image, ResidentAtStart = header.ResidentAtStart, Threads = header.Threads, Properties = header.Properties },
            Is.EqualTo(header));
    }

    [Test]
    public void FaultsAndEventsOfManyBlocksComeBackInOrder()
    {
        FaultRecord[] faults = Samples.Faults(TraceWriter.BlockRecords * 2 + 17);
        ServiceEvent[] events = [.. Enumerable.Repeat(Samples.EveryEvent(), 2000).SelectMany(e => e)];
        Trace trace = Samples.Load(Samples.Write(Samples.Header(), faults, events, Samples.End));
        Assert.That(trace.Faults.AsSpan().SequenceEqual(faults));
        Assert.That(trace.Events.AsSpan().SequenceEqual(events));
    }

    [Test]
    public void EveryKindOfEventIsTried() =>
        Assert.That(Samples.EveryEvent().Select(e => e.Kind).Distinct(), Is.EquivalentTo(Enum.GetValues<ServiceEventKind>()));

    [Test]
    public void AnyFaultThatFitsComesBack()
    {
        Gen<long> time = Gen.OneOf(Gen.Long[0, 1L << 40], Gen.Long[0, 1L << 62]);
        Gen<FaultRecord> fault = Gen.Select(Gen.Int[0, int.MaxValue - 1], Gen.Int[0, 3], Gen.ULong[0, 1UL << 52], Gen.Int[0, 7], time.Array[5],
            (space, thread, page, how, t) => new FaultRecord(space, thread, new(page), (Access)(how & 1), (Cause)(how >> 1),
                new(t[0]), new(t[1]), new(t[2]), new(t[3]), new(t[4])));
        fault.Array[0, 50].Sample(faults =>
            Samples.Load(Samples.Write(Samples.Header(areaPages: 64), faults, [], Samples.End)).Faults.SequenceEqual(faults.OrderBy(f => f.Woken)), iter: 300);
    }

    [Test]
    public void AnyEventThatFitsComesBack()
    {
        Gen<long> time = Gen.OneOf(Gen.Long[0, 1L << 40], Gen.Long[0, 1L << 62]);
        Gen<ServiceEvent> any = Gen.Select(Gen.Int[0, 11], time.Array[2], Gen.ULong[0, 1UL << 52].Array[3], Gen.Int.Array[4], Gen.Int[0, 3], Gen.Int[0, 9],
            (kind, t, p, n, thread, how) => new ServiceEvent((ServiceEventKind)kind, new(t[0]), n[0], new(new(p[0]), (long)p[1]))
            {
                Thread = thread,
                Access = (Access)(how & 1),
                Outcome = (InstallOutcome)(how >> 1),
                Woken = new(t[1]),
                Lane = n[1],
                Request = n[2],
                Destination = new(p[2]),
                Other = n[3],
            });
        any.Array[0, 50].Sample(events =>
            Samples.Load(Samples.Write(Samples.Header(areaPages: 64), [], events, Samples.End)).Events.SequenceEqual(events), iter: 300);
    }

    [Test]
    public void ThreadsAddedWhileRecordingAreKnownBeforeTheyAreNamed()
    {
        using var stream = new MemoryStream();
        var added = new List<TraceThread>();
        using (TraceWriter writer = TraceWriter.Create(stream, Samples.Header(threads: 0)))
        {
            for (int i = 0; i < 50; i++)
            {
                int index = writer.AddThread(1000 + i, $"late {i}");
                added.Add(new TraceThread(index, 1000 + i, $"late {i}"));
                foreach (FaultRecord fault in Samples.Faults(TraceWriter.BlockRecords / 7, seed: i))
                    writer.Append(fault with { Thread = index });
            }
            writer.Finish(Samples.End);
        }
        Trace trace = Samples.Load(stream.ToArray());
        Assert.That(trace.Threads, Is.EqualTo(added));
        Assert.That(trace.Faults, Has.Length.EqualTo(50 * (TraceWriter.BlockRecords / 7)));
    }

    [Test]
    public void FaultsRecordedInOrderOfResolutionAreSortedByWaking()
    {
        FaultRecord[] faults = Samples.Faults(5000);
        FaultRecord[] shuffled = [.. faults];
        new Random(3).Shuffle(shuffled);
        Trace trace = Samples.Load(Samples.Write(Samples.Header(), shuffled, [], Samples.End));
        Assert.That(trace.Faults, Is.EqualTo(faults.OrderBy(f => f.Woken)));
    }

    [Test]
    public void SeveralThreadsMayAppend()
    {
        FaultRecord[] faults = Samples.Faults(40_000);
        using var stream = new MemoryStream();
        using (TraceWriter writer = TraceWriter.Create(stream, Samples.Header()))
        {
            Parallel.For(0, 4, part =>
            {
                for (int i = part; i < faults.Length; i += 4)
                    writer.Append(faults[i]);
            });
            writer.Finish(Samples.End);
        }
        Assert.That(Samples.Load(stream.ToArray()).Faults, Is.EqualTo(faults.OrderBy(f => f.Woken)));
    }

    [Test]
    public void AFaultTakesAFewBytes()
    {
        FaultRecord[] faults = Samples.Faults(200_000);
        int bytes = Samples.Write(Samples.Header(), faults, [], Samples.End).Length;
        TestContext.Out.WriteLine($"{bytes / (double)faults.Length:0.00} bytes per fault");
        Assert.That(bytes / (double)faults.Length, Is.LessThan(12));
    }

    [Test]
    public void GeneratedParserReadsTheSameColumns()
    {
        FaultRecord[] faults = Samples.Faults(100);
        var columns = new ColumnWriter();
        new FaultCodec().Encode(faults, columns);
        Proto.Faults message = Proto.Faults.Parser.ParseFrom(columns.Payload);
        Assert.That(message.Thread, Is.EqualTo(faults.Select(f => (uint)f.Thread)));
        Assert.That(message.How, Is.EqualTo(faults.Select(f => (uint)f.Access | (uint)f.Cause << 1)));
        Assert.That(message.PageDelta.Sum(), Is.EqualTo((long)faults[^1].Page.Value));
        Assert.That(message.ReadAfterWoken, Is.EqualTo(faults.Select(f => f.Read.Nanoseconds - f.Woken.Nanoseconds)));
        Assert.That(message.ResolvedAfterArrived, Is.EqualTo(faults.Select(f => f.Resolved.Nanoseconds - f.Arrived.Nanoseconds)));

        ServiceEvent[] events = Samples.EveryEvent();
        new EventCodec().Encode(events, columns);
        Proto.Events kept = Proto.Events.Parser.ParseFrom(columns.Payload);
        Assert.That(kept.Kind, Is.EqualTo(events.Select(e => (uint)e.Kind)));
        Assert.That(kept.Request, Is.EqualTo(events.Select(e => (long)e.Request)));
        Assert.That(kept.Other, Is.EqualTo(events.Select(e => (long)e.Other)));
        Assert.That(kept.Destination, Is.EqualTo(events.Select(e => e.Destination.Value)));
    }
}
