using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Testbed.PageXfer.Protocol;

namespace Testbed.PageXfer.Tests;

/// <summary>A certificate authority of a test, whose files lie in a directory.</summary>
internal sealed class TestCertificates : IDisposable
{
    private static readonly DateTimeOffset Begin = DateTimeOffset.UtcNow.AddDays(-1);
    private static readonly DateTimeOffset End = DateTimeOffset.UtcNow.AddDays(1);

    private readonly string _directory;
    private readonly string _name;
    private readonly X509Certificate2 _authority;

    public TestCertificates(string directory, string name = "ca")
    {
        (_directory, _name) = (directory, name);
        using ECDsa key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest($"CN=Test authority {name}", key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, false, 0, true));
        request.CertificateExtensions.Add(new X509KeyUsageExtension(X509KeyUsageFlags.KeyCertSign | X509KeyUsageFlags.CrlSign, true));
        request.CertificateExtensions.Add(new X509SubjectKeyIdentifierExtension(request.PublicKey, false));
        _authority = request.CreateSelfSigned(Begin, End);
        File.WriteAllText(Authority, _authority.ExportCertificatePem());
    }

    public string Authority => Path.Combine(_directory, $"{_name}.pem");

    public string Revoked => Path.Combine(_directory, $"{_name}-crl.pem");

    /// <summary>What is typed for a certificate.</summary>
    public static string[] Options(TlsFiles files) =>
        ["--tls", "--tls-cacert", files.CaCertificate!, "--tls-cert", files.Certificate!, "--tls-key", files.Key!];

    /// <summary>A certificate and its key, as NAME.pem and NAME-key.pem; for an address, a host name, or, without either, a common name alone.</summary>
    public TlsFiles Issue(string name, string? host = null, IPAddress? address = null, bool rsa = false, bool expired = false)
    {
        using ECDsa ec = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        using ECDsa authorityKey = _authority.GetECDsaPrivateKey()!;
        using RSA old = RSA.Create(2048);
        CertificateRequest request = rsa
            ? new CertificateRequest($"CN={name}", old, HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1)
            : new CertificateRequest($"CN={name}", ec, HashAlgorithmName.SHA256);
        var names = new SubjectAlternativeNameBuilder();
        if (host is not null)
            names.AddDnsName(host);
        if (address is not null)
            names.AddIpAddress(address);
        if (host is not null || address is not null)
            request.CertificateExtensions.Add(names.Build());
        // A second authority of the same seconds must not meet the first one's numbers.
        using X509Certificate2 certificate = request.Create(_authority.SubjectName, X509SignatureGenerator.CreateForECDsa(authorityKey), Begin, expired ? DateTimeOffset.UtcNow.AddMinutes(-1) : End, RandomNumberGenerator.GetBytes(12));
        (string pem, string keyFile) = (Path.Combine(_directory, $"{name}.pem"), Path.Combine(_directory, $"{name}-key.pem"));
        File.WriteAllText(pem, certificate.ExportCertificatePem());
        File.WriteAllText(keyFile, rsa ? old.ExportPkcs8PrivateKeyPem() : ec.ExportPkcs8PrivateKeyPem());
        return new TlsFiles(Authority, null, pem, keyFile);
    }

    /// <summary>Takes certificates back: writes the revocation list.</summary>
    public string Revoke(params TlsFiles[] issued)
    {
        var list = new CertificateRevocationListBuilder();
        foreach (TlsFiles files in issued)
        {
            using X509Certificate2 certificate = X509Certificate2.CreateFromPem(File.ReadAllText(files.Certificate!));
            list.AddEntry(certificate);
        }
        File.WriteAllText(Revoked, PemEncoding.WriteString("X509 CRL", list.Build(_authority, 1, End, HashAlgorithmName.SHA256)));
        return Revoked;
    }

    public void Dispose() => _authority.Dispose();
}
