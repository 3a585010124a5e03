using System.Formats.Asn1;
using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Testbed.PageXfer.Protocol;

namespace Testbed.PageXfer.Tests;

/// <summary>A certificate authority of a test, whose files lie in a directory. It is trusted by itself, or was issued by another one.</summary>
internal sealed class TestCertificates : IDisposable
{
    private static readonly DateTimeOffset Begin = DateTimeOffset.UtcNow.AddDays(-1);
    private static readonly DateTimeOffset End = DateTimeOffset.UtcNow.AddDays(1);

    private readonly string _directory;
    private readonly string _name;
    private readonly TestCertificates? _issuer;
    private readonly X509Certificate2 _authority;

    public TestCertificates(
        string directory, string name = "ca", TestCertificates? issuer = null, bool isAuthority = true, int? pathLength = null, string[]? purposes = null)
    {
        (_directory, _name, _issuer) = (directory, name, issuer);
        using ECDsa key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest($"CN=Test authority {name}", key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(isAuthority, pathLength is not null, pathLength ?? 0, true));
        request.CertificateExtensions.Add(new X509KeyUsageExtension(X509KeyUsageFlags.KeyCertSign | X509KeyUsageFlags.CrlSign, true));
        request.CertificateExtensions.Add(new X509SubjectKeyIdentifierExtension(request.PublicKey, false));
        AddPurposes(request, purposes);
        if (issuer is null)
            _authority = request.CreateSelfSigned(Begin, End);
        else
        {
            using ECDsa issuerKey = issuer._authority.GetECDsaPrivateKey()!;
            using X509Certificate2 issued = request.Create(
                issuer._authority.SubjectName, X509SignatureGenerator.CreateForECDsa(issuerKey), Begin, End, RandomNumberGenerator.GetBytes(12));
            _authority = issued.CopyWithPrivateKey(key);
        }
        File.WriteAllText(Authority, _authority.ExportCertificatePem());
    }

    public string Authority => Path.Combine(_directory, $"{_name}.pem");

    /// <summary>The one that is trusted.</summary>
    public string Root => _issuer?.Root ?? Authority;

    public string Revoked => Path.Combine(_directory, $"{_name}-crl.pem");

    /// <summary>What is typed for a certificate.</summary>
    public static string[] Options(TlsFiles files) =>
        ["--tls", "--tls-cacert", files.CaCertificate!, "--tls-cert", files.Certificate!, "--tls-key", files.Key!];

    /// <summary>A certificate and its key, as NAME.pem and NAME-key.pem; for an address, a host name, or, without either, a common name alone.</summary>
    /// <param name="purposes">The extended key usage; null: none.</param>
    /// <param name="usage">The key usage; null: none.</param>
    /// <param name="sha1">Signed with SHA-1, rather than SHA-256.</param>
    /// <param name="subject">The whole name; null: CN=NAME.</param>
    /// <param name="rsaBits">Of an RSA key; 0: ECDSA.</param>
    public TlsFiles Issue(
        string name, string? host = null, IPAddress? address = null, bool rsa = false, bool expired = false, string[]? purposes = null,
        X509KeyUsageFlags? usage = null, bool sha1 = false, string? subject = null, int rsaBits = 2048)
    {
        using ECDsa ec = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        using ECDsa authorityKey = _authority.GetECDsaPrivateKey()!;
        using RSA old = RSA.Create(rsaBits);
        CertificateRequest request = rsa
            ? new CertificateRequest(subject ?? $"CN={name}", old, HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1)
            : new CertificateRequest(subject ?? $"CN={name}", ec, HashAlgorithmName.SHA256);
        var names = new SubjectAlternativeNameBuilder();
        if (host is not null)
            names.AddDnsName(host);
        if (address is not null)
            names.AddIpAddress(address);
        if (host is not null || address is not null)
            request.CertificateExtensions.Add(names.Build());
        AddPurposes(request, purposes);
        if (usage is { } flags)
            request.CertificateExtensions.Add(new X509KeyUsageExtension(flags, true));
        // A second authority of the same seconds must not meet the first one's numbers.
        using X509Certificate2 certificate = request.Create(_authority.SubjectName, sha1 ? new Sha1(authorityKey) : X509SignatureGenerator.CreateForECDsa(authorityKey), Begin, expired ? DateTimeOffset.UtcNow.AddMinutes(-1) : End, RandomNumberGenerator.GetBytes(12));
        (string pem, string keyFile) = (Path.Combine(_directory, $"{name}.pem"), Path.Combine(_directory, $"{name}-key.pem"));
        // Our own first, then who issued it, up to the one that is trusted.
        var chain = new List<string> { certificate.ExportCertificatePem() };
        for (TestCertificates between = this; between._issuer is not null; between = between._issuer)
            chain.Add(between._authority.ExportCertificatePem());
        File.WriteAllText(pem, string.Join('\n', chain));
        File.WriteAllText(keyFile, rsa ? old.ExportPkcs8PrivateKeyPem() : ec.ExportPkcs8PrivateKeyPem());
        return new TlsFiles(Root, null, pem, keyFile);
    }

