using System.Collections.Concurrent;
using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Testbed.Core;
using Testbed.PageXfer.Images;
using Testbed.PageXfer.Protocol;
using Testbed.PageXfer.Server;
using Testbed.PageXfer.Xfer;

namespace Testbed.PageXfer.Tests;

/// <summary>Who is let in by certificate: purposes, chains, revocation lists, and what a peer's certificate may do to our log.</summary>
public sealed class CertificateTests
{
    private const string ServerAuth = "1.3.6.1.5.5.7.3.1", ClientAuth = "1.3.6.1.5.5.7.3.2", CodeSigning = "1.3.6.1.5.5.7.3.3";
    private const string Email = "1.3.6.1.5.5.7.3.4", TimeStamping = "1.3.6.1.5.5.7.3.8", Any = "2.5.29.37.0";

    private readonly ConcurrentQueue<string> _log = new();
    private Scratch _dir = null!;
    private Scratch _elsewhere = null!;
    private TestCertificates _authority = null!;
    private ImageDirectory _images = null!;

    [SetUp]
    public void SetUp()
    {
        _log.Clear();
        (_dir, _elsewhere) = (new Scratch(), new Scratch());
        Sample.Write(_dir.Path);
        _authority = new TestCertificates(_dir.Path);
        _images = ImageDirectory.Open(_dir.Path);
    }

    [TearDown]
    public void TearDown()
    {
        _images.Dispose();
        _authority.Dispose();
        _dir.Dispose();
        _elsewhere.Dispose();
    }

    private static readonly string[][] s_otherPurposes = [[Email], [CodeSigning], [TimeStamping], [Email, CodeSigning]];

    [TestCaseSource(nameof(s_otherPurposes))]
    public void Certificate_is_refused_when_it_is_for_another_purpose(params string[] purposes)
    {
        Assert.That(Refusal(Server(), Client(purposes)), Does.Contain("CN=client").And.Contain("extended key usage"), "the server refuses the client");
        Assert.That(Refusal(Server(purposes), Client()), Does.Contain("CN=server").And.Contain("extended key usage"), "the client refuses the server");
    }

    [Test]
    public void Certificate_is_refused_when_it_is_for_the_other_role()
    {
        Assert.That(Refusal(Server(), Client([ServerAuth])), Does.Contain("CN=client").And.Contain("TLS client"));
        Assert.That(Refusal(Server([ClientAuth]), Client()), Does.Contain("CN=server").And.Contain("TLS server"));
    }

    private static readonly string[]?[][] s_goodPurposes =
    [
        [null, null], [[ServerAuth], [ClientAuth]], [[ServerAuth, ClientAuth], [ClientAuth, ServerAuth]], [[Any], [Any]], [[Email, ServerAuth], [Email, ClientAuth]],
    ];

    [TestCaseSource(nameof(s_goodPurposes))]
    public void Certificate_is_taken_when_it_is_for_its_role_or_for_any(string[]? server, string[]? client) => Assert.That(Refusal(Server(server), Client(client)), Is.Null);

    [Test]
    public void Certificate_is_refused_when_its_key_may_not_sign()
    {
        const X509KeyUsageFlags Authority = X509KeyUsageFlags.KeyCertSign | X509KeyUsageFlags.CrlSign;
        TlsFiles client = _authority.Issue("client", usage: Authority);
        Assert.That(Refusal(Server(), client), Does.Contain("CN=client").And.Contain("key usage"));
        TlsFiles server = _authority.Issue("server", address: IPAddress.Loopback, usage: Authority);
        Assert.That(Refusal(server, Client()), Does.Contain("no TLS connection"), "by OpenSSL itself");
        TlsFiles good = _authority.Issue("good", usage: X509KeyUsageFlags.DigitalSignature);
        Assert.That(Refusal(Server(), good), Is.Null);
    }

    [Test]
    public void Certificate_is_refused_when_its_signature_or_key_is_weak()
    {
        // Our own OpenSSL refuses to show such certificates; a peer's may not.
        foreach ((TlsFiles files, string says) in ((TlsFiles, string)[])
            [(_authority.Issue("sha1", sha1: true), "SHA-256"), (_authority.Issue("small", rsa: true, rsaBits: 1024), "1024 bits"), (_authority.Issue("good"), "")])
        {
            using X509Certificate2 leaf = X509CertificateLoader.LoadCertificateFromFile(files.Certificate!), root = X509CertificateLoader.LoadCertificateFromFile(_authority.Root);
            Assert.That(CertificateUse.Refuse([leaf, root], CertificateUse.Client) ?? "", says.Length > 0 ? Does.Contain(says) : Is.Empty);
        }
    }

