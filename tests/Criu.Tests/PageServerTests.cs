using System.Diagnostics;
using System.Net;
using NUnit.Framework;
using Testbed.PageXfer.Protocol;
using Testbed.PageXfer.Tests;

namespace Testbed.Criu.Tests;

/// <summary>Our page server between the real CRIU and the real CRIU.</summary>
[NonParallelizable]
public sealed class PageServerTests
{
    private string _pipeLimit = "";
    private DirectoryInfo _images = null!;
    private Side _source = null!;
    private Side _destination = null!;
    private Redis _redis = null!;
    private string _digest = "";
    private int _pid;
    private TestCertificates? _authority;

    [SetUp]
    public void StartRedis()
    {
        RealCriu.Require();
        _pipeLimit = RealCriu.LiftPipeLimit();
        _images = Directory.CreateTempSubdirectory("testbed-criu-");
        (_source, _destination) = (new Side(), new Side());
        _redis = new Redis(Redis.FreePort());
        _source.Launch(_redis.Command);
        _redis.AwaitReady();
        _redis.Fill(100_000);
        (_digest, _pid) = (_redis.Digest(), _redis.Pid);
    }

    [TearDown]
    public void StopAll()
    {
        if (_images is null)
            return;
        _source?.Dispose();
        _destination?.Dispose();
        foreach (string file in Directory.GetFiles(_images.FullName, "*.pid"))
            _ = RealCriu.Run("kill", [File.ReadAllText(file)]);
        _authority?.Dispose();
        _authority = null;
        _images.Delete(recursive: true);
        RealCriu.SetPipeLimit(_pipeLimit);
    }

    [TestCase(false, TestName = "What CRIU dumps into ours it decodes and restores")]
    [TestCase(true, TestName = "What CRIU dumps into ours over TLS it decodes and restores")]
    public void DumpIntoOurs(bool tls)
    {
        Dump(tls ? Tls("client") : [], tls ? Tls("server") : []);
        string pagemap = In($"pagemap-{_pid}.img");
        Outcome decoded = RealCriu.Run(RealCriu.Decoder, ["decode", "--pretty", "-i", pagemap]);
        Assert.That(decoded.ExitCode, Is.Zero, decoded.Errors);
        Assert.That(decoded.Output, Does.Contain("\"magic\": \"PAGEMAP\"").And.Contain("PE_LAZY | PE_PRESENT"));
        Succeeds(_destination.Run(RealCriu.Program, "restore", "-D", _images.FullName, "-d", "-o", "restore.log", "-v4"), "restore.log");
        Assert.That(_redis.Digest(), Is.EqualTo(_digest));
    }

    [TestCase(false, TestName = "CRIU restores lazily from ours, more than once")]
    [TestCase(true, TestName = "CRIU restores lazily from ours over TLS, more than once")]
    public void LazyFromOurs(bool tls)
    {
        Dump([], []);
        int port = ServerInBackground(["--lazy-pages", .. tls ? Tls("server") : []]);
        for (int round = 0; round < 2; round++)
        {
            using var side = new Side();
            File.Delete(In("lazy-pages.socket"));
            using Process daemon = side.Start([RealCriu.Program, "lazy-pages", "-D", _images.FullName, "-o", "lazy.log", "-v4",
                "--page-server", "--address", "127.0.0.1", "--port", $"{port}", .. tls ? Tls("client") : []]);
            for (long end = Environment.TickCount64 + 20_000; !File.Exists(In("lazy-pages.socket")) && Environment.TickCount64 < end;)
                Thread.Sleep(20);
            Succeeds(side.Run(RealCriu.Program, "restore", "-D", _images.FullName, "-d", "--lazy-pages", "-o", "restore.log", "-v4"), "restore.log");
            Assert.That(_redis.Digest(), Is.EqualTo(_digest), $"round {round}");
            Assert.That(daemon.WaitForExit(TimeSpan.FromSeconds(30)), Is.True, "CRIU's daemon ends when all is in");
            Assert.That(daemon.ExitCode, Is.Zero, File.ReadAllText(In("lazy.log")));
        }
        Assert.That(File.ReadAllText(In("server.log")), Does.Not.Contain("Error"));
    }

    /// <summary>What both sides type for TLS: a certificate each, of one authority, the server's for its address.</summary>
    private string[] Tls(string name)
    {
        _authority ??= new TestCertificates(_images.FullName);
        TlsFiles files = _authority.Issue(name, address: IPAddress.Loopback, rsa: name == "client");
        return ["--tls", "--tls-cacert", files.CaCertificate!, "--tls-cert", files.Certificate!, "--tls-key", files.Key!];
    }

    private void Dump(string[] ofCriu, string[] ofOurs)
    {
        int port = ServerInBackground(ofOurs);
        Succeeds(_source.Run([RealCriu.Program, "dump", "-t", $"{_pid}", "-D", _images.FullName, "-o", "dump.log", "-v4",
            "--page-server", "--address", "127.0.0.1", "--port", $"{port}", .. ofCriu]), "dump.log");
        string pid = File.ReadAllText(In("server.pid"));
        for (long end = Environment.TickCount64 + 10_000; Runs(pid) && Environment.TickCount64 < end;)
            Thread.Sleep(20);
        Assert.That(Runs(pid), Is.False, "the receiving server ends with the dump, as CRIU's does");
        File.Delete(In("server.pid"));
    }

    /// <summary>In the background, with all the conventions that scripts rely on; returns its port.</summary>
    private int ServerInBackground(params string[] more)
    {
        int port = Redis.FreePort();
        Outcome started = RealCriu.Run("bash",
        [
            "-c", "exec dotnet \"$@\" 4>&1 >/dev/null", "server", RealCriu.Testbed, "page-server", "--no-default-config",
            "-D", _images.FullName, "--address", "127.0.0.1", "--port", $"{port}", "--pidfile", "server.pid", "--status-fd", "4",
            "-o", "server.log", "-v4", "-d", .. more,
        ]);
        Assert.That(started.ExitCode, Is.Zero, started.Errors);
        // And the run ended, so that nobody holds the descriptor any more.
        Assert.That(started.Output, Is.EqualTo("\0"), "one zero byte when ready");
        return port;
    }

    private void Succeeds(Outcome outcome, string log) =>
        Assert.That(outcome.ExitCode, Is.Zero, () => outcome.Errors + string.Join('\n', File.ReadLines(In(log)).Where(l => l.Contains("Error", StringComparison.Ordinal))));

    private static bool Runs(string pid) => File.Exists($"/proc/{pid}/stat") && !File.ReadAllText($"/proc/{pid}/stat").Contains(") Z", StringComparison.Ordinal);

    private string In(string file) => Path.Combine(_images.FullName, file);
}
