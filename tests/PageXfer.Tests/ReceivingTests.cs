using System.Collections.Concurrent;
using System.Net.Sockets;
using Testbed.Core;
using Testbed.PageXfer.Images;
using Testbed.PageXfer.Protocol;
using Testbed.PageXfer.Server;
using Testbed.PageXfer.Xfer;

namespace Testbed.PageXfer.Tests;

/// <summary>The other direction: memory is sent to a server, which writes images.</summary>
public sealed class ReceivingTests
{
    private readonly ConcurrentQueue<string> _log = new();
    private Scratch _dir = null!;
    private PageServer _server = null!;

    [SetUp]
    public void SetUp()
    {
        _log.Clear();
        _dir = new Scratch();
        _server = new PageServer(new PageServerOptions { ReceiveDirectory = _dir.Path, Log = _log.Enqueue });
    }

    [TearDown]
    public void TearDown()
    {
        _server.Dispose();
        _dir.Dispose();
    }

    [Test]
    public void RemoteSinkGivesTheSamePagesAsLocal()
    {
        using (var sink = new RemotePageSink(_server.EndPoint, PagemapId.Task(Sample.Pid)))
        {
            Assert.That(sink.HasParent, Is.False);
            Sample.WritePages(sink);
        }
        Sample.WriteOthers(_dir.Path);
        using var images = ImageDirectory.Open(_dir.Path);
        Assert.That(images.Pages(Sample.Pid).Pagemap.PagesId, Is.EqualTo(0x10001));
        foreach (PageRange range in Sample.Present)
        {
            var bytes = new byte[range.Bytes];
            images.ReadPages(Sample.Pid, range, bytes);
            Assert.That(bytes.AsSpan().SequenceEqual(Sample.Content(range)), Is.True);
        }
        Assert.That(_log, Is.Empty);
    }

    [Test]
    public void SeveralProcessesOverOneConnection()
    {
        using (var server = new RemotePageServer(_server.EndPoint))
        {
            for (uint pid = 1; pid <= 3; pid++)
            {
                using var sink = new RemotePageSink(server, PagemapId.Task(pid));
                Sample.WritePages(sink);
            }
            Assert.That(Directory.GetFiles(_dir.Path, "pagemap-?.img"), Is.Empty, "nothing before CLOSE");
            server.Close();
        }
        for (uint pid = 1; pid <= 3; pid++)
        {
            using PageReader pages = PageReader.Open(_dir.Path, PagemapId.Task(pid));
            Assert.That(pages.Available(new PageRange(Sample.Heap, 600)), Is.EqualTo(600));
        }
    }

    [Test]
    public void PagemapsWithoutPages()
    {
        using (var sink = new RemotePageSink(_server.EndPoint, PagemapId.Task(1)))
        {
            sink.WritePagemap(new PageRange(Sample.Heap, 10), PagemapFlags.Lazy);
            sink.Complete();
        }
        using PageReader pages = PageReader.Open(_dir.Path, PagemapId.Task(1));
        Assert.That(pages.RangesWith(PagemapFlags.Lazy), Is.EqualTo([new PageRange(Sample.Heap, 10)]));
        Assert.That(pages.Available(new PageRange(Sample.Heap, 10)), Is.Zero);
    }

    [Test]
    public void ParentIsAnnounced()
    {
        string parent = Directory.CreateDirectory(_dir["parent"]).FullName;
        Sample.Write(parent);
        using var server = new RemotePageServer(_server.EndPoint);
        Assert.That(server.HasParent(PagemapId.Task(Sample.Pid)), Is.True);
        Assert.That(server.HasParent(PagemapId.Task(1)), Is.False);
        using (var sink = new RemotePageSink(server, PagemapId.Task(Sample.Pid)))
        {
            Assert.That(sink.HasParent, Is.True);
            sink.WritePagemap(new PageRange(Sample.Heap, 600), PagemapFlags.Parent);
            sink.Complete();
        }
        server.Close();
        using PageReader pages = PageReader.Open(_dir.Path, PagemapId.Task(Sample.Pid));
        var bytes = new byte[PageNumber.Size];
        pages.Read(PageRange.Single(Sample.Heap + 599), bytes);
        Assert.That(bytes, Is.EqualTo(Sample.Content(PageRange.Single(Sample.Heap + 599))));
    }

