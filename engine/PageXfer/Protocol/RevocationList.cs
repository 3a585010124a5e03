using System.Formats.Asn1;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Testbed.Core;

namespace Testbed.PageXfer.Protocol;

/// <summary>Certificates that their issuers took back: one or more X.509 CRLs (RFC 5280, section 5) in a PEM file.</summary>
internal sealed class RevocationList
{
    private const string Label = "X509 CRL";

    private readonly record struct Issued(string Issuer, string Serial);

    private readonly HashSet<Issued> _revoked = [];
    private readonly Dictionary<string, DateTimeOffset> _nextUpdates = [];

    /// <exception cref="BadInputException">The file cannot be read, or holds no list.</exception>
    public static RevocationList Load(string path)
    {
        var list = new RevocationList();
        try
        {
            ReadOnlySpan<char> text = File.ReadAllText(path);
            for (int lists = 0; ; lists++)
            {
                if (!PemEncoding.TryFind(text, out PemFields fields))
                    return lists > 0 ? list : throw new CryptographicException($"no {Label} in it");
                if (text[fields.Label] is Label)
                    list.Add(Convert.FromBase64String(text[fields.Base64Data].ToString()));
                else
                    lists--;
                text = text[fields.Location.End..];
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or CryptographicException or AsnContentException or FormatException)
        {
            throw new BadInputException($"--tls-cacrl {path}: cannot be used ({e.Message}); expected a revocation list in PEM", e);
        }
    }

    /// <summary>Why a certificate must not be trusted any more; null when nothing speaks against it.</summary>
    public string? Refuse(X509Certificate2 certificate)
    {
        string issuer = Convert.ToHexString(certificate.IssuerName.RawData);
        if (_nextUpdates.TryGetValue(issuer, out DateTimeOffset end) && end < DateTimeOffset.UtcNow)
            return $"the revocation list of {certificate.Issuer} ended on {end:yyyy-MM-dd}";
        return _revoked.Contains(new Issued(issuer, SerialOf(certificate.SerialNumberBytes.Span)))
            ? $"certificate of {certificate.Subject}: was revoked"
            : null;
    }

    private void Add(byte[] encoded)
    {
        AsnReader list = new AsnReader(encoded, AsnEncodingRules.DER).ReadSequence().ReadSequence();
        if (list.PeekTag().HasSameClassAndValue(Asn1Tag.Integer))
            _ = list.ReadInteger();
        _ = list.ReadSequence();
        string issuer = Convert.ToHexString(list.ReadEncodedValue().Span);
        _ = ReadTime(list);
        if (list.HasData && IsTime(list.PeekTag()))
            _nextUpdates[issuer] = ReadTime(list);
        // The entries, when there are any; extensions are tagged.
        if (!list.HasData || !list.PeekTag().HasSameClassAndValue(Asn1Tag.Sequence))
            return;
        for (AsnReader entries = list.ReadSequence(); entries.HasData;)
            _ = _revoked.Add(new Issued(issuer, SerialOf(entries.ReadSequence().ReadIntegerBytes().Span)));
    }

    private static bool IsTime(Asn1Tag tag) => tag.HasSameClassAndValue(Asn1Tag.UtcTime) || tag.HasSameClassAndValue(Asn1Tag.GeneralizedTime);

    private static DateTimeOffset ReadTime(AsnReader reader) =>
        reader.PeekTag().HasSameClassAndValue(Asn1Tag.UtcTime) ? reader.ReadUtcTime() : reader.ReadGeneralizedTime();

    private static string SerialOf(ReadOnlySpan<byte> number) => Convert.ToHexString(number.TrimStart((byte)0));
}
