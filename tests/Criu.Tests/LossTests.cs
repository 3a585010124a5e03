using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using NUnit.Framework;
using Testbed.Scenarios;

namespace Testbed.Criu.Tests;

/// <summary>
/// Four processes that know each page's content, restored by the real CRIU, change their memory while most of it is away; then the daemon is
/// killed, or stopped, or loses its server.
/// </summary>
[NonParallelizable]
public sealed class LossTests
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    private readonly int _port = Redis.FreePort(), _serverPort = Redis.FreePort();
    private readonly List<Process> _started = [];
    private DirectoryInfo _folder = null!;
    private Side _source = null!, _destination = null!;
    private string _digest = "";
    private IDisposable? _limits;
    private int _churned;

    [SetUp]
    public void DumpATree()
    {
        RealCriu.Require();
        _limits = CriuSetup.LiftPipeLimits();
        _folder = Directory.CreateTempSubdirectory("testbed-loss-");
        (_source, _destination) = (new Side(), new Side());
        string program = In("tree");
        Outcome compiled = RealCriu.Run("gcc", ["-O2", "-o", program, Path.Combine(RealCriu.Root(), "scenarios", "workloads", "tree.c")]);
        Assert.That(compiled.ExitCode, Is.Zero, compiled.Errors);
        _source.Launch($"{program} 127.0.0.1 {_port} 24576 4");
        Assert.That(Ask("FILL"), Is.EqualTo("ok"));
        (_digest, _churned) = (Ask("CHECK"), 0);
        string pid = RealCriu.Run("pgrep", ["-o", "-f", program]).Output.Trim();
        string inner = File.ReadLines($"/proc/{pid}/status").First(line => line.StartsWith("NSpid:", StringComparison.Ordinal)).Split('\t')[^1];
        Succeeds(_source.Run(RealCriu.Program, "dump", "-t", inner, "-D", _folder.FullName, "-o", "dump.log", "-v1", "--tcp-close"), "dump.log");
    }

    [TearDown]
    public void Stop()
    {
        if (_folder is null)
            return;
        _source.Dispose();
        _destination.Dispose();
        foreach (Process process in _started)
        {
            process.Kill(entireProcessTree: true);
            process.Dispose();
        }
        _started.Clear();
        _folder.Delete(recursive: true);
        _folder = null!;
        _limits!.Dispose();
    }

    [TestCase(true, TestName = "The daemon is killed: its guard brings everything in from the server")]
    [TestCase(false, TestName = "The daemon is killed: its guard brings everything in from the images")]
    public void TheDaemonIsKilled(bool served)
    {
        if (served)
            _ = Serve();
        Process daemon = Restore(served);
        Churn();
        RealCriu.Run("kill", ["-KILL", Child(daemon)]);
        AssertAllIsWell();
        AwaitLog("all pages are in");
        Assert.That(() => Directory.GetFiles(_folder.FullName, "*.journal"), Is.Empty.After(5000, 50));
        Assert.That(() => RealCriu.Run("pgrep", ["-f", $"testbed(.dll)? lazy-pages -D {_folder.FullName}"]).Output, Is.Empty.After(5000, 50), "the guard ends too");
    }

    [Test]
    public void TheServerIsKilledAndComesBack()
    {
        Process server = Serve();
        Process daemon = Restore(served: true);
        Churn();
        server.Kill();
        server.WaitForExit();
        Thread.Sleep(500);
        _ = Serve();
        AssertAllIsWell();
        RealCriu.Run("kill", ["-TERM", Child(daemon)]);
        Assert.That(daemon.WaitForExit(Patience), Is.True);
        Assert.That(daemon.ExitCode, Is.Zero);
        AwaitLog("the page server is back");
    }

    /// <summary>Waits are interrupted by stops: where CRIU's ends with EINTR.</summary>
    [Test]
    public void TheDaemonIsStoppedAndContinuedAllTheTime()
    {
        _ = Serve();
        Process daemon = Restore(served: true);
        string pid = Child(daemon);
        using var storm = RealCriu.Start("sh", ["-c", $"while kill -STOP {pid} && sleep 0.01 && kill -CONT {pid}; do sleep 0.02; done"]);
        Churn();
        AssertAllIsWell();
        storm.Kill();
        // nsenter stops itself when its child is stopped.
        RealCriu.Run("kill", ["-CONT", pid, $"{daemon.Id}"]);
        RealCriu.Run("kill", ["-TERM", pid]);
        Assert.That(daemon.WaitForExit(Patience), Is.True);
        Assert.That(daemon.ExitCode, Is.Zero);
    }

    [Test]
    public void AProcessThatIsKilledTakesNobodyWithIt()
    {
        _ = Serve();
        Process daemon = Restore(served: true);
        // By name: the command line of a process may be away.
        Assert.That(_destination.Run("pkill", "-KILL", "-n", "-x", "tree").ExitCode, Is.Zero);
        Assert.That(Ask("CHURN 3"), Does.StartWith("error").And.Contain("has ended"), "the others answer");
        Assert.That(_destination.Run("pkill", "-KILL", "-o", "-x", "tree").ExitCode, Is.Zero);
        // The others read the end of their pipes and exit: nobody is left, and nothing is away.
        Assert.That(daemon.WaitForExit(Patience), Is.True);
        Assert.That(daemon.ExitCode, Is.Zero);
    }

    private string In(string file) => Path.Combine(_folder.FullName, file);

    private Process Serve()
    {
        Process server = RealCriu.StartDaemon(
            "page-server", "--lazy-pages", "-D", _folder.FullName, "--address", "127.0.0.1", "--port", $"{_serverPort}", "-o", "server.log", "-v3");
        _started.Add(server);
        return server;
    }

    /// <summary>With a policy that leaves away what nobody touches.</summary>
    private Process Restore(bool served)
    {
        string[] server = served ? ["--page-server", "--address", "127.0.0.1", "--port", $"{_serverPort}"] : [];
        Process daemon = _destination.Start([.. RealCriu.Daemon, "lazy-pages", "-D", _folder.FullName, "-o", "lazy.log", "-v4", "--policy", "demand", .. server]);
        _started.Add(daemon);
        for (long end = Environment.TickCount64 + 20_000; !File.Exists(In("lazy-pages.socket")) && Environment.TickCount64 < end;)
            Thread.Sleep(20);
        Succeeds(_destination.Run(RealCriu.Program, "restore", "-D", _folder.FullName, "-d", "--lazy-pages", "--tcp-close", "-o", "restore.log", "-v1"), "restore.log");
        return daemon;
    }

    /// <summary>Every kind of change but one that reads everything.</summary>
    private void Churn()
    {
        for (int end = _churned + 7; _churned < end; _churned++)
        {
            // Process p does what (number + p) mod 7 says; 0 is a fork whose child reads everything.
            if (_churned % 7 is 1 or 2 or 3)
                Assert.That(Ask($"CHURN {_churned}"), Is.EqualTo("ok"));
        }
    }

    private void AssertAllIsWell()
    {
        for (int end = _churned + 14; _churned < end; _churned++)
            Assert.That(Ask($"CHURN {_churned}"), Is.EqualTo("ok"));
        Assert.That(Ask("CHECK"), Is.EqualTo(_digest));
    }

    private string Ask(string line)
    {
        for (long end = Environment.TickCount64 + 20_000; ;)
        {
            try
            {
                using var client = new TcpClient { ReceiveTimeout = (int)Patience.TotalMilliseconds };
                client.Connect(IPAddress.Loopback, _port);
                using var writer = new StreamWriter(client.GetStream()) { AutoFlush = true };
                using var reader = new StreamReader(client.GetStream());
                writer.Write(line + "\n");
                return reader.ReadLine() ?? "";
            }
            catch (SocketException) when (Environment.TickCount64 < end)
            {
                Thread.Sleep(50);
            }
        }
    }

    private void AwaitLog(string words)
    {
        for (long end = Environment.TickCount64 + (long)Patience.TotalMilliseconds; Environment.TickCount64 < end; Thread.Sleep(50))
        {
            if (File.ReadAllText(In("lazy.log")).Contains(words, StringComparison.Ordinal))
                return;
        }
        Assert.Fail($"\"{words}\" is not in the log: {File.ReadAllText(In("lazy.log"))}");
    }

    private void Succeeds(Outcome outcome, string log) =>
        Assert.That(outcome.ExitCode, Is.Zero, () => outcome.Errors + string.Join('\n', File.ReadLines(In(log)).Where(l => l.Contains("Error", StringComparison.Ordinal))));

    /// <summary>nsenter stands between, and takes no signal for it.</summary>
    private static string Child(Process nsenter) => File.ReadAllText($"/proc/{nsenter.Id}/task/{nsenter.Id}/children").Trim();
}