    [Test]
    public void WithoutCloseNothingIsKept()
    {
        using (var server = new RemotePageServer(_server.EndPoint))
        using (var sink = new RemotePageSink(server, PagemapId.Task(1)))
        {
            sink.WritePagemap(new PageRange(Sample.Heap, 10), PagemapFlags.Present);
            sink.WritePages(new byte[10 * PageNumber.Size]);
            sink.Complete();
        }
        AwaitLog();
        Assert.That(_log.Single(), Does.Contain("without CLOSE"));
        // The line is written before the files are removed.
        Assert.That(() => Directory.GetFileSystemEntries(_dir.Path), Is.Empty.After(5000, 20));
    }

    [TestCase(0, "stalls before anything", null)]
    [TestCase(20, "within a message", "in the middle")]
    [TestCase(24, "after a message of an older CRIU", "may be a CRIU before 4.2")]
    [TestCase(32 + 1000, "within a page", "in the middle")]
    [TestCase(32 + 4096, "between two pages of a range", "in the middle")]
    public void PeerThatStallsIsGivenUpAndWhoRestsIsNot(int bytes, string where, string? says)
    {
        using var server = new PageServer(new PageServerOptions { ReceiveDirectory = _dir.Path, Log = _log.Enqueue, Patience = Duration.FromMilliseconds(300) });
        using Socket socket = Announce(server, bytes);
        Assert.That(() => _log, Is.Empty.After(100), where);
        Thread.Sleep(900);
        if (says is null)
        {
            Assert.That(_log, Is.Empty, "between messages a peer may rest");
            Assert.That(server.Connections, Is.EqualTo(1));
            return;
        }
        AssertOneLine(says);
        Assert.That(ServerTests.ReadToEnd(socket), Is.Empty, "and the connection is closed");
    }

    [TestCase(20, "ends after 20 bytes of a message")]
    [TestCase(32, "ends where 8192 bytes were still expected")]
    [TestCase(32 + 5000, "ends where 3192 bytes were still expected")]
    public void PeerThatHalfClosesInTheMiddle(int bytes, string says)
    {
        using Socket socket = Announce(_server, bytes);
        socket.Shutdown(SocketShutdown.Send);
        Assert.That(ServerTests.ReadToEnd(socket), Is.Empty);
        AssertOneLine(says);
    }

    /// <summary>More content than was announced is read as a message, and is none.</summary>
    [Test]
    public void PeerThatLiesAboutItsLength()
    {
        using Socket socket = Announce(_server, 32 + 3 * 4096);
        Assert.That(ServerTests.ReadToEnd(socket), Is.Empty);
        AssertOneLine("message 60909");
    }

    private static IEnumerable<TestCaseData> Absurdities()
    {
        PageServerMessage add = PageServerMessage.Add(PagemapId.Task(1), new PageRange(new PageNumber(16), 2), PagemapFlags.Present);
        yield return new TestCaseData(add with { Pages = ulong.MaxValue }, "below 2^57").SetName("more pages than there are");
        yield return new TestCaseData(add with { Pages = 0 }, "at least one").SetName("no pages");
        yield return new TestCaseData(add with { Address = 0xfff }, "whole pages").SetName("address within a page");
        yield return new TestCaseData(add with { Target = 3 }, "dst_id has type 3").SetName("unknown type");
        yield return new TestCaseData(add with { Flags = PagemapFlags.Present | PagemapFlags.Parent }, "both in parent and present").SetName("present and in parent");
        yield return new TestCaseData(add with { Command = (PageServerCommand)8 }, "message 8").SetName("command 8");
        yield return new TestCaseData(PageServerMessage.Get(1, PageRange.Single(new PageNumber(16))), "no images to serve").SetName("GET from a receiving server");
    }

