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
    public void DenseIndexAndPageAreInverse()
    {
        MemoryImage image = Samples.Header(areaPages: 64).Image;
        var index = new PageIndex(image);
        Assert.That(index.Count, Is.EqualTo(1064));
        uint expected = 0;
        foreach (MemoryArea area in image.Areas)
        {
            for (PageNumber page = area.Range.Start; page < area.Range.End; page += 1, expected++)
            {
                Assert.That(index.TryFind(page, out uint found));
                Assert.That((found, index.PageAt(found)), Is.EqualTo((expected, page)));
            }
            Assert.That(index.TryFind(area.Range.End, out _), Is.False);
        }
        Assert.That(() => index.PageAt(1064), Throws.TypeOf<ArgumentOutOfRangeException>());
    }
}
