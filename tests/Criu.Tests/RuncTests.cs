using System.Diagnostics;
using System.Text.Json.Nodes;
using NUnit.Framework;
using Testbed.Scenarios;

namespace Testbed.Criu.Tests;

/// <summary>A container of the real runc moves lazily, with our daemon in the place of CRIU's.</summary>
[NonParallelizable]
public sealed class RuncTests
{
    private const string RuncProgram = "/usr/sbin/runc";
    private readonly List<Process> _started = [];
    private readonly string _name = $"testbed-{Environment.ProcessId}";
    private DirectoryInfo? _folder;
    private IDisposable? _limits;
    private string _sum = "";

    [SetUp]
    public void Run_a_container()
    {
        RealCriu.Require();
        if (!File.Exists(RuncProgram))
        {
            Assert.That(Environment.GetEnvironmentVariable("CI"), Is.Not.EqualTo("true"), "CI cannot run this test: runc is not installed");
            Assert.Ignore("SKIPPED: runc is not installed; as root: apt-get install runc (or scenarios/setup/debian.sh for all)");
        }
        _limits = CriuSetup.LiftPipeLimits();
        _folder = Directory.CreateTempSubdirectory("testbed-runc-");
        string root = _folder.CreateSubdirectory("bundle").CreateSubdirectory("rootfs").FullName;
        Succeeds(RealCriu.Run("gcc", ["-O2", "-static", "-o", Path.Combine(root, "container"), Path.Combine(RealCriu.Root(), "tests", "Live.Tests", "Programs", "container.c")]));
        Succeeds(RealCriu.Run(RuncProgram, ["spec", "--bundle", In("bundle")]));
        JsonNode config = JsonNode.Parse(File.ReadAllText(In("bundle/config.json")))!;
        config["process"]!["terminal"] = false;
        config["process"]!["args"] = new JsonArray("/container", "32");
        // CRIU does not restore a root that is mounted for reading only.
        config["root"]!["readonly"] = false;
        File.WriteAllText(In("bundle/config.json"), config.ToJsonString());
        Runc("run", "-d", "--bundle", In("bundle"), _name);
        _sum = Ask();
    }

    [TearDown]
    public void Remove()
    {
        if (_folder is null)
            return;
        foreach (string id in (string[])[_name, Restored])
            _ = RealCriu.Run(RuncProgram, ["--root", In("state"), "delete", "-f", id]);
        foreach (Process process in _started)
        {
            process.Kill(entireProcessTree: true);
            process.Dispose();
        }
        _started.Clear();
        _limits?.Dispose();
        _folder.Delete(recursive: true);
        _folder = null;
    }

    /// <summary>As runc's own test does it: the daemon in the background, and the restore right behind it, without waiting for anything.</summary>
    [TestCase("launcher")]
    [TestCase("installed program")]
    public void Daemon_is_ready_when_runc_restores_at_once(string which)
    {
        string launcher = Path.Combine(RealCriu.Root(), "testbed"), program = launcher;
        // Builds what is not built: that is not what is tried here.
        Succeeds(RealCriu.Run(launcher, ["lazy-pages", "--help"], 1200));
        if (which != "launcher")
        {
            Succeeds(RealCriu.Run(launcher, ["install", "--prefix", In("installed")], 1200));
            program = In("installed/bin/testbed");
        }
        _ = _folder!.CreateSubdirectory("images");
        Runc("checkpoint", "--image-path", In("images"), "--work-path", In("images"), _name);
        // On a busy machine nobody can tell who comes first: three tries. A launcher that is late half the time passes none of them.
        List<string> failures = [];
        for (int attempt = 0; attempt < 3; attempt++)
        {
            failures = RestoreAtOnce(program, times: 8);
            if (failures.Count == 0)
                return;
        }
        Assert.Fail($"{8 - failures.Count} of 8 restores found the daemon: {string.Concat(failures)}");
    }

    /// <returns>What went wrong, for each time that it did.</returns>
    private List<string> RestoreAtOnce(string program, int times)
    {
        var failures = new List<string>();
        for (int i = 0; i < times; i++)
        {
            Process daemon = Start(program, "lazy-pages", "-D", In("images"), "-o", "lazy.log", "-v4");
            if (TryRestore().ExitCode == 0)
            {
                Assert.That(Ask(), Is.EqualTo(_sum));
                Ends(daemon);
            }
            else
            {
                failures.Add(Errors("restore.log") + Errors("runc.log"));
                daemon.Kill(entireProcessTree: true);
                daemon.WaitForExit();
            }
            _ = RealCriu.Run(RuncProgram, ["--root", In("state"), "delete", "-f", Restored]);
            File.Delete(In("images/lazy-pages.socket"));
        }
        return failures;
    }

