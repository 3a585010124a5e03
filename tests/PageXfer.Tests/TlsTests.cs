using System.Collections.Concurrent;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using Testbed.Core;
using Testbed.PageXfer.Images;
using Testbed.PageXfer.Protocol;
using Testbed.PageXfer.Server;
using Testbed.PageXfer.Xfer;

namespace Testbed.PageXfer.Tests;

/// <summary>The same protocol over TLS, with certificates of an authority that each test makes.</summary>
public sealed class TlsTests
{
    private readonly ConcurrentQueue<string> _log = new();
    private Scratch _dir = null!;
    private Scratch _received = null!;
    private TestCertificates _authority = null!;
    private TlsFiles _serverFiles = null!;
    private TlsFiles _clientFiles = null!;
    private ImageDirectory _images = null!;
    private PageServer _server = null!;

    [SetUp]
    public void SetUp()
    {
        _log.Clear();
        (_dir, _received) = (new Scratch(), new Scratch());
        Sample.Write(_dir.Path);
        _authority = new TestCertificates(_dir.Path);
        _serverFiles = _authority.Issue("server", address: IPAddress.Loopback);
        _clientFiles = _authority.Issue("client", rsa: true);
        _images = ImageDirectory.Open(_dir.Path);
        _server = Start(_serverFiles);
    }

    [TearDown]
    public void TearDown()
    {
        _server.Dispose();
        _images.Dispose();
        _authority.Dispose();
        _dir.Dispose();
        _received.Dispose();
    }

    private PageServer Start(TlsFiles files) => new(new PageServerOptions
    {
        Source = _images,
        ReceiveDirectory = _received.Path,
        Tls = TlsCredentials.Load(files),
        Log = _log.Enqueue,
    });

    [Test]
    public void EveryPageComesOverOneLane()
    {
        using var credentials = TlsCredentials.Load(_clientFiles);
        using PageLane lane = PageLane.Connect(_server.EndPoint, credentials);
        var collector = new Collector();
        // Far more than the sockets hold: requests wait, and replies come in parts.
        for (int tag = 0; tag < 400; tag++)
        {
            PageRange range = Sample.Present[tag % Sample.Present.Length];
            collector.Expect(tag, range);
            lane.Request(tag, Sample.Pid, range);
        }
        lane.Run(collector);
        collector.AssertComplete();
        lane.Close(Duration.FromSeconds(5));
        Assert.That(_log, Is.Empty);
    }

    [Test]
    public void SinkGivesTheSamePagesAsLocal()
    {
        using var credentials = TlsCredentials.Load(_clientFiles);
        using (var sink = new RemotePageSink(_server.EndPoint, PagemapId.Task(Sample.Pid), credentials))
            Sample.WritePages(sink);
        using PageReader pages = PageReader.Open(_received.Path, PagemapId.Task(Sample.Pid));
        foreach (PageRange range in Sample.Present)
        {
            var bytes = new byte[range.Bytes];
            pages.Read(range, bytes);
            Assert.That(bytes.AsSpan().SequenceEqual(Sample.Content(range)), Is.True);
        }
        Assert.That(_log, Is.Empty);
    }

    /// <summary>The real CRIU reads a message or a piece of content from one record, and loses what else is in it.</summary>
    [Test]
    public void NoRecordHoldsPartsOfTwoThings()
    {
        using var credentials = TlsCredentials.Load(_clientFiles);
        using Socket socket = new(SocketType.Stream, ProtocolType.Tcp);
        socket.Connect(_server.EndPoint);
        using var wire = new Spy(socket);
        using SslStream tls = credentials.Connect(socket, _server.EndPoint, wire);
        var bytes = new byte[PageServerMessage.Size];
        PageServerMessage.Get(Sample.Pid, new PageRange(Sample.Heap, 9)).Write(bytes);
        tls.Write(bytes);
        tls.Write(bytes);
        tls.ReadExactly(new byte[2 * (PageServerMessage.Size + 9 * PageNumber.Size)]);
        int[] reply = [PageServerMessage.Size, 16384, 16384, 4096];
        Assert.That(wire.Records().TakeLast(8), Is.EqualTo([.. reply, .. reply]));
    }

    /// <summary>Keeps what comes, as it is on the wire.</summary>
    private sealed class Spy(Socket socket) : NetworkStream(socket)
    {
        private readonly MemoryStream _seen = new();

        public override int Read(Span<byte> buffer)
        {
            int got = base.Read(buffer);
            _seen.Write(buffer[..got]);
            return got;
        }

        /// <summary>The length of the content of each record of TLS 1.2: without nonce and tag of AES-GCM.</summary>
        public IEnumerable<int> Records()
        {
            byte[] seen = _seen.ToArray();
            for (int at = 0, length; at < seen.Length; at += 5 + length)
            {
                length = seen[at + 3] << 8 | seen[at + 4];
                yield return length - 24;
            }
        }
    }

    [TestCase("localhost", true, TestName = "a name in the certificate")]
    [TestCase("elsewhere.example", false, TestName = "another name than in the certificate")]
    public void NameIsChecked(string host, bool good)
    {
        using var server = Start(_authority.Issue("named", host));
        var name = new DnsEndPoint("localhost", server.EndPoint.Port);
        using var strict = TlsCredentials.Load(_clientFiles);
        using var lax = TlsCredentials.Load(_clientFiles with { VerifyName = false });
        if (good)
            PageLane.Connect(name, strict).Close(Duration.FromSeconds(5));
        else
            Assert.That(() => PageLane.Connect(name, strict), Throws.TypeOf<BadInputException>().With.Message.Contains("is not for localhost"));
        PageLane.Connect(name, lax).Close(Duration.FromSeconds(5));
    }

