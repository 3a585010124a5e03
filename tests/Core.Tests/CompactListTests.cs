using NUnit.Framework;
using Testbed.Core;

namespace Core.Tests;

[TestFixture]
public sealed class CompactListTests
{
    [Test]
    public void What_does_not_fit_into_4_bytes_is_kept_as_it_is()
    {
        var list = new CompactList<Duration>(ns => new Duration(ns));
        long[] numbers = [.. Enumerable.Range(0, 20_000).Select(i => i == 9000 ? uint.MaxValue : i == 10_000 ? uint.MaxValue + 1L : i == 11_000 ? -5 : i * 7L)];
        foreach (long number in numbers)
            list.Add(number);
        Assert.That(list, Has.Count.EqualTo(numbers.Length));
        Assert.That(list.Select(d => d.Nanoseconds), Is.EqualTo(numbers));
        Assert.That(Enumerable.Range(0, numbers.Length).Select(i => list[i].Nanoseconds), Is.EqualTo(numbers));
        Assert.That(() => list[numbers.Length], Throws.InstanceOf<ArgumentOutOfRangeException>());
    }

    [Test]
    public void It_takes_4_bytes_each()
    {
        const int Count = 1_000_000;
        long before = GC.GetAllocatedBytesForCurrentThread();
        var list = new CompactList<Duration>(ns => new Duration(ns));
        for (int i = 0; i < Count; i++)
            list.Add(i);
        Assert.That(GC.GetAllocatedBytesForCurrentThread() - before, Is.LessThan(4.1 * Count));
    }
}
