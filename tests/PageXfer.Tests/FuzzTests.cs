using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using Testbed.Core;
using Testbed.PageXfer.Images;
using Testbed.PageXfer.Protocol;
using Testbed.PageXfer.Server;
using Testbed.PageXfer.Xfer;

namespace Testbed.PageXfer.Tests;

/// <summary>Seeded damage: it must end in a BadInputException or a right answer. The seed of a failure is in its message.</summary>
public sealed class FuzzTests
{
    private const int Cases = 700;

    [TestCase("inventory.img")]
    [TestCase("pstree.img")]
    [TestCase("mm-42.img")]
    [TestCase("pagemap-42.img")]
    [CancelAfter(120_000)]
    public void DamagedImages(string file)
    {
        using var dir = new Scratch();
        Sample.Write(dir.Path);
        byte[] whole = File.ReadAllBytes(dir[file]);
        int refused = 0;
        for (int seed = 0; seed < Cases; seed++)
        {
            File.WriteAllBytes(dir[file], Damage(whole, new Random(seed)));
            try
            {
                using var images = ImageDirectory.Open(dir.Path);
                foreach (PstreeEntry process in images.Processes.Where(p => images.HasMemory(p.Pid)))
                    ReadAll(images, process.Pid);
            }
            catch (BadInputException)
            {
                refused++;
            }
            catch (Exception e)
            {
                Assert.Fail($"{file}, seed {seed}: {e}");
            }
        }
        TestContext.Out.WriteLine($"{file}: {refused} of {Cases} refused");
        Assert.That(refused, Is.GreaterThan(Cases / 3));
    }

    private static void ReadAll(ImageDirectory images, uint pid)
    {
        var page = new byte[PageNumber.Size];
        foreach (PageRange range in images.Pages(pid).RangesWith(PagemapFlags.Present))
        {
            Assert.That(images.Available(pid, range), Is.EqualTo(range.Count));
            images.ReadPages(pid, PageRange.Single(range.Start), page);
            images.ReadPages(pid, PageRange.Single(range.End - 1), page);
        }
        _ = images.LazyMemory(pid);
    }

    [Test]
    [CancelAfter(120_000)]
    public void DamagedStreamsToAServer()
    {
        using var dir = new Scratch();
        using var received = new Scratch();
        Sample.Write(dir.Path);
        using var images = ImageDirectory.Open(dir.Path);
        var log = new ConcurrentQueue<string>();
        using (var server = new PageServer(new PageServerOptions
        {
            Source = images,
            ReceiveDirectory = received.Path,
            MaxConnections = 1000,
            Log = log.Enqueue,
        }))
        {
            byte[] stream = Conversation();
            for (int seed = 0; seed < Cases; seed++)
            {
                using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { ReceiveTimeout = 20_000 };
                socket.Connect(server.EndPoint);
                socket.Send(Damage(stream, new Random(seed)), SocketFlags.None, out _);
                try
                {
                    socket.Shutdown(SocketShutdown.Send);
                }
                catch (SocketException)
                {
                    // The server may have closed already.
                }
                ServerTests.ReadToEnd(socket);
            }
            ServerTests.RandomRequests(server.EndPoint, 1, 50);
        }
        Assert.That(log.All(line => !line.Contains('\n')), Is.True);
        Assert.That(log, Has.Count.GreaterThan(Cases / 3).And.Count.LessThanOrEqualTo(Cases), "one line for each that was refused");
        Assert.That(Directory.GetFiles(received.Path, "*.tmp"), Is.Empty);
        foreach (string pagemap in Directory.GetFiles(received.Path, "pagemap-*.img"))
            Assert.DoesNotThrow(() => Pagemap.Read(pagemap), "what was kept is whole");
    }

    [Test]
    [CancelAfter(120_000)]
    public void DamagedRepliesToALane()
    {
        using var listener = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        listener.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        listener.Listen();
        PageRange[] asked = [new(Sample.Heap, 2), new(Sample.Heap + 7, 1), new(Sample.Arena, 3)];
        int refused = 0;
        for (int seed = 0; seed < Cases; seed++)
        {
            var random = new Random(seed);
            using PageLane lane = PageLane.Connect(listener.LocalEndPoint!);
            using Socket server = listener.Accept();
            var collector = new Collector();
            for (int tag = 0; tag < asked.Length; tag++)
            {
                collector.Expect(tag, asked[tag]);
                lane.Request(tag, Sample.Pid, asked[tag]);
            }
            server.Send(Replies(asked, random));
            server.Shutdown(SocketShutdown.Send);
            try
            {
                lane.Run(collector);
                collector.AssertComplete();
            }
            catch (BadInputException)
            {
                refused++;
            }
            catch (Exception e)
            {
                Assert.Fail($"seed {seed}: {e}");
            }
        }
        Assert.That(refused, Is.GreaterThan(Cases / 2).And.LessThan(Cases));
    }

