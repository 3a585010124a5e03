using System.Collections.Concurrent;
using System.Formats.Asn1;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace Testbed.PageXfer.Protocol;

/// <summary>
/// One complete X.509 CRL. Whatever makes it something else (a difference to another one, a part by reason, entries of
/// other issuers) is marked critical there, so a critical extension is refused: RFC 5280, section 5.2.
/// </summary>
internal sealed class SignedRevocations
{
    private const string Pss = "1.2.840.113549.1.1.10";

    private static readonly Dictionary<string, HashAlgorithmName> s_rsa = new()
    {
        ["1.2.840.113549.1.1.11"] = HashAlgorithmName.SHA256,
        ["1.2.840.113549.1.1.12"] = HashAlgorithmName.SHA384,
        ["1.2.840.113549.1.1.13"] = HashAlgorithmName.SHA512,
    };

    private static readonly Dictionary<string, HashAlgorithmName> s_ecdsa = new()
    {
        ["1.2.840.10045.4.3.2"] = HashAlgorithmName.SHA256,
        ["1.2.840.10045.4.3.3"] = HashAlgorithmName.SHA384,
        ["1.2.840.10045.4.3.4"] = HashAlgorithmName.SHA512,
    };

    private static readonly Dictionary<string, HashAlgorithmName> s_hashes = new()
    {
        ["2.16.840.1.101.3.4.2.1"] = HashAlgorithmName.SHA256,
        ["2.16.840.1.101.3.4.2.2"] = HashAlgorithmName.SHA384,
        ["2.16.840.1.101.3.4.2.3"] = HashAlgorithmName.SHA512,
    };

    private readonly byte[] _signed;
    private readonly byte[] _signature;
    private readonly string _algorithm;
    private readonly HashAlgorithmName _hash;
    private readonly HashSet<string> _serials = [];

    // Of chains that were checked, so there are no more of them than authorities.
    private readonly ConcurrentDictionary<string, bool> _checked = new();

    /// <summary>Who it says has issued it.</summary>
    public X500DistinguishedName Issuer { get; }

    /// <summary>When it was issued.</summary>
    public DateTimeOffset Begin { get; }

    /// <summary>When the next one is due; null when it does not say.</summary>
    public DateTimeOffset? End { get; }

    /// <summary>Reads one from DER.</summary>
    /// <exception cref="CryptographicException">It is signed in a way, or has a critical extension, that is not known here.</exception>
    /// <exception cref="AsnContentException">It is no CRL.</exception>
    public static SignedRevocations Parse(byte[] encoded) => new(encoded);

    private SignedRevocations(byte[] encoded)
    {
        var whole = new AsnReader(encoded, AsnEncodingRules.DER);
        AsnReader parts = whole.ReadSequence();
        whole.ThrowIfNotEmpty();
        _signed = parts.PeekEncodedValue().ToArray();
        AsnReader list = parts.ReadSequence();
        ReadOnlyMemory<byte> algorithm = parts.ReadEncodedValue();
        _signature = parts.ReadBitString(out int unused);
        parts.ThrowIfNotEmpty();
        if (unused != 0)
            throw new CryptographicException("its signature is not whole bytes");
        if (list.PeekTag().HasSameClassAndValue(Asn1Tag.Integer))
            _ = list.ReadInteger();
        if (!list.ReadEncodedValue().Span.SequenceEqual(algorithm.Span))
            throw new CryptographicException("it names two ways of signing");
        (_algorithm, _hash) = ReadAlgorithm(algorithm);
        Issuer = new X500DistinguishedName(list.ReadEncodedValue().Span);
        Begin = ReadTime(list);
        if (list.HasData && IsTime(list.PeekTag()))
            End = ReadTime(list);
        if (list.HasData && list.PeekTag().HasSameClassAndValue(Asn1Tag.Sequence))
        {
            for (AsnReader entries = list.ReadSequence(); entries.HasData;)
                Add(entries.ReadSequence());
        }
        var extensions = new Asn1Tag(TagClass.ContextSpecific, 0);
        if (list.HasData && list.PeekTag().HasSameClassAndValue(extensions))
            RefuseCritical(list.ReadSequence(extensions).ReadSequence());
        list.ThrowIfNotEmpty();
    }

