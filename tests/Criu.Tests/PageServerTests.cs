using System.Diagnostics;
using NUnit.Framework;

namespace Testbed.Criu.Tests;

/// <summary>Our page server between the real CRIU and the real CRIU.</summary>
[NonParallelizable]
public sealed class PageServerTests
{
    private readonly RedisDump _dump = new();

    [SetUp]
    public void Start() => _dump.Start();

    [TearDown]
    public void Stop() => _dump.Stop();

    [TestCase(false, TestName = "What CRIU dumps into ours it decodes and restores")]
    [TestCase(true, TestName = "What CRIU dumps into ours over TLS it decodes and restores")]
    public void DumpIntoOurs(bool tls)
    {
        _dump.Dump(tls ? _dump.Tls("client") : [], tls ? _dump.Tls("server") : []);
        Outcome decoded = RealCriu.Run(RealCriu.Decoder, ["decode", "--pretty", "-i", _dump.In($"pagemap-{_dump.Pid}.img")]);
        Assert.That(decoded.ExitCode, Is.Zero, decoded.Errors);
        Assert.That(decoded.Output, Does.Contain("\"magic\": \"PAGEMAP\"").And.Contain("PE_LAZY | PE_PRESENT"));
        _dump.Restore(_dump.Images.FullName);
    }

    [TestCase(false, TestName = "CRIU restores lazily from ours, more than once")]
    [TestCase(true, TestName = "CRIU restores lazily from ours over TLS, more than once")]
    public void LazyFromOurs(bool tls)
    {
        _dump.Dump([], []);
        int port = _dump.Serve(_dump.Images.FullName, ["--lazy-pages", .. tls ? _dump.Tls("server") : []]);
        for (int round = 0; round < 2; round++)
        {
            using var side = new Side();
            File.Delete(_dump.In("lazy-pages.socket"));
            using Process daemon = side.Start([RealCriu.Program, "lazy-pages", "-D", _dump.Images.FullName, "-o", "lazy.log", "-v4",
                "--page-server", "--address", "127.0.0.1", "--port", $"{port}", .. tls ? _dump.Tls("client") : []]);
            for (long end = Environment.TickCount64 + 20_000; !File.Exists(_dump.In("lazy-pages.socket")) && Environment.TickCount64 < end;)
                Thread.Sleep(20);
            _dump.Succeeds(side.Run(RealCriu.Program, "restore", "-D", _dump.Images.FullName, "-d", "--lazy-pages", "-o", "restore.log", "-v4"), "restore.log");
            _dump.AssertData($"round {round}");
            Assert.That(daemon.WaitForExit(TimeSpan.FromSeconds(30)), Is.True, "CRIU's daemon ends when all is in");
            Assert.That(daemon.ExitCode, Is.Zero, File.ReadAllText(_dump.In("lazy.log")));
        }
        Assert.That(File.ReadAllText(_dump.In("server.log")), Does.Not.Contain("Error"));
    }
}