    [Test]
    public void Server_is_refused_when_no_authority_is_named()
    {
        if (File.Exists(TlsFiles.DefaultCaCertificate))
            Assert.Ignore($"{TlsFiles.DefaultCaCertificate} is there, and names one");
        using var credentials = TlsCredentials.Load(Server() with { CaCertificate = null });
        Assert.That(() => new PageServer(new PageServerOptions { Source = _images, Tls = credentials }),
            Throws.TypeOf<BadInputException>().With.Message.Contains("--tls-cacert"));
        Assert.That(() => TlsCredentials.Load(Client() with { CaCertificate = null, VerifyName = false }),
            Throws.TypeOf<BadInputException>().With.Message.Contains("--tls-cacert"), "a client that takes any name");
    }

    [Test]
    public void Chain_is_taken_when_each_link_is_there()
    {
        using var between = new TestCertificates(_dir.Path, "between", _authority);
        using var below = new TestCertificates(_dir.Path, "below", between);
        TlsFiles server = below.Issue("server", address: IPAddress.Loopback, purposes: [ServerAuth]), client = below.Issue("client", purposes: [ClientAuth]);
        Assert.That(Refusal(server, client), Is.Null);
        // Trust may begin at an authority that is not its own issuer.
        Assert.That(Refusal(server, client with { CaCertificate = between.Authority }), Is.Null);
        Assert.That(Refusal(server with { CaCertificate = below.Authority }, client), Is.Null);
    }

    [Test]
    public void Chain_is_refused_when_a_link_is_missing_or_forged()
    {
        using var between = new TestCertificates(_dir.Path, "between", _authority);
        TlsFiles client = between.Issue("client"), server = Server();
        string whole = File.ReadAllText(client.Certificate!);
        File.WriteAllText(client.Certificate!, whole[..(whole.IndexOf("-----END CERTIFICATE-----", StringComparison.Ordinal) + 25)]);
        Assert.That(Refusal(server, client), Does.Contain("CN=client").And.Contain("PartialChain"));
        // Somebody else calls himself by the same name.
        using var forger = new TestCertificates(_elsewhere.Path);
        using var forged = new TestCertificates(_elsewhere.Path, "between", forger);
        TlsFiles false_ = forged.Issue("false") with { CaCertificate = _authority.Authority };
        Assert.That(Refusal(server, false_), Does.Contain("CN=false"));
        Assert.That(Refusal(server with { CaCertificate = between.Authority }, false_), Does.Contain("CN=false"), "where trust begins at the authority between");
    }

    [Test]
    public void Chain_is_refused_when_an_issuer_may_not_issue()
    {
        using var noAuthority = new TestCertificates(_dir.Path, "nobody", _authority, isAuthority: false);
        Assert.That(Refusal(Server(), noAuthority.Issue("client")), Does.Contain("CN=client").And.Contain("InvalidBasicConstraints"));
        using var last = new TestCertificates(_dir.Path, "last", _authority, pathLength: 0);
        using var tooFar = new TestCertificates(_dir.Path, "too far", last);
        Assert.That(Refusal(Server(), tooFar.Issue("distant")), Does.Contain("CN=distant").And.Contain("InvalidBasicConstraints"));
        Assert.That(Refusal(Server(), last.Issue("near")), Is.Null);
        using var mail = new TestCertificates(_dir.Path, "mail", _authority, purposes: [Email]);
        Assert.That(Refusal(Server(), mail.Issue("mailed")), Does.Contain("extended key usage"), "an authority for e-mail");
    }

    [Test]
    public void Revocation_list_is_refused_when_its_authority_did_not_sign_it()
    {
        TlsFiles client = Client();
        // The name is right, the key is not.
        using var forger = new TestCertificates(_elsewhere.Path);
        string forged = forger.Revoke();
        Assert.That(() => TlsCredentials.Load(Server() with { RevocationList = forged }), Throws.TypeOf<BadInputException>().With.Message.Contains("not signed"));
        // One byte of the signature, and one of the content.
        byte[] list = Convert.FromBase64String(string.Concat(File.ReadAllLines(_authority.Revoke(client))[1..^1]));
        foreach (int at in (int[])[list.Length - 3, 60])
        {
            byte[] damaged = [.. list];
            damaged[at] ^= 1;
            File.WriteAllText(_authority.Revoked, PemEncoding.WriteString("X509 CRL", damaged));
            Assert.That(() => TlsCredentials.Load(Server() with { RevocationList = _authority.Revoked }), Throws.TypeOf<BadInputException>(), $"byte {at}");
        }
        // Of an authority that shows up in a handshake only.
        using var between = new TestCertificates(_dir.Path, "between", _authority);
        using var forgedBetween = new TestCertificates(_elsewhere.Path, "between", forger);
        TlsFiles server = Server() with { RevocationList = forgedBetween.Revoke() };
        Assert.That(Refusal(server, between.Issue("client")), Does.Contain("not signed"));
    }

