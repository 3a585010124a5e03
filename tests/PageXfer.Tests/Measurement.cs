using System.Diagnostics;
using System.Net.Sockets;
using Testbed.Core;
using Testbed.PageXfer.Images;
using Testbed.PageXfer.Server;
using Testbed.PageXfer.Xfer;

namespace Testbed.PageXfer.Tests;

/// <summary>Prints what loopback gives on this machine; asserts no figure, for machines differ.</summary>
public sealed class Measurement
{
    [TestCase(true, TestName = "Loopback, the client spins")]
    [TestCase(false, TestName = "Loopback, the client polls")]
    public void Loopback(bool spins)
    {
        using var dir = new Scratch();
        Sample.Write(dir.Path);
        using var images = ImageDirectory.Open(dir.Path);
        using var server = new PageServer(new PageServerOptions { Source = images });
        using PageLane lane = PageLane.Connect(server.EndPoint);
        var receiver = new ServerTests.OneBuffer();
        var times = new long[5000];
        for (int i = -1000; i < times.Length; i++)
        {
            long begin = Stopwatch.GetTimestamp();
            lane.Request(0, Sample.Pid, PageRange.Single(Sample.Heap + (i & 511)));
            while (lane.Outstanding > 0)
            {
                if (!spins)
                    lane.Socket.Poll(-1, SelectMode.SelectRead);
                lane.Receive(receiver);
            }
            if (i >= 0)
                times[i] = Stopwatch.GetTimestamp() - begin;
        }
        Array.Sort(times);
        TestContext.Out.WriteLine($"one page: p50 {new Duration(times[2500])}, p99 {new Duration(times[4950])}");

        long start = Stopwatch.GetTimestamp();
        for (int i = 0; i < 400; i++)
            lane.Request(i, Sample.Pid, new PageRange(Sample.Heap, 512));
        while (lane.Outstanding > 0)
        {
            if (!spins)
                lane.Socket.Poll(-1, SelectMode.SelectRead);
            lane.Receive(receiver);
        }
        double seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
        TestContext.Out.WriteLine($"bulk: {400 * 512 * 4096L / seconds / 1e9:0.00} GB/s");
        Assert.That(server.PagesSent, Is.EqualTo(6000 + 400 * 512));
    }

    [Test]
    public void HowLateTheShapedLinkIs()
    {
        using var dir = new Scratch();
        Sample.Write(dir.Path);
        using var images = ImageDirectory.Open(dir.Path);
        var link = new LinkParameters(ByteRate.FromBitsPerSecond(1e9), Duration.FromMilliseconds(1));
        using var server = new PageServer(new PageServerOptions { Source = images, Link = link });
        using PageLane lane = PageLane.Connect(server.EndPoint);
        var receiver = new ServerTests.OneBuffer();
        long due = (link.Rate.TimeFor(PageNumber.Size) + link.RoundTrip).Nanoseconds;
        var late = new long[1000];
        for (int i = 0; i < late.Length; i++)
        {
            long begin = Stopwatch.GetTimestamp();
            lane.Request(0, Sample.Pid, PageRange.Single(Sample.Heap + (i & 511)));
            while (lane.Outstanding > 0)
            {
                lane.Socket.Poll(-1, SelectMode.SelectRead);
                lane.Receive(receiver);
            }
            late[i] = Stopwatch.GetTimestamp() - begin - due;
        }
        Array.Sort(late);
        TestContext.Out.WriteLine($"one page over 1 Gbit/s, 1 ms: p50 {new Duration(late[500])}, p99 {new Duration(late[990])} after it is due");
        Assert.That(late[0], Is.GreaterThan(0));
    }
}
