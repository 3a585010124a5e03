using Testbed.Core;

namespace Testbed.Traces.Tests;

public class FirstTouchTests
{
    private const ulong Heap = 0x55d0_0000_0;
    private const ulong Other = 0x7f10_0000_0;

    private static FaultRecord Fault(int thread, ulong page, long woken, long resolved, Access access = Access.Read, int space = 0) =>
        new(space, thread, new PageNumber(page), access, Cause.Demand, new(woken), new(woken), new(woken), new(resolved), new(resolved));

    private static FirstTouches Touches(params FaultRecord[] faults) =>
        Samples.Load(Samples.Write(Samples.Header(areaPages: 64), faults, [], Samples.End)).FirstTouches();

    [Test]
    public void ThinkTimeIsCountedPerThreadFromItsLastResolution()
    {
        FirstTouches touches = Touches(
            Fault(1, Heap + 5, 100, 150, Access.Write), Fault(0, Heap + 6, 110, 170), Fault(1, Heap + 7, 400, 450), Fault(0, Other, 1000, 1100));
        Assert.That(touches.Threads.Select(t => t.Thread), Is.EqualTo(new[] { 0, 1 }));
        Assert.That(touches.Threads[0].Pages, Is.EqualTo(new uint[] { 6, 64 }));
        Assert.That(touches.Threads[0].ThinkNanoseconds, Is.EqualTo(new long[] { 110, 830 }));
        Assert.That(touches.Threads[1].Pages, Is.EqualTo(new uint[] { 5, 7 }));
        Assert.That(touches.Threads[1].ThinkNanoseconds, Is.EqualTo(new long[] { 100, 250 }));
        Assert.That(touches.Threads[1].Access, Is.EqualTo(new[] { Access.Write, Access.Read }));
        Assert.That(touches.Count, Is.EqualTo(4));
    }

    [Test]
    public void AFaultSeenBeforeTheStampOfTheLastResolutionHasNoThinkTime()
    {
        FirstTouches touches = Touches(Fault(0, Heap, 100, 200), Fault(0, Heap + 1, 190, 300), Fault(0, Heap + 2, 310, 320));
        Assert.That(touches.Threads[0].ThinkNanoseconds, Is.EqualTo(new long[] { 100, 0, 10 }));
    }

    [Test]
    public void ARepeatedFaultCountsOnceAndItsThinkTimeIsKept()
    {
        FirstTouches touches = Touches(Fault(0, Heap, 100, 200), Fault(0, Heap, 250, 300), Fault(0, Heap + 1, 400, 500));
        Assert.That(touches.Threads[0].Pages, Is.EqualTo(new uint[] { 0, 1 }));
        Assert.That(touches.Threads[0].ThinkNanoseconds, Is.EqualTo(new long[] { 100, 50 + 100 }));
    }

    [Test]
    public void TwoThreadsThatTouchOnePageBothCount() =>
        Assert.That(Touches(Fault(0, Heap, 100, 200), Fault(1, Heap, 110, 200)).Count, Is.EqualTo(2));

    [Test]
    public void PagesOutsideTheImageAndOtherSpacesAreLeftOut()
    {
        FirstTouches touches = Touches(Fault(0, 5, 100, 200), Fault(0, Heap, 300, 400), Fault(1, Heap, 100, 200, space: 1));
        Assert.That(touches.OutsideAreas, Is.EqualTo(1));
        Assert.That(touches.Threads, Has.Count.EqualTo(1));
        Assert.That(touches.Threads[0].ThinkNanoseconds, Is.EqualTo(new long[] { 200 }));
    }

    [Test]
    public void TouchesThatTheFirstResponseNeededAreKnown()
    {
        FaultRecord[] faults = [Fault(0, Heap, 100, 200), Fault(1, Heap + 1, 150, 260), Fault(0, Heap + 2, 250, 301), Fault(1, Heap + 3, 400, 500)];
        TraceEnd end = Samples.End with { TimeToFirstResponse = new Duration(300) };
        FirstTouches touches = Samples.Load(Samples.Write(Samples.Header(areaPages: 64), faults, [], end)).FirstTouches();
        Assert.That(touches.Threads.Select(t => t.BeforeFirstResponse), Is.EqualTo(new[] { 1, 1 }));
        Assert.That(touches.FirstResponseTail, Is.EqualTo(new Duration(40)));
        touches = Samples.Load(Samples.Write(Samples.Header(areaPages: 64), faults, [], end with { TimeToFirstResponse = null })).FirstTouches();
        Assert.That(touches.Threads.Select(t => t.BeforeFirstResponse), Is.All.Zero);
        Assert.That(touches.FirstResponseTail, Is.Null);
    }

    [Test]
    public void RecordingIsEachPageOnceInOrderOfFirstTouch() =>
        Assert.That(Touches(Fault(0, Other, 100, 110), Fault(1, Heap, 200, 210), Fault(1, Other, 300, 310), Fault(0, 5, 400, 410)).Recording,
            Is.EqualTo(new PageNumber[] { new(Other), new(Heap) }));

    [Test]
    public void AMemoryTooLargeForAReplayIsOneLine()
    {
        TraceHeader header = Samples.Header() with { Image = new MemoryImage([new MemoryArea(Samples.Pages(1, 1L << 33), "", 3)], []) };
        Assert.That(() => Samples.Load(Samples.Write(header, [], [], Samples.End)).FirstTouches(),
            Throws.TypeOf<BadInputException>().With.Message.StartsWith("sample.trace: memory of 8589934592 pages"));
    }
}
