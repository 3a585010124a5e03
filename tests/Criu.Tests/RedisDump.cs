using System.Net;
using NUnit.Framework;
using Testbed.PageXfer.Protocol;
using Testbed.PageXfer.Tests;
using Testbed.Scenarios;

namespace Testbed.Criu.Tests;

/// <summary>A redis with data, which the real CRIU dumps on one side through a page server of ours, and restores on another.</summary>
internal sealed class RedisDump
{
    private IDisposable? _limits;
    private Side? _source;
    private Side? _destination;
    private Redis _redis = null!;
    private string _digest = "";
    private TestCertificates? _authority;
    private TestCertificates? _root;

    public DirectoryInfo Images { get; private set; } = null!;

    public int Pid { get; private set; }

    public void Start()
    {
        RealCriu.Require();
        _limits = CriuSetup.LiftPipeLimits();
        Images = Directory.CreateTempSubdirectory("testbed-criu-");
        (_source, _destination) = (new Side(), new Side());
        _redis = new Redis(Redis.FreePort());
        _source.Launch(_redis.Command);
        _redis.AwaitReady();
        _redis.Fill(100_000);
        (_digest, Pid) = (_redis.Digest(), _redis.Pid);
    }

    public void Stop()
    {
        if (Images is null)
            return;
        _source?.Dispose();
        _destination?.Dispose();
        foreach (string file in Directory.GetFiles(Images.FullName, "*.pid", SearchOption.AllDirectories))
            _ = RealCriu.Run("kill", [File.ReadAllText(file)]);
        _authority?.Dispose();
        _root?.Dispose();
        _authority = _root = null;
        Images.Delete(recursive: true);
        Images = null!;
        _limits!.Dispose();
    }

    /// <summary>What both sides type for TLS: a certificate each, of one authority, for the server's address.</summary>
    public string[] Tls(string name) => TestCertificates.Options(Certificates(name));

    /// <summary>The same, for who is not started by a command.</summary>
    public TlsFiles Certificates(string name)
    {
        _authority ??= new TestCertificates(Images.FullName, "between", _root ??= new TestCertificates(Images.FullName));
        // What we are stricter in than CRIU's GnuTLS must be what it takes, too: a chain, for one role each.
        string[] purposes = [name == "server" ? "1.3.6.1.5.5.7.3.1" : "1.3.6.1.5.5.7.3.2"];
        return _authority.Issue(name, address: IPAddress.Loopback, rsa: name == "client", purposes: purposes);
    }

    /// <summary>CRIU dumps into our server. It has ended when this returns.</summary>
    public void Dump(string[] ofCriu, string[] ofOurs)
    {
        int port = Serve(Images.FullName, ofOurs);
        Succeeds(_source!.Run([RealCriu.Program, "dump", "-t", $"{Pid}", "-D", Images.FullName, "-o", "dump.log", "-v4",
            "--page-server", "--address", "127.0.0.1", "--port", $"{port}", .. ofCriu]), "dump.log");
        string pid = File.ReadAllText(In("server.pid"));
        for (long end = Environment.TickCount64 + 10_000; Runs(pid) && Environment.TickCount64 < end;)
            Thread.Sleep(20);
        Assert.That(Runs(pid), Is.False, "the receiving server ends with the dump, as CRIU's does");
        File.Delete(In("server.pid"));
    }

    /// <summary>CRIU restores from images, and redis has all its data.</summary>
    public void Restore(string images)
    {
        Succeeds(_destination!.Run(RealCriu.Program, "restore", "-D", images, "-W", Images.FullName, "-d", "-o", "restore.log", "-v4"), "restore.log");
        AssertData("restored");
    }

    public void AssertData(string when) => Assert.That(_redis.Digest(), Is.EqualTo(_digest), when);

    /// <summary>Our server in the background, with all the conventions that scripts rely on; returns its port.</summary>
    public int Serve(string images, params string[] more)
    {
        int port = Redis.FreePort();
        Outcome started = RealCriu.Run("bash",
        [
            "-c", "exec \"$@\" 4>&1 >/dev/null", "server", .. RealCriu.Daemon, "page-server", "--no-default-config",
            "-D", images, "-W", Images.FullName, "--address", "127.0.0.1", "--port", $"{port}", "--pidfile", "server.pid", "--status-fd", "4",
            "-o", "server.log", "-v4", "-d", .. more,
        ]);
        Assert.That(started.ExitCode, Is.Zero, started.Errors);
        // And the run ended, so that nobody holds the descriptor any more.
        Assert.That(started.Output, Is.EqualTo("\0"), "one zero byte when ready");
        return port;
    }

    /// <summary>CRIU's server in the background, which takes one connection; returns its port.</summary>
    public int ServeByCriu(string images, params string[] more)
    {
        int port = Redis.FreePort();
        Outcome started = RealCriu.Run(RealCriu.Program, ["page-server", "-D", images, "-W", Images.FullName, "--address", "127.0.0.1", "--port", $"{port}", "-o", "criu-server.log", "-v4", "-d", .. more]);
        Assert.That(started.ExitCode, Is.Zero, started.Errors);
        return port;
    }

    public void Succeeds(Outcome outcome, string log) =>
        Assert.That(outcome.ExitCode, Is.Zero, () => outcome.Errors + string.Join('\n', File.ReadLines(In(log)).Where(l => l.Contains("Error", StringComparison.Ordinal))));

    public string In(string file) => Path.Combine(Images.FullName, file);

    /// <summary>Whether a process runs that is not our child.</summary>
    public static bool Runs(string pid) => File.Exists($"/proc/{pid}/stat") && !File.ReadAllText($"/proc/{pid}/stat").Contains(") Z", StringComparison.Ordinal);
}
