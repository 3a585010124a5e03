using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using NUnit.Framework;
using Testbed.PageXfer.Tests;
using Testbed.Scenarios;

namespace Testbed.Criu.Tests;

/// <summary>
/// Four processes that know each page's content, dumped by the real CRIU, to be restored lazily with our daemon, of which most memory
/// stays away until somebody touches it.
/// </summary>
internal sealed class TreeDump
{
    public static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    private readonly int _port = Redis.FreePort(), _serverPort = Redis.FreePort();
    private readonly List<Process> _started = [];
    private DirectoryInfo? _folder;
    private Side _source = null!;
    private IDisposable? _limits;
    private int _churned;
    private TestCertificates? _authority;

    public string Folder => _folder!.FullName;

    public Side Destination { get; private set; } = null!;

    /// <summary>A sum over all memory.</summary>
    public string Digest { get; private set; } = "";

    public void Start()
    {
        RealCriu.Require();
        _limits = CriuSetup.LiftPipeLimits();
        _folder = Directory.CreateTempSubdirectory("testbed-tree-");
        (_source, Destination) = (new Side(), new Side());
        string program = In("tree");
        Outcome compiled = RealCriu.Run("gcc", ["-O2", "-o", program, Path.Combine(RealCriu.Root(), "scenarios", "workloads", "tree.c")]);
        Assert.That(compiled.ExitCode, Is.Zero, compiled.Errors);
        _source.Launch($"{program} 127.0.0.1 {_port} 24576 4");
        Assert.That(Ask("FILL"), Is.EqualTo("ok"));
        (Digest, _churned) = (Ask("CHECK"), 0);
        string pid = RealCriu.Run("pgrep", ["-o", "-f", program]).Output.Trim();
        string inner = File.ReadLines($"/proc/{pid}/status").First(line => line.StartsWith("NSpid:", StringComparison.Ordinal)).Split('\t')[^1];
        Succeeds(_source.Run(RealCriu.Program, "dump", "-t", inner, "-D", Folder, "-o", "dump.log", "-v1", "--tcp-close"), "dump.log");
    }

    public void Stop()
    {
        if (_folder is null)
            return;
        _source.Dispose();
        Destination.Dispose();
        foreach (Process process in _started)
        {
            process.Kill(entireProcessTree: true);
            process.Dispose();
        }
        _started.Clear();
        _authority?.Dispose();
        _authority = null;
        _folder.Delete(recursive: true);
        _folder = null;
        _limits!.Dispose();
    }

    public string In(string file) => Path.Combine(Folder, file);

    /// <summary>From now on server and daemon speak TLS, with certificates for the server's address.</summary>
    public void UseTls() => _authority = new TestCertificates(Folder);

    /// <summary>
    /// Our server, at the far end of a cable if there is one, for one session after the other, or for so many.
    /// </summary>
    public Process Serve(Cable? cable = null, int sessions = 0)
    {
        string[] enter = cable?.Enter(Cable.Far) ?? [];
        string[] command = [.. enter, .. RealCriu.Daemon, "page-server", "--lazy-pages", "-D", Folder, .. Server(cable), .. Tls("server", cable),
            "--sessions", $"{sessions}", "-o", "server.log", "-v3"];
        Process server = RealCriu.Start(command[0], command[1..]);
        _started.Add(server);
        return server;
    }

    /// <summary>Our daemon, with a policy that leaves away what nobody touches, and what CRIU restores with it.</summary>
    public Process Restore(bool served, Cable? cable = null, params string[] more)
    {
        Process daemon = StartDaemon(served, cable, more);
        Succeeds(RestoreByCriu());
        return daemon;
    }