    [TestCaseSource(nameof(Absurdities))]
    public void AbsurdityEndsTheSession(PageServerMessage message, string says)
    {
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        socket.Connect(_server.EndPoint);
        ServerTests.Send(socket, message);
        Assert.That(ServerTests.ReadToEnd(socket), Is.Empty);
        AssertOneLine(says);
    }

    /// <summary>A server that never answers is given up too, and so is one that does not close.</summary>
    [Test]
    public void PeerThatDoesNotCloseAfterCloseIsLetGo()
    {
        using var ends = new System.Collections.Concurrent.BlockingCollection<ConnectionEnd>();
        using var server = new PageServer(new PageServerOptions { ReceiveDirectory = _dir.Path, Log = _log.Enqueue, Patience = Duration.FromMilliseconds(300), OnConnectionEnd = ends.Add });
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        socket.Connect(server.EndPoint);
        ServerTests.Send(socket, PageServerMessage.Plain(PageServerCommand.Close));
        Assert.That(ServerTests.ReadToEnd(socket), Has.Length.EqualTo(4));
        Assert.That(ends.TryTake(out ConnectionEnd end, 5000) && end == ConnectionEnd.Closed, Is.True);
        Assert.That(_log, Is.Empty);
    }

    private static Socket Announce(PageServer server, int bytes)
    {
        var stream = new byte[32 + 3 * 4096];
        stream.AsSpan().Fill(0xed);
        PageServerMessage.Add(PagemapId.Task(1), new PageRange(new PageNumber(16), 2), PagemapFlags.Present).Write(stream);
        var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { ReceiveTimeout = 20_000 };
        socket.Connect(server.EndPoint);
        _ = socket.Send(stream.AsSpan(0, bytes));
        return socket;
    }

    private void AssertOneLine(string says)
    {
        AwaitLog();
        Assert.That(_log.Single(), Does.Contain(says).And.Not.Contain("\n"));
        // The line is written before the files are removed.
        Assert.That(() => Directory.GetFileSystemEntries(_dir.Path), Is.Empty.After(5000, 20), "nothing is kept");
    }

    [TestCase(new[] { 5, 5 }, "sorted", TestName = "the same page twice")]
    [TestCase(new[] { 9, 5 }, "sorted", TestName = "backwards")]
    public void DisorderEndsTheSession(int[] pages, string says)
    {
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        socket.Connect(_server.EndPoint);
        foreach (int page in pages)
            ServerTests.Send(socket, PageServerMessage.Add(PagemapId.Task(1), PageRange.Single(new PageNumber((ulong)page)), PagemapFlags.Lazy));
        Assert.That(ServerTests.ReadToEnd(socket), Is.Empty);
        AwaitLog();
        Assert.That(_log.Single(), Does.Contain(says));
        // The line is written before the files are removed.
        Assert.That(() => Directory.GetFileSystemEntries(_dir.Path), Is.Empty.After(5000, 20));
    }

    [Test]
    public void OldCommandsAreUnderstood()
    {
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        socket.Connect(_server.EndPoint);
        var range = PageRange.Single(Sample.Heap);
        PageServerMessage add = PageServerMessage.Add(PagemapId.Task(1), range, PagemapFlags.None);
        ServerTests.Send(socket, PageServerMessage.About(PageServerCommand.Open, PagemapId.Task(1)));
        ServerTests.Send(socket, add with { Command = PageServerCommand.Add });
        socket.Send(Sample.Content(range));
        ServerTests.Send(socket, add with { Command = PageServerCommand.Hole, Address = add.Address + 0x1000 });
        ServerTests.Send(socket, PageServerMessage.Plain(PageServerCommand.ForceClose));
        var status = new byte[4];
        Assert.That(socket.Receive(status), Is.EqualTo(4));
        Assert.That(status, Is.EqualTo(new byte[4]));
        Pagemap pagemap = Pagemap.Read(_dir["pagemap-1.img"]);
        Assert.That(pagemap.Runs.Select(r => r.Flags), Is.EqualTo([PagemapFlags.Present, PagemapFlags.Parent]));
    }

    private void AwaitLog() => Assert.That(() => _log, Is.Not.Empty.After(5000, 10));
}
