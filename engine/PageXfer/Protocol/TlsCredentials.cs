using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Testbed.Core;

namespace Testbed.PageXfer.Protocol;

/// <summary>The files behind CRIU's --tls options, all PEM. Null: CRIU's default.</summary>
/// <param name="CaCertificate">
/// --tls-cacert: whom to trust, nobody else. Null: <see cref="DefaultCaCertificate"/>, if it is there, and for a client that checks
/// the server's name the system's trusted CAs.
/// </param>
/// <param name="RevocationList">--tls-cacrl: certificates not to trust any more. Null: <see cref="DefaultRevocationList"/>, if it can be read.</param>
/// <param name="Certificate">--tls-cert: who we are, and the certificates between us and the CA.</param>
/// <param name="Key">--tls-key: the private key of the certificate.</param>
/// <param name="VerifyName">False, --tls-no-cn-verify: the server's certificate may be for another name than the one it was reached by.</param>
public sealed record TlsFiles(
    string? CaCertificate = null, string? RevocationList = null, string? Certificate = null, string? Key = null, bool VerifyName = true)
{
    /// <summary>Where a CRIU of a distribution looks for the CA's certificate.</summary>
    public const string DefaultCaCertificate = "/etc/pki/CA/cacert.pem";

    /// <summary>Where it looks for the revocation list.</summary>
    public const string DefaultRevocationList = "/etc/pki/CA/cacrl.pem";

    /// <summary>Where it looks for its own certificate.</summary>
    public const string DefaultCertificate = "/etc/pki/criu/cert.pem";

    /// <summary>Where it looks for its private key.</summary>
    public const string DefaultKey = "/etc/pki/criu/private/key.pem";
}

/// <summary>
/// Who we are and whom we trust on TLS connections, as CRIU has it: both sides show a certificate, both check the other's
/// against CA and revocation list, and the client also checks that the server's is for the name or address that it was reached
/// by. Read once, used for any number of connections, from any thread.
/// </summary>
/// <remarks>
/// Stricter than CRIU in four ways. A peer's certificate must be for its role (<see cref="CertificateUse"/>). Revocation lists must be
/// signed (<see cref="RevocationList"/>). Who serves trusts no authority of the system, for each of their certificates, of which
/// anybody can have one, would read memory. Neither does a client that does not check the server's name.
/// </remarks>
public sealed class TlsCredentials : IDisposable
{
    // A peer that opens a connection and says nothing must not keep it for ever.
    private static readonly TimeSpan HandshakeLimit = TimeSpan.FromSeconds(20);

    private readonly X509Certificate2Collection _trusted = [];
    private readonly bool _namesAuthority;
    private readonly bool _trustsSystem;
    private readonly bool _verifiesName;
    private readonly RevocationList? _revoked;
    private readonly X509Certificate2 _own;
    private readonly X509Certificate2Collection _between = [];
    private readonly SslStreamCertificateContext _context;

    /// <summary>Reads the files.</summary>
    /// <exception cref="BadInputException">One is missing, or is not what it should be, or no authority is named where one must be.</exception>
    public static TlsCredentials Load(TlsFiles files) => new(files);

    /// <summary>Refuses to serve with these when they name no authority of their own. <see cref="Accept"/> needs one.</summary>
    /// <exception cref="BadInputException">Neither --tls-cacert nor the default file named one.</exception>
    public void RequireAuthority()
    {
        if (!_namesAuthority)
            throw new BadInputException($"--tls: no authority; expected --tls-cacert FILE (or {TlsFiles.DefaultCaCertificate}) to say whose clients may connect, for any certificate of the system's would do otherwise");
    }

