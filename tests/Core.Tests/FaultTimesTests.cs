using NUnit.Framework;
using Testbed.Core;

namespace Core.Tests;

[TestFixture]
public sealed class FaultTimesTests
{
    private const long Hour = 3_600_000_000_000;

    [Test]
    public void What_does_not_fit_into_4_bytes_is_kept_as_it_is()
    {
        var times = new FaultTimes();
        long[] waits = [.. Enumerable.Range(0, 20_000).Select(i => i switch
        {
            9000 => uint.MaxValue - 1L,
            9001 => uint.MaxValue,
            10_000 => uint.MaxValue + 1L,
            11_000 => -5,
            _ => i * 7L,
        })];
        long[] ends = [.. Enumerable.Range(0, waits.Length).Select(i => (i * 1024L * 3) + (i > 10_000 ? 5 * Hour : 0) + (i > 15_000 ? 500_000 * Hour : 0))];
        for (int i = 0; i < waits.Length; i++)
            times.Add(new Duration(waits[i]), new Instant(ends[i] + (i % 1024)));
        Assert.That(times.Latencies, Has.Count.EqualTo(waits.Length));
        Assert.That(times.Latencies.Select(d => d.Nanoseconds), Is.EqualTo(waits));
        Assert.That(times.ResolvedAt.Select(t => t.Nanoseconds), Is.EqualTo(ends));
        Assert.That(Enumerable.Range(0, waits.Length).Select(i => times.Latencies[i].Nanoseconds), Is.EqualTo(waits));
        Assert.That(() => times.Latencies[waits.Length], Throws.InstanceOf<ArgumentOutOfRangeException>());
    }

    [Test]
    public void It_takes_8_bytes_each_however_long_the_run()
    {
        const int Count = 1_000_000;
        long before = GC.GetAllocatedBytesForCurrentThread();
        var times = new FaultTimes();
        for (int i = 0; i < Count; i++)
            times.Add(new Duration(i), new Instant(i * 1_000_000_000L / 4));
        Assert.That(GC.GetAllocatedBytesForCurrentThread() - before, Is.LessThan(8.2 * Count));
    }
}