    [Test]
    public void Revocation_list_is_refused_outside_its_days()
    {
        DateTimeOffset now = DateTimeOffset.UtcNow;
        string list = _authority.Revoke(now.AddDays(-9), now.AddDays(-2));
        Assert.That(Refusal(Server() with { RevocationList = list }, Client()), Does.Contain("ended on"));
        string ended = File.ReadAllText(list);
        list = _authority.Revoke(now.AddDays(2), now.AddDays(9));
        Assert.That(Refusal(Server() with { RevocationList = list }, Client()), Does.Contain("begins on"));
        // The one that replaced it stands beside it.
        string both = ended + "\n" + File.ReadAllText(_authority.Revoke());
        File.WriteAllText(list, both);
        Assert.That(Refusal(Server() with { RevocationList = list }, Client()), Is.Null);
    }

    [Test]
    public void Revocation_list_is_refused_when_it_is_a_difference()
    {
        string list = _authority.RevokeAsDelta(Client());
        Assert.That(() => TlsCredentials.Load(Server() with { RevocationList = list }), Throws.TypeOf<BadInputException>().With.Message.Contains("2.5.29.27"));
    }

    [Test]
    public void Authority_between_is_refused_when_it_was_revoked()
    {
        using var between = new TestCertificates(_dir.Path, "between", _authority);
        TlsFiles client = between.Issue("client");
        Assert.That(Refusal(Server(), client), Is.Null);
        TlsFiles server = Server() with { RevocationList = _authority.Revoke(between) };
        Assert.That(Refusal(server, client), Does.Contain("CN=Test authority between: was revoked"));
        Assert.That(Refusal(server, Client()), Is.Null, "another authority's");
    }

    /// <summary>CRIU's names are GnuTLS's: the common name counts only where no host name stands beside it.</summary>
    [Test]
    public void Common_name_is_refused_when_the_certificate_names_another_host()
    {
        using PageServer server = Start(_authority.Issue("server", host: "elsewhere.example", subject: "CN=localhost"));
        using var credentials = TlsCredentials.Load(Client());
        var name = new DnsEndPoint("localhost", server.EndPoint.Port);
        Assert.That(() => PageLane.Connect(name, credentials), Throws.TypeOf<BadInputException>().With.Message.Contains("is not for localhost"));
    }

    [Test]
    public void Subject_of_a_certificate_does_not_steer_the_terminal()
    {
        using var stranger = new TestCertificates(_elsewhere.Path, "stranger");
        TlsFiles hostile = stranger.Issue("hostile", subject: "CN=\u001b[2Jgone\u202e\u0085evil") with { CaCertificate = _authority.Authority };
        string line = Refusal(Server(), hostile)!;
        Assert.That(line, Does.Contain("\\u{1b}[2Jgone\\u{202e}\\u{85}evil"));
        Assert.That(line.Any(char.IsControl), Is.False);
    }

    private TlsFiles Server(string[]? purposes = null) => _authority.Issue("server", address: IPAddress.Loopback, purposes: purposes);

    private TlsFiles Client(string[]? purposes = null) => _authority.Issue("client", purposes: purposes);

    private PageServer Start(TlsFiles files) => new(new PageServerOptions { Source = _images, Tls = TlsCredentials.Load(files), Log = _log.Enqueue });

    /// <summary>Why the two do not talk, in the words of the one who refuses; null when a page came over.</summary>
    private string? Refusal(TlsFiles serverFiles, TlsFiles clientFiles)
    {
        _log.Clear();
        using PageServer server = Start(serverFiles);
        using var credentials = TlsCredentials.Load(clientFiles);
        try
        {
            using PageLane lane = PageLane.Connect(server.EndPoint, credentials);
            var collector = new Collector();
            collector.Expect(0, PageRange.Single(Sample.Heap));
            lane.Request(0, Sample.Pid, PageRange.Single(Sample.Heap));
            lane.Run(collector);
            collector.AssertComplete();
            return null;
        }
        catch (BadInputException e)
        {
            Assert.That(e.Message, Does.Not.Contain("\n"));
            if (e.Message.Contains("no TLS connection", StringComparison.Ordinal))
                return e.Message;
            // The client learns only that the server left.
            Assert.That(() => _log, Has.Count.EqualTo(1).After(5000, 10));
            return _log.Single();
        }
    }
}
