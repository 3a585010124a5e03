using System.Diagnostics;
using System.Net;
using NUnit.Framework;
using Testbed.Core;
using Testbed.PageXfer.Images;
using Testbed.PageXfer.Protocol;
using Testbed.PageXfer.Xfer;

namespace Testbed.Criu.Tests;

/// <summary>Our page server between the real CRIU and the real CRIU.</summary>
[NonParallelizable]
public sealed class PageServerTests
{
    private readonly RedisDump _dump = new();

    [SetUp]
    public void Start() => _dump.Start();

    [TearDown]
    public void Stop() => _dump.Stop();

    [TestCase(false, TestName = "What CRIU dumps into ours it decodes and restores")]
    [TestCase(true, TestName = "What CRIU dumps into ours over TLS it decodes and restores")]
    public void DumpIntoOurs(bool tls)
    {
        _dump.Dump(tls ? _dump.Tls("client") : [], tls ? _dump.Tls("server") : []);
        Outcome decoded = RealCriu.Run(RealCriu.Decoder, ["decode", "--pretty", "-i", _dump.In($"pagemap-{_dump.Pid}.img")]);
        Assert.That(decoded.ExitCode, Is.Zero, decoded.Errors);
        Assert.That(decoded.Output, Does.Contain("\"magic\": \"PAGEMAP\"").And.Contain("PE_LAZY | PE_PRESENT"));
        _dump.Restore(_dump.Images.FullName);
    }

    [TestCase(false, TestName = "CRIU restores lazily from ours, more than once")]
    [TestCase(true, TestName = "CRIU restores lazily from ours over TLS, more than once")]
    public void LazyFromOurs(bool tls)
    {
        _dump.Dump([], []);
        int port = _dump.Serve(_dump.Images.FullName, ["--lazy-pages", "--sessions", "2", .. tls ? _dump.Tls("server") : []]);
        string server = File.ReadAllText(_dump.In("server.pid"));
        for (int round = 0; round < 2; round++)
        {
            using var side = new Side();
            File.Delete(_dump.In("lazy-pages.socket"));
            using Process daemon = side.Start([RealCriu.Program, "lazy-pages", "-D", _dump.Images.FullName, "-o", "lazy.log", "-v4",
                "--page-server", "--address", "127.0.0.1", "--port", $"{port}", .. tls ? _dump.Tls("client") : []]);
            for (long end = Environment.TickCount64 + 20_000; !File.Exists(_dump.In("lazy-pages.socket")) && Environment.TickCount64 < end;)
                Thread.Sleep(20);
            _dump.Succeeds(side.Run(RealCriu.Program, "restore", "-D", _dump.Images.FullName, "-d", "--lazy-pages", "-o", "restore.log", "-v4"), "restore.log");
            _dump.AssertData($"round {round}");
            Assert.That(daemon.WaitForExit(TimeSpan.FromSeconds(30)), Is.True, "CRIU's daemon ends when all is in");
            Assert.That(daemon.ExitCode, Is.Zero, File.ReadAllText(_dump.In("lazy.log")));
        }
        Assert.That(() => RedisDump.Runs(server), Is.False.After(10_000, 20), "the server ends after two sessions");
        Assert.That(File.ReadAllText(_dump.In("server.log")), Does.Not.Contain("Error"));
        File.Delete(_dump.In("server.pid"));
    }

    [TestCase(false, TestName = "Our lane fetches from CRIU's server")]
    [TestCase(true, TestName = "Our lane fetches from CRIU's server over TLS")]
    public void LaneToCriu(bool tls)
    {
        _dump.Dump([], []);
        int port = _dump.ServeByCriu(_dump.Images.FullName, ["--lazy-pages", .. tls ? _dump.Tls("server") : []]);
        using TlsCredentials? credentials = tls ? TlsCredentials.Load(_dump.Certificates("client")) : null;
        PageLane lane = PageLane.Connect(new IPEndPoint(IPAddress.Loopback, port), credentials);
        using PageReader pages = PageReader.Open(_dump.Images.FullName, PagemapId.Task((uint)_dump.Pid));
        foreach (PageRange range in pages.RangesWith(PagemapFlags.Lazy).Where(range => range.Count >= 3).Take(20))
        {
            PageRange some = range with { Count = Math.Min(range.Count, 500) };
            var expected = new byte[some.Bytes];
            pages.Read(some, expected);
            var receiver = new Whole(some);
            lane.Request(0, (uint)_dump.Pid, some);
            for (long end = Environment.TickCount64 + 20_000; lane.Outstanding > 0;)
            {
                Assert.That(Environment.TickCount64, Is.LessThan(end), "CRIU answers");
                _ = lane.Socket.Poll(10_000, System.Net.Sockets.SelectMode.SelectRead);
                _ = lane.Receive(receiver);
            }
            Assert.That(receiver.Memory.AsSpan().SequenceEqual(expected), Is.True, $"{some}");
        }
        lane.Close(Duration.FromSeconds(5));
        Assert.That(File.ReadAllText(_dump.In("criu-server.log")), Does.Not.Contain("Error (criu/page-xfer").And.Not.Contain("Error (criu/tls"));
    }

    private sealed class Whole(PageRange range) : IPageReceiver
    {
        public byte[] Memory { get; } = new byte[range.Bytes];

        public Span<byte> BufferFor(int tag, PageRange rest) => Memory.AsSpan((int)((rest.Start - range.Start) << PageNumber.Shift));

        public void Arrived(int tag, PageRange arrived)
        {
        }
    }
}
