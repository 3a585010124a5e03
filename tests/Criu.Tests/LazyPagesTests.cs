using System.Diagnostics;
using NUnit.Framework;
using Testbed.Scenarios;

namespace Testbed.Criu.Tests;

/// <summary>Our lazy-pages daemon in CRIU's place, under the real criu restore, through whole migrations between two network namespaces.</summary>
[NonParallelizable]
public sealed class LazyPagesTests
{
    private DirectoryInfo _folder = null!;

    [SetUp]
    public void Prepare()
    {
        RealCriu.Require();
        _folder = Directory.CreateTempSubdirectory("testbed-lazy-");
    }

    [TearDown]
    public void Remove() => _folder?.Delete(recursive: true);

    /// <summary>Every pair of daemon and server, the data checked after each by the verb itself.</summary>
    [Test]
    public void EveryPairMigratesARedisWithItsDataEqual() =>
        Migrates("redis", """["testbed+local", "testbed+criu", "testbed+criu-images", "testbed+testbed", "criu+testbed", "criu+criu"]""");

    [Test]
    public void OverTls() => Migrates("redis", """["testbed+criu", "testbed+testbed", "criu+testbed"]""", """, "tls": true""");

    [TestCase("criu")]
    [TestCase("adaptive")]
    [TestCase("bubbling")]
    public void UnderOtherPolicies(string policy) => Migrates("redis", """["testbed+testbed"]""", $$""", "policy": "{{policy}}" """);

    [Test]
    public void MemcachedWithFourThreads() => Migrates("memcached", """["testbed+criu", "testbed+testbed"]""");

    [Test]
    public void ARestoreThatNeverComesEndsWithTheSignal()
    {
        using var side = new Side();
        string images = Images(side, out _);
        using Process daemon = Daemon(side, images);
        RealCriu.Run("kill", ["-TERM", $"{Child(daemon)}"]);
        Assert.That(daemon.WaitForExit(TimeSpan.FromSeconds(10)), Is.True);
        Assert.That(daemon.ExitCode, Is.Not.Zero);
    }

    [Test]
    public void ARestorerThatSpeaksAnotherLanguageIsToldInOneLine()
    {
        using var side = new Side();
        string images = Images(side, out _);
        using Process daemon = Daemon(side, images);
        using (var client = new System.Net.Sockets.Socket(System.Net.Sockets.AddressFamily.Unix, System.Net.Sockets.SocketType.Stream, System.Net.Sockets.ProtocolType.Unspecified))
        {
            client.Connect(new System.Net.Sockets.UnixDomainSocketEndPoint(Path.Combine(images, "lazy-pages.socket")));
            client.Send(new byte[4]);
            Assert.That(daemon.WaitForExit(TimeSpan.FromSeconds(10)), Is.True);
        }
        Assert.That(daemon.ExitCode, Is.EqualTo(1));
        Assert.That(File.ReadAllText(Path.Combine(images, "lazy.log")), Does.Contain("the restorer named process 0"));
    }

    [Test]
    public void ImagesWithoutTheirPagesNeedAServer()
    {
        using var side = new Side();
        string images = Images(side, out _, "--lazy-pages");
        Outcome outcome = RealCriu.RunDaemon("lazy-pages", "-D", images);
        Assert.That(outcome.ExitCode, Is.EqualTo(2), outcome.Errors);
        Assert.That(outcome.Errors, Does.Contain("expected --page-server").And.Not.Contain("   at "));
    }

    private void Migrates(string workload, string pairs, string more = "") =>
        MigrateTests.Succeeds(MigrateTests.Migrate(MigrateTests.Scenario(_folder, workload, small: true, pairs, requests: 2000, more)));

    /// <summary>The images of a small redis, in a folder of their own.</summary>
    private string Images(Side side, out int pid, params string[] more)
    {
        string images = _folder.CreateSubdirectory("images").FullName;
        var redis = new Redis(Redis.FreePort());
        side.Launch(redis.Command);
        redis.AwaitReady();
        pid = redis.Pid;
        using IDisposable limits = CriuSetup.LiftPipeLimits();
        if (more.Length == 0)
        {
            Outcome dumped = side.Run([RealCriu.Program, "dump", "-t", $"{pid}", "-D", images, "-o", "dump.log"]);
            Assert.That(dumped.ExitCode, Is.Zero, dumped.Errors);
        }
        else
        {
            using Process dump = side.Start([RealCriu.Program, "dump", "-t", $"{pid}", "-D", images, "-o", "dump.log", "--port", $"{Redis.FreePort()}", .. more]);
            for (long end = Environment.TickCount64 + 20_000; !File.Exists(Path.Combine(images, "inventory.img")) && Environment.TickCount64 < end;)
                Thread.Sleep(20);
            Thread.Sleep(200);
            dump.Kill(entireProcessTree: true);
        }
        return images;
    }

    private static Process Daemon(Side side, string images)
    {
        Process daemon = side.Start([.. RealCriu.Daemon, "lazy-pages", "-D", images, "-o", "lazy.log", "-v4"]);
        for (long end = Environment.TickCount64 + 20_000; !File.Exists(Path.Combine(images, "lazy-pages.socket")) && Environment.TickCount64 < end;)
            Thread.Sleep(20);
        return daemon;
    }

    /// <summary>nsenter stands between, and takes no signal for it.</summary>
    private static string Child(Process nsenter) => File.ReadAllText($"/proc/{nsenter.Id}/task/{nsenter.Id}/children").Trim();
}