    /// <summary>The pages come from runc's checkpoint, which goes on as a page server of CRIU until all are in.</summary>
    [Test]
    public void Runc_restores_from_its_lazy_checkpoint_with_our_daemon()
    {
        int port = Redis.FreePort();
        _ = _folder!.CreateSubdirectory("images");
        Process checkpoint = Start(["bash", "-c", "exec \"$@\" 5>&1 </dev/null >/dev/null 2>&1", "bash", .. RuncLine, "checkpoint", "--lazy-pages",
            "--page-server", $"127.0.0.1:{port}", "--status-fd", "5", "--image-path", In("images"), "--work-path", In("images"), _name]);
        Assert.That(checkpoint.StandardOutput.BaseStream.ReadByte(), Is.Zero, () => Errors("dump.log") + Errors("runc.log"));
        Process daemon = Start([.. RealCriu.Daemon, "lazy-pages", "--page-server", "--address", "127.0.0.1", "--port", $"{port}", "-D", In("images"), "-o", "lazy.log", "-v4"]);
        Restores();
        Ends(daemon);
        Ends(checkpoint);
    }

    [Test]
    public void Runc_restores_with_our_daemon_and_our_page_server()
    {
        int port = Redis.FreePort();
        _ = _folder!.CreateSubdirectory("images");
        Runc("checkpoint", "--image-path", In("images"), "--work-path", In("images"), _name);
        _ = Start([.. RealCriu.Daemon, "page-server", "--lazy-pages", "--address", "127.0.0.1", "--port", $"{port}", "-D", In("images"), "-o", "server.log", "-v4"]);
        Await(() => File.ReadAllText("/proc/net/tcp").Contains($":{port:X4} 00000000:0000 0A", StringComparison.Ordinal), "the server listens");
        Process daemon = Start([.. RealCriu.Daemon, "lazy-pages", "--page-server", "--address", "127.0.0.1", "--port", $"{port}", "-D", In("images"), "-o", "lazy.log", "-v4"]);
        Restores();
        Ends(daemon);
        Assert.That(File.ReadAllText(In("images/server.log")), Does.Contain("pages sent").Or.Contain("session over"), "the pages came from it");
    }

    private string Restored => _name + "-restored";

    /// <summary>CRIU is found on the path.</summary>
    private string[] RuncLine =>
    [
        "env", $"PATH={Path.GetDirectoryName(RealCriu.Program)}:{Environment.GetEnvironmentVariable("PATH")}", RuncProgram, "--log", In("runc.log"), "--root", In("state"),
    ];

    private string In(string file) => Path.Combine(_folder!.FullName, file);

    private Outcome TryRestore() => TryRunc("restore", "-d", "--lazy-pages", "--bundle", In("bundle"), "--image-path", In("images"), "--work-path", In("images"), Restored);

    private void Restores()
    {
        Assert.That(TryRestore().ExitCode, Is.Zero, () => Errors("restore.log") + Errors("runc.log") + Errors("lazy.log"));
        Assert.That(Ask(), Is.EqualTo(_sum));
    }

    /// <summary>What the container inherits must be there in the container, too.</summary>
    private Outcome TryRunc(params string[] arguments) => RealCriu.Run("sh", ["-c", "exec \"$@\" </dev/null >/dev/null 2>&1", "sh", .. RuncLine, .. arguments]);

    private void Runc(params string[] arguments) => Assert.That(TryRunc(arguments).ExitCode, Is.Zero, () => Errors("runc.log") + Errors("dump.log"));

    private string Errors(string log)
    {
        string path = In(log == "runc.log" ? log : "images/" + log);
        return !File.Exists(path) ? "" : string.Join('\n', File.ReadLines(path).Where(l => l.Contains("rror", StringComparison.Ordinal))) + "\n";
    }

    private Process Start(params string[] command)
    {
        Process process = RealCriu.Start(command[0], command[1..]);
        _started.Add(process);
        return process;
    }

    /// <summary>The sum over its memory, as the container finds it now.</summary>
    private string Ask()
    {
        File.WriteAllText(In("bundle/rootfs/ask"), "");
        string answer = In("bundle/rootfs/answer"), sum = "";
        Await(() => File.Exists(answer), "the container answers");
        sum = File.ReadAllText(answer);
        File.Delete(answer);
        return sum;
    }

    private static void Await(Func<bool> condition, string what)
    {
        for (long end = Environment.TickCount64 + 60_000; !condition(); Thread.Sleep(5))
            Assert.That(Environment.TickCount64, Is.LessThan(end), what);
    }

    private static void Ends(Process process)
    {
        Assert.That(process.WaitForExit(TimeSpan.FromSeconds(60)), Is.True);
        Assert.That(process.ExitCode, Is.Zero);
    }

    private static void Succeeds(Outcome outcome) => Assert.That(outcome.ExitCode, Is.Zero, outcome.Errors + outcome.Output);
}
