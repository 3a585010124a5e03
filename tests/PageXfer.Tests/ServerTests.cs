using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using Testbed.Core;
using Testbed.PageXfer.Images;
using Testbed.PageXfer.Protocol;
using Testbed.PageXfer.Server;
using Testbed.PageXfer.Xfer;

namespace Testbed.PageXfer.Tests;

/// <summary>A real server over loopback, real sockets.</summary>
public sealed class ServerTests
{
    private readonly ConcurrentQueue<string> _log = new();
    private Scratch _dir = null!;
    private ImageDirectory _images = null!;
    private PageServer _server = null!;

    [SetUp]
    public void SetUp()
    {
        _log.Clear();
        _dir = new Scratch();
        Sample.Write(_dir.Path);
        _images = ImageDirectory.Open(_dir.Path);
        _server = new PageServer(new PageServerOptions { Source = _images, Log = _log.Enqueue });
    }

    [TearDown]
    public void TearDown()
    {
        _server.Dispose();
        _images.Dispose();
        _dir.Dispose();
    }

    [Test]
    public void EveryPageComesOverOneLane()
    {
        using PageLane lane = PageLane.Connect(_server.EndPoint);
        var collector = new Collector();
        int tag = 0;
        foreach (PageRange range in Sample.Present)
        {
            collector.Expect(tag, range);
            lane.Request(tag++, Sample.Pid, range);
        }
        lane.Run(collector);
        collector.AssertComplete();
        lane.Close(Duration.FromSeconds(5));
        Assert.That(_log, Is.Empty);
        Assert.That(_server.PagesSent, Is.EqualTo(Sample.Pages));
    }

    [Test]
    public void DirectoryOfPagesAloneIsServed()
    {
        File.Delete(_dir["pstree.img"]);
        File.Delete(_dir[$"mm-{Sample.Pid}.img"]);
        File.Delete(_dir["inventory.img"]);
        using PagesDirectory pages = PagesDirectory.Open(_dir.Path);
        Assert.That(pages.Processes, Is.EqualTo(new[] { Sample.Pid }));
        using var server = new PageServer(new PageServerOptions { Source = pages, Log = _log.Enqueue });
        RandomRequests(server.EndPoint, 1, 100);
        Assert.That(_log, Is.Empty);
        Assert.That(() => pages.Available(43, PageRange.Single(Sample.Heap)), Throws.TypeOf<BadInputException>().With.Message.Contains("expected one of 42"));
    }

    [Test]
    public void EndOfSessionIsTold()
    {
        using Scratch into = new();
        using var ends = new BlockingCollection<ConnectionEnd>();
        using var server = new PageServer(new PageServerOptions { Source = _images, ReceiveDirectory = into.Path, OnConnectionEnd = ends.Add, Log = _log.Enqueue });
        PageLane.Connect(server.EndPoint).Dispose();
        AssertEnd(ends, ConnectionEnd.Left);
        PageLane.Connect(server.EndPoint).Close(Duration.FromSeconds(5));
        AssertEnd(ends, ConnectionEnd.Closed);
        new RemotePageSink(server.EndPoint, PagemapId.Task(7)).Dispose();
        AssertEnd(ends, ConnectionEnd.Dropped);
        PageLane wrong = PageLane.Connect(server.EndPoint);
        wrong.Request(0, 4711, PageRange.Single(Sample.Heap));
        AssertEnd(ends, ConnectionEnd.Refused);
        wrong.Dispose();
        Assert.That(Directory.GetFiles(into.Path), Is.Empty);
    }

    private static void AssertEnd(BlockingCollection<ConnectionEnd> ends, ConnectionEnd expected)
    {
        Assert.That(ends.TryTake(out ConnectionEnd end, 5000), Is.True);
        Assert.That(end, Is.EqualTo(expected));
    }

    [Test]
    public void ManyLanesAtOnce()
    {
        Task[] clients = [.. Enumerable.Range(0, 6).Select(seed => Task.Run(() => RandomRequests(_server.EndPoint, seed, 300)))];
        Assert.That(Task.WaitAll(clients, TimeSpan.FromSeconds(60)), Is.True);
        Assert.That(_log, Is.Empty);
    }

    [Test]
    public void ReplyAcrossNeighbouringRunsIsWhole()
    {
        using PageLane lane = PageLane.Connect(_server.EndPoint);
        var collector = new Collector();
        collector.Expect(5, new PageRange(Sample.Heap + 90, 20));
        lane.Request(5, Sample.Pid, new PageRange(Sample.Heap + 90, 20));
        lane.Run(collector);
        collector.AssertComplete();
        Assert.That(_server.Requests, Is.EqualTo(1));
    }

