using System.Diagnostics;
using NUnit.Framework;
using Testbed.Scenarios;

namespace Testbed.Criu.Tests;

/// <summary>
/// Processes whose threads end the moment they run again, with guard pages and an area that fork wipes: dumped by the
/// real CRIU, and restored
/// by it with our daemon, whose policy leaves missing what nobody touches.
/// </summary>
[NonParallelizable]
public sealed class EndingsTests
{
    private const string AllIsWell = "owner died, joined 1, nodes 5, traps 8, wiped 1";

    private readonly List<Process> _started = [];
    private IDisposable? _limits;
    private DirectoryInfo _folder = null!;
    private Side _source = null!, _destination = null!;

    [SetUp]
    public void DumpProcesses()
    {
        RealCriu.Require();
        _limits = CriuSetup.LiftPipeLimits();
        _folder = Directory.CreateTempSubdirectory("testbed-endings-");
        (_source, _destination) = (new Side(), new Side());
        string program = In("endings");
        string code = Path.Combine(RealCriu.Root(), "tests", "Live.Tests", "Programs", "endings.c");
        // A stack protector would look at the thread's own page.
        Succeeds(RealCriu.Run("gcc", ["-O2", "-pthread", "-fno-stack-protector", "-o", program, code]), null);
        // With rseq the kernel brings in the page that this is about whenever a thread changes its processor.
        _source.Launch($"env GLIBC_TUNABLES=glibc.pthread.rseq=0 {program} {In("go")} {In("result")}");
        if (AwaitResult("ready") != "ready")
            Assert.Ignore("SKIPPED: this kernel has no guard pages");
        string pid = RealCriu.Run("pgrep", ["-o", "-f", $"^{program}"]).Output.Trim();
        string inner = File.ReadLines($"/proc/{pid}/status")
            .First(line => line.StartsWith("NSpid:", StringComparison.Ordinal)).Split('\t')[^1];
        Succeeds(_source.Run(
            RealCriu.Program, "dump", "-t", inner, "-D", _folder.FullName, "-o", "dump.log", "-v1"), "dump.log");
        File.Delete(In("result"));
        // They find it as soon as they run.
        File.WriteAllText(In("go"), "");
    }

    [TearDown]
    public void Stop()
    {
        _source?.Dispose();
        _destination?.Dispose();
        foreach (Process process in _started)
        {
            process.Kill(entireProcessTree: true);
            process.Dispose();
        }
        _started.Clear();
        _folder?.Delete(recursive: true);
        _limits?.Dispose();
    }

    [Test]
    public void Threads_that_end_at_once_are_noticed_and_guards_trap_when_restored_from_images()
    {
        Start(_destination.Start([.. RealCriu.Daemon, "lazy-pages", .. DaemonOptions]));
        Restore();
        AssertAllIsWell();
    }

    [Test]
    public void Threads_that_end_at_once_are_noticed_and_guards_trap_when_restored_over_a_slow_link()
    {
        using var cable = new Cable();
        string[] enter = cable.Enter(Cable.Far);
        const string Slow = "tc qdisc add dev eth0 root tbf rate 8mbit burst 8k latency 2s";
        Succeeds(RealCriu.Run(enter[0], [.. enter[1..], .. Slow.Split(' ')]), null);
        string[] server = ["--address", Cable.Address(Cable.Far), "--port", "9876"];
        Start(RealCriu.Start(enter[0],
            [.. enter[1..], .. RealCriu.Daemon, "page-server", "--lazy-pages", "-D", _folder.FullName, .. server, "-o", "server.log"]));
        Start(_destination.StartIn(
            cable.Network(Cable.Near), [.. RealCriu.Daemon, "lazy-pages", "--page-server", .. server, .. DaemonOptions]));
        Restore();
        AssertAllIsWell();
    }

    private string[] DaemonOptions => ["-D", _folder.FullName, "-o", "lazy.log", "-v4", "--policy", "demand"];

    private void Start(Process process) => _started.Add(process);

    private void AssertAllIsWell() =>
        Assert.That(AwaitResult("owner"), Is.EqualTo(AllIsWell), () => File.ReadAllText(In("lazy.log")));

    /// <summary>With a script that CRIU runs when all is restored and nothing runs yet. A restore of a few processes is
    /// over in no time, so it
    /// waits for the pages, as one of many processes does by itself; pages that nobody asks for never come.</summary>
    private void Restore()
    {
        File.WriteAllText(In("script"), $$"""
            #!/bin/sh
            [ $CRTOOLS_SCRIPT_ACTION = post-restore ] || exit 0
            for i in $(seq 200); do grep -q 'needs when a thread ends are in' {{In("lazy.log")}} && break; sleep 0.05; done
            exit 0
            """);
        _ = RealCriu.Run("chmod", ["+x", In("script")]);
        for (long end = Environment.TickCount64 + 30_000; !File.Exists(In("lazy-pages.socket")) && Environment.TickCount64 < end;)
            Thread.Sleep(20);
        Succeeds(_destination.Run([RealCriu.Program, "restore", "-D", _folder.FullName, "-d", "--lazy-pages", "-o", "restore.log", "-v1",
            "--action-script", In("script")]), "restore.log");
    }

    private string In(string file) => Path.Combine(_folder.FullName, file);

    private string AwaitResult(string beginning)
    {
        string result = "";
        for (long end = Environment.TickCount64 + 20_000; Environment.TickCount64 < end; Thread.Sleep(20))
        {
            result = File.Exists(In("result")) ? File.ReadAllText(In("result")) : "";
            if (result.StartsWith(beginning, StringComparison.Ordinal) && result.EndsWith('\n'))
                return result.Trim();
            if (result.StartsWith("no guards", StringComparison.Ordinal))
                break;
        }
        return result;
    }

    private void Succeeds(Outcome outcome, string? log) =>
        Assert.That(outcome.ExitCode, Is.Zero, () => outcome.Errors + (log is null ? "" : File.ReadAllText(In(log))));
}
