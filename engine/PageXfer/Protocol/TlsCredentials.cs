using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Testbed.Core;

namespace Testbed.PageXfer.Protocol;

/// <summary>The files behind CRIU's --tls options, all PEM. Null: CRIU's default.</summary>
/// <param name="CaCertificate">--tls-cacert: whom to trust, nobody else. Null: the system's trusted CAs and, if it is there, <see cref="DefaultCaCertificate"/>.</param>
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
public sealed class TlsCredentials : IDisposable
{
    // A peer that opens a connection and says nothing must not keep it for ever.
    private static readonly TimeSpan HandshakeLimit = TimeSpan.FromSeconds(20);

    private readonly X509Certificate2Collection _trusted = [];
    private readonly bool _trustsSystem;
    private readonly bool _verifiesName;
    private readonly RevocationList? _revoked;
    private readonly X509Certificate2 _own;
    private readonly X509Certificate2Collection _between = [];
    private readonly SslStreamCertificateContext _context;

    /// <summary>Reads the files.</summary>
    /// <exception cref="BadInputException">One is missing, or is not what it should be.</exception>
    public static TlsCredentials Load(TlsFiles files) => new(files);

    private TlsCredentials(TlsFiles files)
    {
        _verifiesName = files.VerifyName;
        _trustsSystem = files.CaCertificate is null;
        if (files.CaCertificate is { } trusted)
        {
            Read("--tls-cacert", trusted, "certificates in PEM", () => _trusted.ImportFromPemFile(trusted));
            if (_trusted.Count == 0)
                throw new BadInputException($"--tls-cacert {trusted}: no certificate in it; expected one at least, in PEM");
        }
        else if (File.Exists(TlsFiles.DefaultCaCertificate))
            Read("--tls-cacert", TlsFiles.DefaultCaCertificate, "certificates in PEM", () => _trusted.ImportFromPemFile(TlsFiles.DefaultCaCertificate));
        if (files.RevocationList is not null || File.Exists(TlsFiles.DefaultRevocationList))
            _revoked = RevocationList.Load(files.RevocationList ?? TlsFiles.DefaultRevocationList);
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
            RemoteCertificateValidationCallback = (_, certificate, chain, _) => (refused = Refuse(certificate, chain, null)) is null,
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
            RemoteCertificateValidationCallback = (_, certificate, chain, _) => (refused = Refuse(certificate, chain, _verifiesName ? name : null)) is null,
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
            string why = refused() ?? (e.InnerException ?? e).Message.TrimEnd('.');
            throw new BadInputException($"{PeerName.Of(socket)}: no TLS connection ({why}); expected a peer with --tls and a certificate that is trusted here", e);
        }
    }

    /// <summary>Why a certificate is not good, in a few words; null when it is.</summary>
    private string? Refuse(X509Certificate? shown, X509Chain? sent, string? name)
    {
        if (shown is not X509Certificate2 certificate)
            return "it shows no certificate";
        using var chain = new X509Chain();
        if (!IsTrusted(chain, certificate, sent))
            return $"certificate of {certificate.Subject}: {string.Join(", ", chain.ChainStatus.Select(s => s.Status).Distinct())}";
        if (chain.ChainElements.Select(element => _revoked?.Refuse(element.Certificate)).FirstOrDefault(why => why is not null) is { } revoked)
            return revoked;
        // Names in the common name alone are old, but what many openssl recipes give, and CRIU takes them.
        return name is null || certificate.MatchesHostname(name, allowWildcards: true, allowCommonName: true)
            ? null
            : $"certificate of {certificate.Subject}: is not for {name}";
    }

    private bool IsTrusted(X509Chain chain, X509Certificate2 certificate, X509Chain? sent)
    {
        X509ChainPolicy policy = chain.ChainPolicy;
        policy.RevocationMode = X509RevocationMode.NoCheck;
        policy.DisableCertificateDownloads = true;
        if (sent is not null)
            policy.ExtraStore.AddRange(sent.ChainPolicy.ExtraStore);
        policy.CustomTrustStore.AddRange(_trusted);
        policy.TrustMode = X509ChainTrustMode.CustomRootTrust;
        if (chain.Build(certificate))
            return true;
        if (!_trustsSystem)
            return false;
        policy.TrustMode = X509ChainTrustMode.System;
        policy.CustomTrustStore.Clear();
        return chain.Build(certificate);
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