    private TlsCredentials(TlsFiles files)
    {
        _verifiesName = files.VerifyName;
        _trustsSystem = files.CaCertificate is null && files.VerifyName;
        string authorities = files.CaCertificate ?? TlsFiles.DefaultCaCertificate;
        if (files.CaCertificate is not null || File.Exists(authorities))
        {
            Read("--tls-cacert", authorities, "certificates in PEM", () => _trusted.ImportFromPemFile(authorities));
            if (_trusted.Count == 0)
                throw new BadInputException($"--tls-cacert {authorities}: no certificate in it; expected one at least, in PEM");
        }
        _namesAuthority = _trusted.Count > 0;
        if (!_namesAuthority && !_trustsSystem)
            throw new BadInputException($"--tls-no-cn-verify: no authority; expected --tls-cacert FILE (or {TlsFiles.DefaultCaCertificate}), for any certificate of the system's would do otherwise");
        if (files.RevocationList is not null || File.Exists(TlsFiles.DefaultRevocationList))
            _revoked = RevocationList.Load(files.RevocationList ?? TlsFiles.DefaultRevocationList, _trusted);
        string certificate = files.Certificate ?? TlsFiles.DefaultCertificate;
        string key = files.Key ?? TlsFiles.DefaultKey;
        X509Certificate2? own = null;
        Read("--tls-cert", certificate, "a certificate in PEM", () => _between.ImportFromPemFile(certificate));
        if (_between.Count == 0)
            throw new BadInputException($"--tls-cert {certificate}: no certificate in it; expected one, in PEM");
        Read("--tls-key", key, $"the private key of {certificate} in PEM", () => own = X509Certificate2.CreateFromPemFile(certificate, key));
        _own = own!;
        // The first one is our own, again and without its key.
        _between.RemoveAt(0);
        _context = SslStreamCertificateContext.Create(_own, _between, offline: true);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _own.Dispose();
        foreach (X509Certificate2 certificate in (IEnumerable<X509Certificate2>)[.. _between, .. _trusted])
            certificate.Dispose();
    }

    /// <summary>The server's side of the handshake, over a blocking socket.</summary>
    /// <exception cref="BadInputException">The peer does not speak TLS, or is not trusted.</exception>
    internal SslStream Accept(Socket socket)
    {
        string? refused = null;
        var options = new SslServerAuthenticationOptions
        {
            ServerCertificateContext = _context,
            ClientCertificateRequired = true,
            RemoteCertificateValidationCallback = (_, certificate, chain, _) => (refused = Refuse(certificate, chain, CertificateUse.Client, null)) is null,
            // With 1.3 OpenSSL sends tickets after the handshake, allowed or not; CRIU's client takes one for the end of its receive.
            EnabledSslProtocols = SslProtocols.Tls12,
            AllowTlsResume = false,
            AllowRenegotiation = false,
        };
        return Shake(socket, new NetworkStream(socket, ownsSocket: false), stream => stream.AuthenticateAsServer(options), () => refused);
    }

    /// <summary>The client's side, over a blocking socket or what stands for it, to a server that was reached by a name or an address.</summary>
    /// <exception cref="BadInputException">The peer does not speak TLS, or is not trusted.</exception>
    internal SslStream Connect(Socket socket, EndPoint server, Stream? over = null)
    {
        string name = server is DnsEndPoint named ? named.Host : $"{((IPEndPoint)server).Address}";
        string? refused = null;
        var options = new SslClientAuthenticationOptions
        {
            TargetHost = name,
            ClientCertificateContext = _context,
            RemoteCertificateValidationCallback = (_, certificate, chain, _) => (refused = Refuse(certificate, chain, CertificateUse.Server, _verifiesName ? name : null)) is null,
            AllowTlsResume = false,
        };
        return Shake(socket, over ?? new NetworkStream(socket, ownsSocket: false), stream => stream.AuthenticateAsClient(options), () => refused);
    }

    private static SslStream Shake(Socket socket, Stream over, Action<SslStream> shake, Func<string?> refused)
    {
        var stream = new SslStream(over);
        try
        {
            socket.ReceiveTimeout = socket.SendTimeout = (int)HandshakeLimit.TotalMilliseconds;
            shake(stream);
            socket.ReceiveTimeout = socket.SendTimeout = 0;
            return stream;
        }
        catch (Exception e)
        {
            stream.Dispose();
            if (e is not (AuthenticationException or IOException or InvalidOperationException or SocketException))
                throw;
            string why = refused() ?? Printable.Of((e.InnerException ?? e).Message.TrimEnd('.'));
            throw new BadInputException($"{PeerName.Of(socket)}: no TLS connection ({why}); expected a peer with --tls and a certificate that is trusted here", e);
        }
    }