    [Test]
    public void RequestWithinArrivedIsServed()
    {
        using PageLane lane = PageLane.Connect(_server.EndPoint);
        int asked = 0;
        Collector collector = null!;
        void Next()
        {
            if (asked == 200)
                return;
            collector.Expect(asked, PageRange.Single(Sample.Heap + asked));
            lane.Request(asked, Sample.Pid, PageRange.Single(Sample.Heap + asked++));
        }
        collector = new Collector { OnArrived = Next };
        Next();
        lane.Run(collector);
        Assert.That(asked, Is.EqualTo(200));
        collector.AssertComplete();
    }

    [Test]
    public void SlowReaderGetsAllAndHoldsUpNobody()
    {
        using PageLane slow = PageLane.Connect(_server.EndPoint);
        var collector = new Collector();
        // Far more than the sockets hold, on both ways.
        for (int tag = 0; tag < 3000; tag++)
        {
            var range = new PageRange(Sample.Heap, 1 + (tag % 3) * 8);
            collector.Expect(tag, range);
            slow.Request(tag, Sample.Pid, range);
        }
        RandomRequests(_server.EndPoint, 1, 100);
        slow.Run(collector);
        collector.AssertComplete();
    }

    [Test]
    public void CloseDropsWhatIsStillComing()
    {
        PageLane lane = PageLane.Connect(_server.EndPoint);
        for (int i = 0; i < 50; i++)
            lane.Request(i, Sample.Pid, new PageRange(Sample.Heap, 600));
        lane.Close(Duration.FromSeconds(10));
        Assert.That(_log, Is.Empty);
    }

    [Test]
    public void PeerThatHalfClosesGetsItsReplies()
    {
        using Socket socket = Connect();
        Send(socket, PageServerMessage.Get(Sample.Pid, new PageRange(Sample.Heap, 3)));
        socket.Shutdown(SocketShutdown.Send);
        byte[] reply = ReadToEnd(socket);
        Assert.That(reply, Has.Length.EqualTo(PageServerMessage.Size + 3 * PageNumber.Size));
        Assert.That(reply.AsSpan(PageServerMessage.Size).SequenceEqual(Sample.Content(new PageRange(Sample.Heap, 3))), Is.True);
    }

    [TestCase(3, TestName = "pages file cut short behind the server's back, few pages")]
    [TestCase(64, TestName = "pages file cut short behind the server's back, many pages")]
    public void PagesFileCutShort(int pages)
    {
        using (var file = new FileStream(_dir["pages-1.img"], FileMode.Open, FileAccess.Write, FileShare.ReadWrite))
            file.SetLength(2 * PageNumber.Size);
        using Socket socket = Connect();
        Send(socket, PageServerMessage.Get(Sample.Pid, new PageRange(Sample.Heap, pages)));
        Assert.That(ReadToEnd(socket), Has.Length.LessThan(PageServerMessage.Size + pages * PageNumber.Size), "and never more than was there");
        Assert.That(() => _log, Has.Count.EqualTo(1).After(5000, 10));
        Assert.That(_log.Single(), Does.Contain("cut short").And.Not.Contain("\n"));
    }

    [Test]
    public void WhoGoesWithoutCloseIsTold()
    {
        using var abandoned = new BlockingCollection<bool>();
        using var server = new PageServer(new PageServerOptions { Source = _images, Log = _log.Enqueue, OnAbandoned = () => abandoned.Add(true) });
        void Fetch(PageLane lane)
        {
            lane.Request(0, Sample.Pid, PageRange.Single(Sample.Heap));
            lane.Run(new OneBuffer());
        }
        PageLane.Connect(server.EndPoint).Dispose();
        PageLane good = PageLane.Connect(server.EndPoint);
        Fetch(good);
        good.Close(Duration.FromSeconds(5));
        Assert.That(() => server.Connections, Is.Zero.After(5000, 10));
        Assert.That(abandoned, Is.Empty, "one said nothing, one said CLOSE");
        using (PageLane bad = PageLane.Connect(server.EndPoint))
            Fetch(bad);
        Assert.That(abandoned.TryTake(out _, 5000), Is.True);
    }

    private static IEnumerable<TestCaseData> Lies()
    {
        var get = PageServerMessage.Get(Sample.Pid, PageRange.Single(Sample.Heap));
        yield return new TestCaseData(get with { Target = 43 }, "no memory of a process 43").SetName("unknown pid");
        yield return new TestCaseData(get with { Target = ulong.MaxValue }, "expected a pid").SetName("no pid");
        yield return new TestCaseData(get with { Address = 0x1000 }, "not in the images").SetName("page that is not there");
        yield return new TestCaseData(get with { Address = 7 }, "whole pages").SetName("unaligned");
        yield return new TestCaseData(get with { Pages = 0 }, "at least one").SetName("no pages");
        yield return new TestCaseData(get with { Pages = ulong.MaxValue }, "below 2^57").SetName("absurd size");
        yield return new TestCaseData(get with { Command = (PageServerCommand)99 }, "message 99").SetName("unknown command");
        yield return new TestCaseData(PageServerMessage.About(PageServerCommand.Open2, PagemapId.Task(1)), "only serves").SetName("wrong direction");
    }

