using System.Formats.Asn1;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Testbed.Core;

namespace Testbed.PageXfer.Protocol;

/// <summary>
/// Certificates that their issuers revoked: one or more X.509 CRLs (RFC 5280, section 5) in a PEM file. A list counts only for
/// the authority whose key signed it. GnuTLS, as CRIU calls it, does not check that signature: who can write the file
/// could lift a revocation, or revoke everybody.
/// </summary>
internal sealed class RevocationList
{
    private const string Label = "X509 CRL";

    // The largest public lists have some 20 MB; a file is read whole.
    private const long FileBytesMax = 64 << 20;

    // By the name of the issuer, as text: two encodings of one name must not make a list be overlooked.
    private readonly Dictionary<string, List<SignedRevocations>> _lists = [];

    /// <summary>Reads a file.</summary>
    /// <param name="path">The file.</param>
    /// <param name="trusted">The authorities known so far. The list of another one is checked when a peer shows its chain.</param>
    /// <exception cref="BadInputException">The file cannot be read, holds no list, or one that its issuer did not sign.</exception>
    public static RevocationList Load(string path, X509Certificate2Collection trusted)
    {
        var list = new RevocationList();
        try
        {
            using (FileStream file = File.OpenRead(path))
            {
                if (file.Length > FileBytesMax)
                    throw new BadInputException($"--tls-cacrl {path}: has {file.Length} bytes; expected at most {FileBytesMax}");
            }
            ReadOnlySpan<char> text = File.ReadAllText(path);
            while (PemEncoding.TryFind(text, out PemFields fields))
            {
                if (text[fields.Label] is Label)
                    list.Add(SignedRevocations.Parse(Convert.FromBase64String(text[fields.Base64Data].ToString())));
                text = text[fields.Location.End..];
            }
            if (list._lists.Count == 0)
                throw new CryptographicException($"no {Label} in it");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or CryptographicException or AsnContentException or FormatException)
        {
            throw new BadInputException($"--tls-cacrl {path}: cannot be used ({Printable.Of(e.Message)}); expected a revocation list in PEM", e);
        }
        list.CheckSignatures(path, trusted);
        return list;
    }

    /// <summary>Why a certificate must not be trusted any more; null when nothing speaks against it.</summary>
    /// <param name="certificate">The certificate.</param>
    /// <param name="issuer">Who signed it, from a chain that was checked.</param>
    public string? Refuse(X509Certificate2 certificate, X509Certificate2 issuer)
    {
        if (!_lists.TryGetValue(NameOf(certificate.IssuerName), out List<SignedRevocations>? lists))
            return null;
        string who = Printable.Of(certificate.Issuer);
        SignedRevocations[] signed = [.. lists.Where(l => l.IsSignedBy(issuer)).OrderByDescending(l => l.Begin)];
        if (signed.Length == 0)
            return $"the revocation list of {who} is not signed by it";
        // An older list may stand beside the one that replaced it.
        SignedRevocations newest = signed[0];
        DateTimeOffset now = DateTimeOffset.UtcNow;
        if (newest.Begin > now)
            return $"the revocation list of {who} begins on {newest.Begin:yyyy-MM-dd}, later than today";
        if (newest.End < now)
            return $"the revocation list of {who} ended on {newest.End:yyyy-MM-dd}";
        return signed.Any(l => l.Contains(certificate.SerialNumberBytes.Span)) ? $"{CertificateUse.NameOf(certificate)}: was revoked" : null;
    }

    private void Add(SignedRevocations list)
    {
        string issuer = NameOf(list.Issuer);
        if (!_lists.TryGetValue(issuer, out List<SignedRevocations>? lists))
            _lists.Add(issuer, lists = []);
        lists.Add(list);
    }

    private void CheckSignatures(string path, X509Certificate2Collection trusted)
    {
        foreach ((string name, List<SignedRevocations> lists) in _lists)
        {
            X509Certificate2[] issuers = [.. trusted.Where(c => NameOf(c.SubjectName) == name)];
            if (issuers.Length > 0 && !lists.All(l => issuers.Any(l.IsSignedBy)))
                throw new BadInputException($"--tls-cacrl {path}: the list of \"{Printable.Of(name)}\" is not signed by the authority of that name (or that may not sign lists); expected its own list");
        }
    }

    private static string NameOf(X500DistinguishedName name) => name.Name.ToUpperInvariant();
}