    [Test]
    public void FewerPagesThanAskedAreAskedForAgain()
    {
        using var listener = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        listener.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        listener.Listen();
        using PageLane lane = PageLane.Connect(listener.LocalEndPoint!);
        using Socket server = listener.Accept();
        var collector = new Collector();
        var range = new PageRange(Sample.Heap, 10);
        collector.Expect(3, range);
        lane.Request(3, Sample.Pid, range);
        var serving = Task.Run(() =>
        {
            var bytes = new byte[PageServerMessage.Size];
            for (int replies = 0; replies < 4; replies++)
            {
                server.Receive(bytes);
                PageRange wanted = PageServerMessage.Read(bytes).ToRange();
                Assert.That(wanted.End, Is.EqualTo(range.End));
                PageRange given = wanted with { Count = Math.Min(3, wanted.Count) };
                ServerTests.Send(server, PageServerMessage.Reply(Sample.Pid, given));
                server.Send(Sample.Content(given));
            }
        });
        lane.Run(collector);
        collector.AssertComplete();
        Assert.That(serving.Wait(5000), Is.True);
    }

    /// <summary>Right replies, of which at most one has a damaged head, or the stream is cut.</summary>
    private static byte[] Replies(PageRange[] ranges, Random random)
    {
        using var all = new MemoryStream();
        int damaged = random.Next(ranges.Length);
        bool cut = random.Next(4) == 0;
        for (int i = 0; i < ranges.Length; i++)
        {
            var head = new byte[PageServerMessage.Size];
            PageServerMessage.Reply(Sample.Pid, ranges[i]).Write(head);
            if (i == damaged && !cut)
                head[random.Next(head.Length)] ^= (byte)(1 << random.Next(8));
            all.Write(head);
            all.Write(Sample.Content(ranges[i]));
        }
        byte[] bytes = all.ToArray();
        return cut ? bytes[..random.Next(bytes.Length)] : bytes;
    }

    private static byte[] Conversation()
    {
        using var all = new MemoryStream();
        void Add(in PageServerMessage message)
        {
            var bytes = new byte[PageServerMessage.Size];
            message.Write(bytes);
            all.Write(bytes);
        }
        Add(PageServerMessage.Get(Sample.Pid, new PageRange(Sample.Heap, 3)));
        Add(PageServerMessage.About(PageServerCommand.Open2, PagemapId.Task(7)));
        Add(PageServerMessage.Add(PagemapId.Task(7), PageRange.Single(new PageNumber(1)), PagemapFlags.Present));
        all.Write(Sample.Content(PageRange.Single(new PageNumber(1))));
        Add(PageServerMessage.Add(PagemapId.Task(7), new PageRange(new PageNumber(5), 2), PagemapFlags.Lazy));
        Add(PageServerMessage.About(PageServerCommand.Parent, PagemapId.Task(7)));
        Add(PageServerMessage.Get(Sample.Pid, new PageRange(Sample.Arena, 1)));
        Add(PageServerMessage.Plain(PageServerCommand.Close));
        return all.ToArray();
    }

    private static byte[] Damage(byte[] whole, Random random)
    {
        byte[] bytes = [.. whole];
        for (int n = 1 + random.Next(3) / 2 * random.Next(3); n > 0; n--)
        {
            int at = random.Next(bytes.Length);
            switch (random.Next(9))
            {
                case 0:
                    bytes[at] ^= (byte)(1 << random.Next(8));
                    break;
                case 1 or 6 or 7 or 8:
                    bytes[at] = (byte)random.Next(256);
                    break;
                case 2:
                    bytes.AsSpan(at, Math.Min(random.Next(1, 9), bytes.Length - at)).Fill((byte)(random.Next(2) * 255));
                    break;
                case 3:
                    bytes = bytes[..Math.Max(1, at)];
                    break;
                case 4:
                    bytes = [.. bytes[..at], .. bytes[Math.Min(bytes.Length, at + random.Next(1, 40))..]];
                    break;
                default:
                    bytes = [.. bytes[..at], .. bytes[at..Math.Min(bytes.Length, at + random.Next(1, 40))], .. bytes[at..]];
                    break;
            }
            if (bytes.Length == 0)
                return [0];
        }
        return bytes;
    }
}