    public Process StartDaemon(bool served, Cable? cable = null, params string[] more)
    {
        string[] server = served ? ["--page-server", .. Server(cable), .. Tls("client", cable)] : [];
        Process daemon = Destination.StartIn(cable?.Network(Cable.Near), [.. RealCriu.Daemon, "lazy-pages", "-D", Folder, "-o", "lazy.log", "-v4", "--policy", "demand", .. server, .. more]);
        _started.Add(daemon);
        for (long end = Environment.TickCount64 + 20_000; !File.Exists(In("lazy-pages.socket")) && Environment.TickCount64 < end;)
            Thread.Sleep(20);
        return daemon;
    }

    /// <summary>With a script that CRIU runs when all is restored, before it says that the processes run.</summary>
    public Outcome RestoreByCriu(string? script = null)
    {
        if (script is not null)
        {
            File.WriteAllText(In("script"), $"#!/bin/sh\n[ $CRTOOLS_SCRIPT_ACTION != post-restore ] || {{ {script}; }}\n");
            _ = RealCriu.Run("chmod", ["+x", In("script")]);
        }
        string[] action = script is null ? [] : ["--action-script", In("script")];
        return Destination.Run([RealCriu.Program, "restore", "-D", Folder, "-d", "--lazy-pages", "--tcp-close", "-o", "restore.log", "-v1", .. action]);
    }

    /// <summary>What was restored is ended, so that it can be restored again.</summary>
    public void Forget()
    {
        Destination.Dispose();
        Destination = new Side();
        File.Delete(In("lazy.log"));
        File.Delete(In("lazy-pages.socket"));
    }

    /// <summary>The next restore goes to another side; this one stays, and becomes the caller's.</summary>
    public Side StepAside()
    {
        Side old = Destination;
        Destination = new Side();
        return old;
    }

    /// <summary>Every kind of change but one that reads everything.</summary>
    public void Churn()
    {
        for (int end = _churned + 7; _churned < end; _churned++)
        {
            // Process p does what (number + p) mod 7 says; 0 is a fork whose child reads everything.
            if (_churned % 7 is 1 or 2 or 3)
                Assert.That(Ask($"CHURN {_churned}"), Is.EqualTo("ok"));
        }
    }

    public void AssertAllIsWell()
    {
        for (int end = _churned + 14; _churned < end; _churned++)
            Assert.That(Ask($"CHURN {_churned}"), Is.EqualTo("ok"));
        Assert.That(Ask("CHECK"), Is.EqualTo(Digest));
    }

    public string Ask(string line)
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

    public void AwaitLog(string words)
    {
        for (long end = Environment.TickCount64 + (long)Patience.TotalMilliseconds; Environment.TickCount64 < end; Thread.Sleep(50))
        {
            if (File.ReadAllText(In("lazy.log")).Contains(words, StringComparison.Ordinal))
                return;
        }
        Assert.Fail($"\"{words}\" is not in the log: {File.ReadAllText(In("lazy.log"))}");
    }

    /// <summary>It ends, and how.</summary>
    public static void AssertEnds(Process daemon, int exitCode)
    {
        Assert.That(daemon.WaitForExit(Patience), Is.True);
        Assert.That(daemon.ExitCode, Is.EqualTo(exitCode));
    }

    /// <summary>nsenter stands between, and takes no signal for it.</summary>
    public static string Child(Process nsenter) => File.ReadAllText($"/proc/{nsenter.Id}/task/{nsenter.Id}/children").Trim();

    private string[] Server(Cable? cable) => ["--address", Address(cable), "--port", $"{_serverPort}"];

    private string[] Tls(string name, Cable? cable) =>
        _authority is null ? [] : TestCertificates.Options(_authority.Issue(name, address: IPAddress.Parse(Address(cable))));

    private static string Address(Cable? cable) => cable is null ? "127.0.0.1" : Cable.Address(Cable.Far);

    public void Succeeds(Outcome restored) => Succeeds(restored, "restore.log");

    private void Succeeds(Outcome outcome, string log) =>
        Assert.That(outcome.ExitCode, Is.Zero, () => outcome.Errors + string.Join('\n', File.ReadLines(In(log)).Where(l => l.Contains("Error", StringComparison.Ordinal))));
}
