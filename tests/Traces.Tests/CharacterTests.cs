using Testbed.Core;

namespace Testbed.Traces.Tests;

/// <summary>Figures of traces whose figures are known beforehand.</summary>
public class CharacterTests
{
    private const ulong Heap = 0x55d0_0000_0;

    private static TraceCharacter Of(string name, params (int Thread, ulong Page, long Woken, long Resolved, Cause Cause)[] touches) => new(new Trace
    {
        Name = name,
        Header = Samples.Header(areaPages: 1000),
        Threads = Samples.Header().Threads,
        Faults = [.. touches.Select(t => new FaultRecord(0, t.Thread, new PageNumber(Heap + t.Page), Access.Read, t.Cause, new(t.Woken), new(t.Woken), new(t.Woken), new(t.Resolved), new(t.Resolved)))],
        Events = [],
        End = Samples.End,
    });

    [Test]
    public void FiguresAreThoseOfTheTouches()
    {
        TraceCharacter c = Of("x.1.trace", (0, 10, 1000, 2000, Cause.Demand), (0, 11, 5000, 6000, Cause.Demand), (1, 20, 10_000, 11_000, Cause.Zero), (0, 12, 60_000, 61_000, Cause.Demand));
        Assert.That((c.Name, c.Touched, c.Holes, c.Threads), Is.EqualTo(("x.1", 4L, 1L, 2)));
        Assert.That(c.SortedRunPages, Is.EqualTo(new[] { 1, 3 }), "page 20, and 10 to 12");
        Assert.That(c.MeanRun, Is.EqualTo(2));
        Assert.That(c.Duration.Nanoseconds, Is.EqualTo(60_000), "to the last touch, not to the end of the recording");
        Assert.That(c.SortedThinkNanoseconds, Is.EqualTo(new[] { 1000, 3000, 10_000, 54_000 }));
        Assert.That(c.TouchesOverTime.Sum(), Is.EqualTo(4));
        Assert.That(c.TouchesOverTime[^1], Is.EqualTo(1));
        Assert.That(c.Rate, Is.EqualTo(4 / 60e-6).Within(1e-6));
    }

    [Test]
    public void SiblingsAreCapturesOfOneProcess()
    {
        TraceCharacter a = Of("x.1.trace", (0, 1, 1, 2, Cause.Demand), (0, 2, 3, 4, Cause.Demand), (0, 3, 5, 6, Cause.Demand));
        TraceCharacter b = Of("x.2.trace", (0, 2, 1, 2, Cause.Demand), (0, 3, 3, 4, Cause.Demand), (0, 4, 5, 6, Cause.Demand));
        Assert.That(a.IsSibling(b));
        Assert.That(a.IsSibling(a), Is.False);
        Assert.That(a.Jaccard(b), Is.EqualTo(0.5));
        Assert.That(CharacterTable.Csv([a, b]).Split('\n')[1], Does.StartWith("x.1,760,").And.Contains(",0.5,"));
        Assert.That(CharacterTable.Markdown([a, b]).Split('\n')[2], Does.StartWith("| x.1 | "));
        Assert.That(CharacterTable.Plain([a, b]).Split('\n')[2], Does.StartWith("x.2"));
    }

    [Test]
    public void ContentIsCountedAndKept()
    {
        using var counter = new PageContent.Counter();
        byte[] page = new byte[PageNumber.Size];
        counter.Add(page);
        new Random(1).NextBytes(page);
        counter.Add(page);
        Array.Clear(page, 0, 3000);
        counter.Add(page);
        PageContent content = counter.Counted;
        Assert.That((content.Pages, content.Zero, content.Compressible), Is.EqualTo((3L, 1L, 2L)));
        Assert.That(content.CompressedBytes, Is.InRange(4096 + 1096, 4096 + 1300), "noise is not made smaller, nor counted as bigger");
        TraceHeader header = Samples.Header() with { Properties = new Dictionary<string, string>(content.ToProperties()) };
        Assert.That(PageContent.From(header), Is.EqualTo(content));
        Assert.That(PageContent.From(Samples.Header()), Is.Null);
    }
}
