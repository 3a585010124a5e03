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
