using System.Collections.Concurrent;
using System.Diagnostics;
using Testbed.Core;
using Testbed.PageXfer.Images;
using Testbed.PageXfer.Protocol;
using Testbed.PageXfer.Server;
using Testbed.PageXfer.Xfer;

namespace Testbed.PageXfer.Tests;

/// <summary>The link in user space. Bounds from below are exact, bounds from above leave room for a busy machine.</summary>
public sealed class ShapedLinkTests
{
    private readonly ConcurrentQueue<string> _log = new();
    private Scratch _dir = null!;
    private ImageDirectory _images = null!;

    [SetUp]
    public void SetUp()
    {
        _log.Clear();
        _dir = new Scratch();
        Sample.Write(_dir.Path);
        _images = ImageDirectory.Open(_dir.Path);
    }

    [TearDown]
    public void TearDown()
    {
        _images.Dispose();
        _dir.Dispose();
    }

    private PageServer Start(double bitsPerSecond, double roundTripMs) => new(new PageServerOptions
    {
        Source = _images,
        Link = new LinkParameters(ByteRate.FromBitsPerSecond(bitsPerSecond), Duration.FromMilliseconds(roundTripMs)),
        Log = _log.Enqueue,
    });

    [Test]
    public void ContentIsRightOverManyLanes()
    {
        using PageServer server = Start(1e9, 1);
        Task[] clients = [.. Enumerable.Range(0, 4).Select(seed => Task.Run(() => ServerTests.RandomRequests(server.EndPoint, seed, 100)))];
        Assert.That(Task.WaitAll(clients, TimeSpan.FromSeconds(60)), Is.True);
        Assert.That(_log, Is.Empty);
    }

    [Test]
    public void NoReplyComesBeforeItIsDue()
    {
        using PageServer server = Start(100e6, 5);
        using PageLane lane = PageLane.Connect(server.EndPoint);
        var receiver = new ServerTests.OneBuffer();
        Duration least = Duration.FromMilliseconds(5) + ByteRate.FromBitsPerSecond(100e6).TimeFor(PageNumber.Size);
        var times = new List<Duration>();
        for (int i = 0; i < 40; i++)
        {
            long begin = Stopwatch.GetTimestamp();
            lane.Request(0, Sample.Pid, PageRange.Single(Sample.Heap + i));
            lane.Run(receiver);
            times.Add(Since(begin));
        }
        times.Sort();
        TestContext.Out.WriteLine($"one page over 100 Mbit/s, 5 ms: due {least}; p50 {times[20]}, max {times[^1]}");
        Assert.That(times[0], Is.GreaterThanOrEqualTo(least));
        Assert.That(times[20], Is.LessThan(least + Duration.FromMilliseconds(5)));
    }

    [Test]
    public void BulkTakesWhatTheRateSays()
    {
        using PageServer server = Start(200e6, 1);
        using PageLane lane = PageLane.Connect(server.EndPoint);
        var receiver = new ServerTests.OneBuffer();
        long begin = Stopwatch.GetTimestamp();
        for (int i = 0; i < 10; i++)
            lane.Request(i, Sample.Pid, new PageRange(Sample.Heap, 500));
        lane.Run(receiver);
        Duration took = Since(begin);
        Duration due = Duration.FromMilliseconds(1) + ByteRate.FromBitsPerSecond(200e6).TimeFor(5000L * PageNumber.Size);
        TestContext.Out.WriteLine($"20 MB over 200 Mbit/s: due {due}, took {took}");
        Assert.That(took, Is.GreaterThanOrEqualTo(due));
        Assert.That(took, Is.LessThan(due + Duration.FromMilliseconds(300)));
    }

    [Test]
    public void SmallReplyOnAnotherLaneDoesNotWaitForBulk()
    {
        using PageServer server = Start(100e6, 1);
        using PageLane bulk = PageLane.Connect(server.EndPoint);
        using PageLane demand = PageLane.Connect(server.EndPoint);
        var receiver = new ServerTests.OneBuffer();
        bulk.Request(0, Sample.Pid, new PageRange(Sample.Heap, 600));
        bulk.Request(1, Sample.Pid, new PageRange(Sample.Heap, 600));
        Thread.Sleep(5);
        long begin = Stopwatch.GetTimestamp();
        demand.Request(0, Sample.Pid, PageRange.Single(Sample.Arena));
        demand.Run(receiver);
        Duration took = Since(begin);
        // The bulk takes 400 ms; a turn in between, some 3 ms.
        Assert.That(took, Is.LessThan(Duration.FromMilliseconds(150)));
        bulk.Run(receiver);
    }

    [Test]
    public void LaneThatIsNotReadHoldsUpNobody()
    {
        using PageServer server = Start(0, 1);
        using PageLane stuck = PageLane.Connect(server.EndPoint);
        for (int i = 0; i < 100; i++)
            stuck.Request(i, Sample.Pid, new PageRange(Sample.Heap, 600));
        ServerTests.RandomRequests(server.EndPoint, 5, 100);
        stuck.Run(new ServerTests.OneBuffer());
        stuck.Close(Duration.FromSeconds(10));
        Assert.That(_log, Is.Empty);
    }

    [Test]
    public void LaneThatIsCutIsForgotten()
    {
        using PageServer server = Start(50e6, 20);
        for (int i = 0; i < 100; i++)
        {
            using PageLane lane = PageLane.Connect(server.EndPoint);
            lane.Request(0, Sample.Pid, new PageRange(Sample.Heap, 600));
            lane.Request(1, Sample.Pid, new PageRange(Sample.Heap, 600));
        }
        long begin = Stopwatch.GetTimestamp();
        ServerTests.RandomRequests(server.EndPoint, 5, 3);
        Assert.That(Since(begin), Is.LessThan(Duration.FromSeconds(5)), "100 cut lanes of 800 ms each do not use the link");
    }

    [Test]
    public void CloseWaitsForTheReplies()
    {
        using PageServer server = Start(100e6, 10);
        PageLane lane = PageLane.Connect(server.EndPoint);
        lane.Request(0, Sample.Pid, new PageRange(Sample.Heap, 100));
        lane.Close(Duration.FromSeconds(10));
        Assert.That(_log, Is.Empty);
    }

    [Test]
    public void PipelinedCloseIsAnsweredAfterTheReplies()
    {
        using PageServer server = Start(100e6, 5);
        using var socket = new System.Net.Sockets.Socket(System.Net.Sockets.SocketType.Stream, System.Net.Sockets.ProtocolType.Tcp);
        socket.Connect(server.EndPoint);
        ServerTests.Send(socket, PageServerMessage.Get(Sample.Pid, new PageRange(Sample.Heap, 9)));
        ServerTests.Send(socket, PageServerMessage.Plain(PageServerCommand.Close));
        socket.Shutdown(System.Net.Sockets.SocketShutdown.Send);
        byte[] answer = ServerTests.ReadToEnd(socket);
        Assert.That(answer, Has.Length.EqualTo(PageServerMessage.Size + 9 * PageNumber.Size + 4));
        Assert.That(answer.AsSpan(PageServerMessage.Size, 9 * PageNumber.Size).SequenceEqual(Sample.Content(new PageRange(Sample.Heap, 9))), Is.True);
        Assert.That(answer[^4..], Is.EqualTo(new byte[4]));
    }

    private static Duration Since(long begin) => Duration.FromSeconds(Stopwatch.GetElapsedTime(begin).TotalSeconds);
}
