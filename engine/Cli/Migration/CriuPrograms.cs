using Testbed.Core;
using Testbed.Scenarios;

namespace Testbed.Cli.Migration;

/// <summary>The programs of a migration, as its hosts know them, and what CRIU needs of the kernel here.</summary>
/// <param name="Criu">CRIU.</param>
/// <param name="Testbed">This program, as a command line.</param>
internal sealed record CriuPrograms(string Criu, string[] Testbed)
{
    private static readonly (string File, string Wanted)[] Limits =
    [
        // Without CAP_SYS_RESOURCE, the pipes of CRIU's dump and page server meet these.
        ("/proc/sys/fs/pipe-user-pages-soft", "0"), ("/proc/sys/fs/pipe-max-size", "4194304"),
    ];

    /// <summary>CRIU as scenarios/setup/criu.sh installs it, or as named by TESTBED_CRIU, or from PATH.</summary>
    /// <exception cref="BadInputException">There is none.</exception>
    public static CriuPrograms Find()
    {
        string? criu = Environment.GetEnvironmentVariable("TESTBED_CRIU") ?? Installed() ?? Workload.FindProgram("criu");
        if (criu is null || !File.Exists(criu))
            throw new BadInputException("CRIU is not here; run: sh scenarios/setup/criu.sh (or name one in TESTBED_CRIU)");
        string program = Path.Combine(AppContext.BaseDirectory, "testbed.dll");
        return new CriuPrograms(criu, [Environment.ProcessPath!, program]);
    }

    /// <summary>Lifts the limits that CRIU meets; what they were comes back at the end.</summary>
    public static IDisposable LiftLimits() => new Lifted();

    private static string? Installed()
    {
        for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            string criu = Path.Combine(folder.FullName, "artifacts", "criu", "criu");
            if (File.Exists(criu))
                return criu;
        }
        return null;
    }

    private sealed class Lifted : IDisposable
    {
        private readonly List<(string File, string Before)> _before = [];

        public Lifted()
        {
            foreach ((string file, string wanted) in Limits)
            {
                string now = File.ReadAllText(file).Trim();
                if (now == wanted)
                    continue;
                File.WriteAllText(file, wanted);
                _before.Add((file, now));
            }
        }

        public void Dispose()
        {
            foreach ((string file, string before) in _before)
                File.WriteAllText(file, before);
        }
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