    /// <summary>Whether a certificate of its issuer with this number was revoked.</summary>
    public bool Contains(ReadOnlySpan<byte> serial) => _serials.Contains(SerialOf(serial));

    /// <summary>Whether this authority's key signed it, and may sign lists.</summary>
    public bool IsSignedBy(X509Certificate2 authority) => _checked.GetOrAdd(authority.GetCertHashString(HashAlgorithmName.SHA256), _ => Verify(authority));

    private bool Verify(X509Certificate2 authority)
    {
        if (authority.Extensions.OfType<X509KeyUsageExtension>().Any(e => (e.KeyUsages & X509KeyUsageFlags.CrlSign) == 0))
            return false;
        try
        {
            using ECDsa? ec = authority.GetECDsaPublicKey();
            using RSA? rsa = authority.GetRSAPublicKey();
            if (s_ecdsa.ContainsKey(_algorithm))
                return ec is not null && ec.VerifyData(_signed, _signature, _hash, DSASignatureFormat.Rfc3279DerSequence);
            return rsa is not null && rsa.VerifyData(_signed, _signature, _hash, _algorithm == Pss ? RSASignaturePadding.Pss : RSASignaturePadding.Pkcs1);
        }
        catch (CryptographicException)
        {
            // A signature or a key that is none.
            return false;
        }
    }

    private void Add(AsnReader entry)
    {
        _ = _serials.Add(SerialOf(entry.ReadIntegerBytes().Span));
        _ = ReadTime(entry);
        if (entry.HasData)
            RefuseCritical(entry.ReadSequence());
        entry.ThrowIfNotEmpty();
    }

    private static void RefuseCritical(AsnReader extensions)
    {
        while (extensions.HasData)
        {
            AsnReader extension = extensions.ReadSequence();
            string oid = extension.ReadObjectIdentifier();
            if (extension.PeekTag().HasSameClassAndValue(Asn1Tag.Boolean) && extension.ReadBoolean())
                throw new CryptographicException($"it has the critical extension {oid}; expected a complete list, of its issuer's certificates alone");
        }
    }

    private static (string Algorithm, HashAlgorithmName Hash) ReadAlgorithm(ReadOnlyMemory<byte> encoded)
    {
        AsnReader reader = new AsnReader(encoded, AsnEncodingRules.DER).ReadSequence();
        string algorithm = reader.ReadObjectIdentifier();
        if (s_rsa.TryGetValue(algorithm, out HashAlgorithmName hash) || s_ecdsa.TryGetValue(algorithm, out hash))
            return (algorithm, hash);
        if (algorithm == Pss && reader.HasData)
        {
            AsnReader parameters = reader.ReadSequence();
            var first = new Asn1Tag(TagClass.ContextSpecific, 0);
            if (parameters.HasData && parameters.PeekTag().HasSameClassAndValue(first)
                && s_hashes.TryGetValue(parameters.ReadSequence(first).ReadSequence().ReadObjectIdentifier(), out hash))
                return (algorithm, hash);
        }
        throw new CryptographicException($"it is signed by method {algorithm}; expected RSA or ECDSA with SHA-256, SHA-384 or SHA-512");
    }

    private static bool IsTime(Asn1Tag tag) => tag.HasSameClassAndValue(Asn1Tag.UtcTime) || tag.HasSameClassAndValue(Asn1Tag.GeneralizedTime);

    private static DateTimeOffset ReadTime(AsnReader reader) =>
        reader.PeekTag().HasSameClassAndValue(Asn1Tag.UtcTime) ? reader.ReadUtcTime() : reader.ReadGeneralizedTime();

    private static string SerialOf(ReadOnlySpan<byte> number) => Convert.ToHexString(number.TrimStart((byte)0));
}