    private static void AddPurposes(CertificateRequest request, string[]? purposes)
    {
        if (purposes is not null)
            request.CertificateExtensions.Add(new X509EnhancedKeyUsageExtension([.. purposes.Select(oid => new Oid(oid))], false));
    }

    /// <summary>Takes certificates back: writes the revocation list.</summary>
    public string Revoke(params TlsFiles[] issued) => Revoke(null, null, issued);

    /// <summary>Takes another authority's certificate back.</summary>
    public string Revoke(TestCertificates authority) => Revoke(new TlsFiles(Certificate: authority.Authority));

    /// <summary>Writes a list that is good for other days than usual.</summary>
    public string Revoke(DateTimeOffset? begin, DateTimeOffset? end, params TlsFiles[] issued)
    {
        File.WriteAllText(Revoked, PemEncoding.WriteString("X509 CRL", List(begin, end, issued)));
        return Revoked;
    }

    /// <summary>Writes a list with a critical extension, as a difference to another list has it.</summary>
    public string RevokeAsDelta(params TlsFiles[] issued)
    {
        AsnReader list = new AsnReader(List(null, null, issued), AsnEncodingRules.DER).ReadSequence().ReadSequence();
        var signed = new AsnWriter(AsnEncodingRules.DER);
        var extensions = new Asn1Tag(TagClass.ContextSpecific, 0);
        ReadOnlyMemory<byte> algorithm = default;
        using (signed.PushSequence())
        {
            for (int i = 0; list.HasData && !list.PeekTag().HasSameClassAndValue(extensions); i++)
            {
                ReadOnlyMemory<byte> part = list.ReadEncodedValue();
                signed.WriteEncodedValue(part.Span);
                if (i == 1)
                    algorithm = part;
            }
            using (signed.PushSequence(extensions))
            using (signed.PushSequence())
            using (signed.PushSequence())
            {
                signed.WriteObjectIdentifier("2.5.29.27");
                signed.WriteBoolean(true);
                signed.WriteOctetString([2, 1, 1]);
            }
        }
        using ECDsa key = _authority.GetECDsaPrivateKey()!;
        var whole = new AsnWriter(AsnEncodingRules.DER);
        using (whole.PushSequence())
        {
            whole.WriteEncodedValue(signed.Encode());
            whole.WriteEncodedValue(algorithm.Span);
            whole.WriteBitString(key.SignData(signed.Encode(), HashAlgorithmName.SHA256, DSASignatureFormat.Rfc3279DerSequence));
        }
        File.WriteAllText(Revoked, PemEncoding.WriteString("X509 CRL", whole.Encode()));
        return Revoked;
    }

    public void Dispose() => _authority.Dispose();

    private byte[] List(DateTimeOffset? begin, DateTimeOffset? end, TlsFiles[] issued)
    {
        var list = new CertificateRevocationListBuilder();
        foreach (TlsFiles files in issued)
        {
            using X509Certificate2 certificate = X509Certificate2.CreateFromPem(File.ReadAllText(files.Certificate!));
            list.AddEntry(certificate);
        }
        return list.Build(_authority, 1, end ?? End, HashAlgorithmName.SHA256, thisUpdate: begin ?? Begin);
    }

    /// <summary>Signs as nobody should any more.</summary>
    private sealed class Sha1(ECDsa key) : X509SignatureGenerator
    {
        public override byte[] GetSignatureAlgorithmIdentifier(HashAlgorithmName hashAlgorithm)
        {
            var writer = new AsnWriter(AsnEncodingRules.DER);
            using (writer.PushSequence())
                writer.WriteObjectIdentifier("1.2.840.10045.4.1");
            return writer.Encode();
        }

        public override byte[] SignData(byte[] data, HashAlgorithmName hashAlgorithm) => key.SignData(data, HashAlgorithmName.SHA1, DSASignatureFormat.Rfc3279DerSequence);

        protected override PublicKey BuildPublicKey() => CreateForECDsa(key).PublicKey;
    }
}
