using Testbed.Core;
using Testbed.Scenarios;
using Testbed.Uffd;

namespace Testbed.Cli.Migration;

/// <summary>The programs of a migration, as its hosts know them.</summary>
/// <param name="Criu">CRIU.</param>
/// <param name="Testbed">Our daemon and server, as a command line: the native program that the launcher names in TESTBED_DAEMON, or this one.</param>
internal sealed record CriuPrograms(string Criu, string[] Testbed)
{
    /// <summary>Those of this host.</summary>
    /// <exception cref="BadInputException">There is none.</exception>
    public static CriuPrograms Find()
    {
        if (CriuSetup.Find() is not { } criu || !File.Exists(criu))
            throw new BadInputException($"CRIU is not here; run: {CriuSetup.Script("criu.sh")} (or name one in TESTBED_CRIU)");
        return new CriuPrograms(criu, Environment.GetEnvironmentVariable("TESTBED_DAEMON") is { Length: > 0 } native ? [native] : OwnProgram.Command);
    }
}

/// <summary>Certificates for one run: an authority, and one key for both sides.</summary>
internal sealed class CriuTls
{
    private CriuTls(string directory) => Options =
    [
        "--tls", "--tls-no-cn-verify", "--tls-cacert", Path.Combine(directory, "ca.pem"), "--tls-cert", Path.Combine(directory, "cert.pem"),
        "--tls-key", Path.Combine(directory, "key.pem"),
    ];

    /// <summary>What both sides are told.</summary>
    public string[] Options { get; }

    /// <summary>Makes them in a directory.</summary>
    public static CriuTls Create(string directory)
    {
        using var authorityKey = System.Security.Cryptography.RSA.Create(2048);
        using var key = System.Security.Cryptography.RSA.Create(2048);
        (DateTimeOffset from, DateTimeOffset to) = (DateTimeOffset.UtcNow.AddDays(-1), DateTimeOffset.UtcNow.AddDays(1));
        var authorityRequest = Request("CN=testbed migration", authorityKey);
        authorityRequest.CertificateExtensions.Add(new System.Security.Cryptography.X509Certificates.X509BasicConstraintsExtension(true, false, 0, true));
        using var authority = authorityRequest.CreateSelfSigned(from, to);
        using var certificate = Request("CN=testbed host", key).Create(authority, from, to, [1, 2, 3, 4]);
        File.WriteAllText(Path.Combine(directory, "ca.pem"), authority.ExportCertificatePem());
        File.WriteAllText(Path.Combine(directory, "cert.pem"), certificate.ExportCertificatePem());
        File.WriteAllText(Path.Combine(directory, "key.pem"), key.ExportPkcs8PrivateKeyPem());
        return new CriuTls(directory);
    }

    private static System.Security.Cryptography.X509Certificates.CertificateRequest Request(string name, System.Security.Cryptography.RSA key) =>
        new(name, key, System.Security.Cryptography.HashAlgorithmName.SHA256, System.Security.Cryptography.RSASignaturePadding.Pkcs1);
}