    /// <summary>Why a certificate is not good, in a few words; null when it is.</summary>
    private string? Refuse(X509Certificate? shown, X509Chain? sent, string purpose, string? name)
    {
        if (shown is not X509Certificate2 certificate)
            return "it shows no certificate";
        using var chain = new X509Chain();
        if (!IsTrusted(chain, certificate, sent, _trustsSystem && purpose == CertificateUse.Server))
            return $"{CertificateUse.NameOf(certificate)}: {string.Join(", ", chain.ChainStatus.Select(s => s.Status).Distinct())}";
        // Up to the one that is trusted; who issued that does not matter.
        X509Certificate2[] certificates = [.. chain.ChainElements.Take(Math.Max(1, TrustedAt(chain) + 1)).Select(element => element.Certificate)];
        if (RefuseRevoked(certificates) is { } revoked)
            return revoked;
        if (CertificateUse.Refuse(certificates, purpose) is { } unfit)
            return unfit;
        return name is null || IsFor(certificate, name) ? null : $"{CertificateUse.NameOf(certificate)}: is not for {name}";
    }

    /// <summary>Names in the common name alone are old, but what many openssl recipes give; GnuTLS takes them where no host name stands beside.</summary>
    private static bool IsFor(X509Certificate2 certificate, string name)
    {
        bool named = certificate.Extensions.OfType<X509SubjectAlternativeNameExtension>().Any(e => e.EnumerateDnsNames().Any());
        return certificate.MatchesHostname(name, allowWildcards: true, allowCommonName: !named);
    }

    private string? RefuseRevoked(X509Certificate2[] chain)
    {
        for (int i = 0; _revoked is not null && i < chain.Length; i++)
        {
            X509Certificate2 issuer = chain[Math.Min(i + 1, chain.Length - 1)];
            // Who issued a trusted authority that did not issue itself is not known.
            bool known = i + 1 < chain.Length || issuer.SubjectName.RawData.AsSpan().SequenceEqual(issuer.IssuerName.RawData);
            if (known && _revoked.Refuse(chain[i], issuer) is { } why)
                return why;
        }
        return null;
    }

    private bool IsTrusted(X509Chain chain, X509Certificate2 certificate, X509Chain? sent, bool trustsSystem)
    {
        X509ChainPolicy policy = chain.ChainPolicy;
        policy.RevocationMode = X509RevocationMode.NoCheck;
        policy.DisableCertificateDownloads = true;
        if (sent is not null)
            policy.ExtraStore.AddRange(sent.ChainPolicy.ExtraStore);
        policy.CustomTrustStore.AddRange(_trusted);
        policy.TrustMode = X509ChainTrustMode.CustomRootTrust;
        if (chain.Build(certificate) || IsGoodUpToTrusted(chain))
            return true;
        if (!trustsSystem)
            return false;
        policy.TrustMode = X509ChainTrustMode.System;
        policy.CustomTrustStore.Clear();
        return chain.Build(certificate);
    }

    /// <summary>An authority may be trusted that another one issued: for GnuTLS, and so for CRIU, the chain is good up to there.</summary>
    private bool IsGoodUpToTrusted(X509Chain chain) =>
        TrustedAt(chain) > 0 && chain.ChainStatus.All(status => status.Status is X509ChainStatusFlags.PartialChain or X509ChainStatusFlags.UntrustedRoot);

    /// <summary>Where in a chain the first certificate stands that was named as trusted; where none was, the last one of a chain of the system's.</summary>
    private int TrustedAt(X509Chain chain)
    {
        for (int i = 0; i < chain.ChainElements.Count; i++)
        {
            ReadOnlyMemory<byte> bytes = chain.ChainElements[i].Certificate.RawDataMemory;
            if (_trusted.Any(c => c.RawDataMemory.Span.SequenceEqual(bytes.Span)))
                return i;
        }
        return chain.ChainPolicy.TrustMode == X509ChainTrustMode.System ? chain.ChainElements.Count - 1 : -1;
    }

    private static void Read(string option, string path, string expected, Action read)
    {
        try
        {
            read();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or CryptographicException or ArgumentException)
        {
            throw new BadInputException($"{option} {path}: cannot be used ({e.Message}); expected {expected}", e);
        }
    }
}