    [TestCaseSource(nameof(Lies))]
    public void LieEndsTheConnectionWithOneLine(PageServerMessage message, string says)
    {
        using Socket socket = Connect();
        Send(socket, message);
        Assert.That(ReadToEnd(socket), Is.Empty);
        Assert.That(_log, Has.Count.EqualTo(1));
        Assert.That(_log.Single(), Does.Contain(says).And.Not.Contain("\n"));
        RandomRequests(_server.EndPoint, 3, 20);
    }

    [Test]
    public void MessageCutShortIsSaid()
    {
        using Socket socket = Connect();
        socket.Send(new byte[31]);
        socket.Shutdown(SocketShutdown.Send);
        Assert.That(ReadToEnd(socket), Is.Empty);
        Assert.That(_log.Single(), Does.Contain("ends after 31 bytes"));
    }

    [Test]
    public void ServerThatGoesAwayIsSaid()
    {
        using PageLane lane = PageLane.Connect(_server.EndPoint);
        var collector = new Collector();
        collector.Expect(0, PageRange.Single(Sample.Heap));
        lane.Request(0, Sample.Pid, PageRange.Single(Sample.Heap));
        lane.Run(collector);
        _server.Dispose();
        BadInputException e = Assert.Throws<BadInputException>(() =>
        {
            lane.Request(1, Sample.Pid, PageRange.Single(Sample.Heap));
            lane.Run(collector);
        })!;
        Assert.That(e.Message, Does.Contain("connection"));
        Assert.That(
            () => PageLane.Connect(_server.EndPoint),
            Throws.TypeOf<BadInputException>().With.Message.Contains("cannot connect"));
    }

    [Test]
    public void SteadyStateAllocatesNothing()
    {
        using PageLane lane = PageLane.Connect(_server.EndPoint);
        var receiver = new OneBuffer();
        void Round(int count)
        {
            for (int i = 0; i < count; i++)
            {
                lane.Request(0, Sample.Pid, PageRange.Single(Sample.Heap + i % 600));
                lane.Request(1, Sample.Pid, new PageRange(Sample.Heap, 1 + i % 16));
                while (lane.Outstanding > 0)
                    lane.Receive(receiver);
            }
        }
        Round(200);
        // Other threads of the test host allocate now and then, which one of several rounds escapes; 4,000 requests would show in all.
        long least = long.MaxValue;
        for (int round = 0; round < 5 && least >= 16_000; round++)
        {
            long before = GC.GetAllocatedBytesForCurrentThread(), all = GC.GetTotalAllocatedBytes(precise: true);
            Round(2000);
            Assert.That(GC.GetAllocatedBytesForCurrentThread() - before, Is.Zero, "client");
            least = Math.Min(least, GC.GetTotalAllocatedBytes(precise: true) - all);
        }
        Assert.That(least, Is.LessThan(16_000), "server");
    }

    internal sealed class OneBuffer : IPageReceiver
    {
        private readonly byte[] _memory = new byte[4 << 20];

        public Span<byte> BufferFor(int tag, PageRange range) => _memory.AsSpan(0, (int)Math.Min(_memory.Length, range.Bytes));

        public void Arrived(int tag, PageRange range)
        {
        }
    }

    internal static void RandomRequests(IPEndPoint server, int seed, int count)
    {
        using PageLane lane = PageLane.Connect(server);
        var random = new Random(seed);
        var collector = new Collector();
        for (int tag = 0; tag < count; tag++)
        {
            PageRange run = Sample.Present[random.Next(Sample.Present.Length)];
            long skip = random.NextInt64(run.Count);
            var range = new PageRange(run.Start + skip, 1 + random.NextInt64(Math.Min(run.Count - skip, 40)));
            collector.Expect(tag, range);
            lane.Request(tag, Sample.Pid, range);
            if (random.Next(4) == 0)
                lane.Receive(collector);
        }
        lane.Run(collector);
        collector.AssertComplete();
        lane.Close(Duration.FromSeconds(10));
    }

    private Socket Connect()
    {
        var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { ReceiveTimeout = 20_000 };
        socket.Connect(_server.EndPoint);
        return socket;
    }

    internal static void Send(Socket socket, in PageServerMessage message)
    {
        var bytes = new byte[PageServerMessage.Size];
        message.Write(bytes);
        socket.Send(bytes);
    }

    internal static byte[] ReadToEnd(Socket socket)
    {
        using var all = new MemoryStream();
        var buffer = new byte[64 * 1024];
        while (true)
        {
            int got = socket.Receive(buffer, SocketFlags.None, out SocketError error);
            if (error == SocketError.ConnectionReset)
                return all.ToArray();
            Assert.That(error, Is.EqualTo(SocketError.Success), "the server neither answers nor closes");
            if (got == 0)
                return all.ToArray();
            all.Write(buffer, 0, got);
        }
    }
}
