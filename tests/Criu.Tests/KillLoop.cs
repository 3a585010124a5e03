using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using NUnit.Framework;
using Testbed.Uffd;

namespace Testbed.Criu.Tests;

/// <summary>
/// Kills daemon, page server, recorder and guard at random moments of captures and of lazy restores by the real CRIU, over processes that know what
/// each of their pages holds. After every kill all data must be right, and nobody may wait. What it does follows from its seed; when it happens,
/// from the machine.
/// </summary>
internal sealed class KillLoop(int seed, TextWriter log)
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(90);

    private readonly Random _random = new(seed);
    private readonly SortedDictionary<string, int> _kills = [];
    private int _rounds;

    /// <summary>Kills so far.</summary>
    public int Kills => _kills.Values.Sum();

    /// <summary>What was killed, how often.</summary>
    public string Summary => $"{Kills} kills in {_rounds} rounds ({string.Join(", ", _kills.Select(k => $"{k.Key} {k.Value}"))}), seed {seed}: nothing lost, nobody left waiting";

    /// <summary>Rounds of lazy restores, until something was killed so often.</summary>
    public void Restores(int kills)
    {
        var tree = new TreeDump();
        try
        {
            tree.Start();
            Process server = tree.Serve();
            for (int end = Kills + kills; Kills < end; tree.Forget())
            {
                _rounds++;
                Restore(tree, ref server);
            }
        }
        finally
        {
            tree.Stop();
        }
    }

    /// <summary>Rounds of captures of one process, until something was killed so often.</summary>
    public void Captures(int kills)
    {
        DirectoryInfo folder = Directory.CreateTempSubdirectory("testbed-kills-");
        int port = Redis.FreePort();
        string program = Path.Combine(folder.FullName, "tree");
        Outcome compiled = RealCriu.Run("gcc", ["-O2", "-o", program, Path.Combine(RealCriu.Root(), "scenarios", "workloads", "tree.c")]);
        Assert.That(compiled.ExitCode, Is.Zero, compiled.Errors);
        using Process target = RealCriu.Start(program, ["127.0.0.1", $"{port}", "8192", "1"]);
        try
        {
            Assert.That(Ask(port, "FILL"), Is.EqualTo("ok"));
            string digest = Ask(port, "CHECK");
            for (int end = Kills + kills; Kills < end;)
            {
                _rounds++;
                Capture(target.Id, port, digest, folder.CreateSubdirectory($"{_rounds}").FullName);
            }
        }
        finally
        {
            target.Kill();
            target.WaitForExit();
            folder.Delete(recursive: true);
        }
    }

    private void Restore(TreeDump tree, ref Process server)
    {
        bool served = _random.Next(3) > 0;
        string what = _random.Next(8) switch { 0 => "during the restore", 1 => "guard", 2 or 3 when served => "server", _ => "daemon" };
        int moment = _random.Next(250);
        log.WriteLine($"{_rounds}: restore from {(served ? "the server" : "images")}, {what} after {moment} ms");
        Process daemon = tree.StartDaemon(served, null);
        string pid = TreeDump.Child(daemon);
        if (what == "during the restore")
        {
            Task<Outcome> restoring = Task.Run(() => tree.RestoreByCriu());
            Thread.Sleep(moment * 4);
            Kill("daemon", pid);
            // The processes are gone, or they run and have all their memory.
            if (restoring.Result.ExitCode == 0)
                tree.AssertAllIsWell();
            AssertNobodyIsLeft(tree);
            return;
        }
        tree.Succeeds(tree.RestoreByCriu());
        Task<string> race = Task.Run(() => tree.Ask("RACE 20"));
        Thread.Sleep(moment);
        if (what == "server")
        {
            server.Kill();
            server.WaitForExit();
            Note("server");
            server = tree.Serve();
        }
        else
        {
            Kill(what, what == "guard" ? $"{GuardOf(tree)}" : pid);
        }
        Assert.That(race.Result, Is.EqualTo("ok"));
        tree.AssertAllIsWell();
        if (what != "daemon")
        {
            RealCriu.Run("kill", ["-TERM", pid]);
            TreeDump.AssertEnds(daemon, 0);
        }
        AssertNobodyIsLeft(tree);
    }

    private void Capture(int target, int port, string digest, string images)
    {
        string what = _random.Next(6) switch { 0 => "guard", 1 or 2 => "recorder and guard", _ => "recorder" };
        int moment = _random.Next(1500), churn = _random.Next(1000);
        log.WriteLine($"{_rounds}: capture, {what} after {moment} ms");
        string temporary = Directory.CreateDirectory(images + ".tmp").FullName;
        using Process recorder = StartRecorder(target, images, temporary);
        // Children that are forked meanwhile are beyond a rescue.
        Task<string> busy = Task.Run(() => Ask(port, what == "recorder and guard" ? "CHECK" : $"CHURN {churn}"));
        Thread.Sleep(moment);
        int guard = Find(line => line.Contains("\0guard\0", StringComparison.Ordinal) && line.Contains($"\0{recorder.Id}\0", StringComparison.Ordinal));
        if (what != "recorder" && guard > 0)
            Kill("guard", $"{guard}");
        if (what != "guard" || guard <= 0)
        {
            recorder.Kill();
            Note("recorder");
        }
        else
        {
            RealCriu.Run("kill", ["-INT", $"{recorder.Id}"]);
        }
        Assert.That(recorder.WaitForExit(Patience), "the recorder ends");
        if (what == "recorder and guard" && guard > 0 && Live.Rescue.IsNeeded(images))
        {
            Outcome rescued = RealCriu.Run("dotnet", [RealCriu.Testbed, "rescue", "--pid", $"{target}", "--images", images]);
            Assert.That(rescued.ExitCode, Is.Zero, rescued.Errors);
        }
        Assert.That(busy.Result, Is.EqualTo("ok").Or.EqualTo(digest), () => GuardLog(temporary));
        Assert.That(Ask(port, "CHECK"), Is.EqualTo(digest), () => GuardLog(temporary));
        Await(() => Find(line => line.Contains(images, StringComparison.Ordinal)) < 0, "the guard ends", () => GuardLog(temporary));
        Assert.That(File.ReadAllText($"/proc/{target}/smaps"), Does.Not.Contain(" um "), () => GuardLog(temporary));
        Assert.That(Find(line => line.Contains(images, StringComparison.Ordinal)), Is.Negative);
    }

    private static Process StartRecorder(int target, string images, string temporary)
    {
        var start = new ProcessStartInfo("dotnet", [RealCriu.Testbed, "record", "--pid", $"{target}", "--for", "60s", "-o", "/dev/null", "--images", images])
        {
            RedirectStandardError = true,
            RedirectStandardOutput = true,
        };
        start.Environment["TMPDIR"] = temporary;
        Process recorder = Process.Start(start)!;
        recorder.BeginErrorReadLine();
        recorder.BeginOutputReadLine();
        return recorder;
    }

    private void Kill(string what, string pid)
    {
        Assert.That(RealCriu.Run("kill", ["-KILL", pid]).ExitCode, Is.Zero, what);
        Note(what);
    }

    private void Note(string what) => _kills[what] = _kills.GetValueOrDefault(what) + 1;

    private static int GuardOf(TreeDump tree) =>
        Find(line => line.Contains("\0--guarding\0", StringComparison.Ordinal) && line.Contains(tree.Folder, StringComparison.Ordinal));

    private static void AssertNobodyIsLeft(TreeDump tree) =>
        Await(() => Find(line => line.Contains("\0lazy-pages\0", StringComparison.Ordinal) && line.Contains(tree.Folder, StringComparison.Ordinal) && !line.StartsWith("nsenter", StringComparison.Ordinal)) < 0,
            "daemon and guard end", () => File.ReadAllText(tree.In("lazy.log")));

    private static string GuardLog(string temporary) => Path.Combine(temporary, "testbed-guard.log") is var path && File.Exists(path) ? File.ReadAllText(path) : "no guard log";

    private static void Await(Func<bool> condition, string what, Func<string> why)
    {
        for (long end = Environment.TickCount64 + (long)Patience.TotalMilliseconds; !condition(); Thread.Sleep(20))
            Assert.That(Environment.TickCount64, Is.LessThan(end), () => $"{what}: {why()}");
    }

    /// <summary>A process with a command line; -1 when there is none.</summary>
    private static int Find(Func<string, bool> isIt)
    {
        foreach (string folder in Directory.EnumerateDirectories("/proc"))
        {
            if (!int.TryParse(Path.GetFileName(folder), out int pid))
                continue;
            try
            {
                if (isIt(File.ReadAllText(folder + "/cmdline")))
                    return pid;
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                // It has ended.
            }
        }
        return -1;
    }

    private static string Ask(int port, string line)
    {
        for (long end = Environment.TickCount64 + 20_000; ;)
        {
            try
            {
                using var client = new TcpClient { ReceiveTimeout = (int)Patience.TotalMilliseconds };
                client.Connect(IPAddress.Loopback, port);
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
}
