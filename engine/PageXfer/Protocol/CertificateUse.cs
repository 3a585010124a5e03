using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Testbed.Core;

namespace Testbed.PageXfer.Protocol;

/// <summary>
/// What the certificates of a chain may be used for (RFC 5280, sections 4.2.1.3 and 4.2.1.12). The platform checks
/// signatures, dates, name constraints, path lengths and that an issuer is an authority; GnuTLS, as CRIU calls it, checks no
/// purpose at all, so that a certificate for e-mail would read memory.
/// </summary>
internal static class CertificateUse
{
    /// <summary>What the certificate of a server must allow: serverAuth.</summary>
    public const string Server = "1.3.6.1.5.5.7.3.1";

    /// <summary>What the certificate of a client must allow: clientAuth.</summary>
    public const string Client = "1.3.6.1.5.5.7.3.2";

    private const string AnyPurpose = "2.5.29.37.0";

    // NIST SP 800-57: 112 bits of strength. Debian's OpenSSL refuses shorter keys as well.
    private const int RsaBitsMin = 2048;

    // MD2, MD5 and SHA-1 with RSA (two numbers), DSA and ECDSA: somebody else can have a certificate with the same signature.
    private static readonly HashSet<string> s_weak =
    [
        "1.2.840.113549.1.1.2", "1.2.840.113549.1.1.3", "1.2.840.113549.1.1.4", "1.2.840.113549.1.1.5",
        "1.3.14.3.2.29", "1.2.840.10040.4.3", "1.2.840.10045.4.1",
    ];

    /// <summary>
    /// Why a chain must not be used for a purpose, in a few words; null when it may. A certificate without the extended
    /// key usage extension is for any purpose, as RFC 5280 has it, and so is one that names anyExtendedKeyUsage. An
    /// authority between the certificate and the trusted one that has the extension restricts what it issues.
    /// </summary>
    /// <param name="chain">From the peer's certificate to the trusted one, which itself is trusted as it is.</param>
    /// <param name="purpose"><see cref="Server"/> or <see cref="Client"/>.</param>
    public static string? Refuse(IReadOnlyList<X509Certificate2> chain, string purpose)
    {
        try
        {
            if (RefuseKeyUsage(chain[0], purpose) is { } why)
                return why;
            for (int i = 0; i < Math.Max(1, chain.Count - 1); i++)
            {
                if (RefusePurpose(chain[i], purpose) is { } other)
                    return other;
                // The trusted one's own signature is not what it is trusted for.
                if (chain.Count > 1 && RefuseStrength(chain[i]) is { } weak)
                    return weak;
            }
            return null;
        }
        catch (CryptographicException e)
        {
            return $"{NameOf(chain[0])}: has an extension that cannot be read ({e.Message.TrimEnd('.')})";
        }
    }

    /// <summary>How messages call a certificate.</summary>
    public static string NameOf(X509Certificate2 certificate) => $"certificate of {Printable.Of(certificate.Subject)}";

    private static string? RefusePurpose(X509Certificate2 certificate, string purpose)
    {
        foreach (X509EnhancedKeyUsageExtension extension in certificate.Extensions.OfType<X509EnhancedKeyUsageExtension>())
        {
            string?[] purposes = [.. extension.EnhancedKeyUsages.Cast<Oid>().Select(oid => oid.Value)];
            if (!purposes.Contains(purpose) && !purposes.Contains(AnyPurpose))
                return $"{NameOf(certificate)}: its extended key usage ({string.Join(", ", purposes)}) is not that of a TLS {Who(purpose)} ({purpose})";
        }
        return null;
    }

    private static string? RefuseKeyUsage(X509Certificate2 certificate, string purpose)
    {
        // A client signs; a server may also be the one that decrypts or agrees, in TLS 1.2's older suites.
        X509KeyUsageFlags needed = X509KeyUsageFlags.DigitalSignature
            | (purpose == Server ? X509KeyUsageFlags.KeyEncipherment | X509KeyUsageFlags.KeyAgreement : X509KeyUsageFlags.None);
        return certificate.Extensions.OfType<X509KeyUsageExtension>().All(extension => (extension.KeyUsages & needed) != 0)
            ? null
            : $"{NameOf(certificate)}: its key usage is not that of a TLS {Who(purpose)} (digital signature)";
    }

    private static string? RefuseStrength(X509Certificate2 certificate)
    {
        if (s_weak.Contains(certificate.SignatureAlgorithm.Value ?? ""))
            return $"{NameOf(certificate)}: is signed with a hash that can be forged; expected SHA-256 or better";
        using RSA? rsa = certificate.GetRSAPublicKey();
        return rsa is { KeySize: < RsaBitsMin } ? $"{NameOf(certificate)}: has a key of {rsa.KeySize} bits; expected {RsaBitsMin} for RSA" : null;
    }

    private static string Who(string purpose) => purpose == Server ? "server" : "client";
}