    [Test]
    public void CommonNameAloneIsEnough()
    {
        using var server = Start(_authority.Issue("localhost"));
        using var credentials = TlsCredentials.Load(_clientFiles);
        PageLane.Connect(new DnsEndPoint("localhost", server.EndPoint.Port), credentials).Close(Duration.FromSeconds(5));
    }

    [TestCase(true, TestName = "server of another authority")]
    [TestCase(false, TestName = "client of another authority")]
    public void StrangersAreTurnedAway(bool stranger)
    {
        using var other = new TestCertificates(_dir.Path, "other");
        TlsFiles theirs = other.Issue("stranger", address: IPAddress.Loopback);
        using var server = Start(stranger ? theirs : _serverFiles);
        using var credentials = TlsCredentials.Load(stranger ? _clientFiles : theirs with { CaCertificate = _authority.Authority });
        BadInputException e = Refusal(server, credentials);
        Assert.That(e.Message, stranger ? Does.Contain("CN=stranger") : Does.Contain("connection"));
        Assert.That(() => _log, Has.Count.EqualTo(1).After(5000, 10));
        if (!stranger)
            Assert.That(_log.Single(), Does.Contain("certificate of CN=stranger").And.Not.Contain("\n"));
    }

    [Test]
    public void ExpiredIsTurnedAway()
    {
        using var server = Start(_authority.Issue("old", address: IPAddress.Loopback, expired: true));
        using var credentials = TlsCredentials.Load(_clientFiles);
        Assert.That(Refusal(server, credentials).Message, Does.Contain("NotTimeValid"));
    }

    [Test]
    public void RevokedIsTurnedAway()
    {
        string list = _authority.Revoke(_serverFiles);
        using var credentials = TlsCredentials.Load(_clientFiles with { RevocationList = list });
        Assert.That(Refusal(_server, credentials).Message, Does.Contain("CN=server: was revoked"));
        using var other = Start(_authority.Issue("another", address: IPAddress.Loopback));
        PageLane.Connect(other.EndPoint, credentials).Close(Duration.FromSeconds(5));
    }

    [Test]
    public void PlainPeerIsTurnedAway()
    {
        Assert.That(() => new RemotePageSink(_server.EndPoint, PagemapId.Task(1)), Throws.TypeOf<BadInputException>());
        Assert.That(() => _log, Has.Count.EqualTo(1).After(5000, 10));
        Assert.That(_log.Single(), Does.Contain("no TLS connection").And.Not.Contain("\n"));
        using var plain = new PageServer(new PageServerOptions { Source = _images, Log = _log.Enqueue });
        using var credentials = TlsCredentials.Load(_clientFiles);
        Assert.That(Refusal(plain, credentials).Message, Does.Contain("no TLS connection"));
    }

    [Test]
    public void ServerThatGoesAwayIsSaid()
    {
        using var credentials = TlsCredentials.Load(_clientFiles);
        using PageLane lane = PageLane.Connect(_server.EndPoint, credentials);
        var collector = new Collector();
        collector.Expect(0, PageRange.Single(Sample.Heap));
        lane.Request(0, Sample.Pid, PageRange.Single(Sample.Heap));
        lane.Run(collector);
        _server.Dispose();
        collector.Expect(1, PageRange.Single(Sample.Heap));
        Assert.That(() =>
        {
            lane.Request(1, Sample.Pid, PageRange.Single(Sample.Heap));
            lane.Run(collector);
        }, Throws.TypeOf<BadInputException>().With.Message.Contains("connection"));
    }

    [Test]
    public void FilesThatAreNotWhatTheyShouldBeAreNamed()
    {
        string junk = _dir["junk.pem"];
        File.WriteAllText(junk, "junk");
        TlsFiles other = _authority.Issue("other");
        foreach ((TlsFiles files, string says) in ((TlsFiles, string)[])
        [
            (_clientFiles with { CaCertificate = junk }, $"--tls-cacert {junk}: no certificate"),
            (_clientFiles with { CaCertificate = "absent.pem" }, "--tls-cacert absent.pem"),
            (_clientFiles with { RevocationList = junk }, $"--tls-cacrl {junk}"),
            (_clientFiles with { Certificate = junk }, $"--tls-cert {junk}: no certificate"),
            (_clientFiles with { Key = junk }, $"--tls-key {junk}"),
            (_clientFiles with { Key = other.Key }, $"--tls-key {other.Key}"),
        ])
        {
            BadInputException e = Assert.Throws<BadInputException>(() => TlsCredentials.Load(files))!;
            Assert.That(e.Message, Does.Contain(says).And.Not.Contain("\n"));
        }
    }

    private static BadInputException Refusal(PageServer server, TlsCredentials credentials) => Assert.Throws<BadInputException>(() =>
    {
        // With TLS 1.3, as other servers have it, a client learns that it is refused from its first receive.
        using PageLane lane = PageLane.Connect(server.EndPoint, credentials);
        var collector = new Collector();
        collector.Expect(0, PageRange.Single(Sample.Heap));
        lane.Request(0, Sample.Pid, PageRange.Single(Sample.Heap));
        lane.Run(collector);
    })!;
}
