using System.Diagnostics;
using System.Net;
using System.Security.Cryptography;
using NUnit.Framework;
using Testbed.Core;
using Testbed.PageXfer.Images;
using Testbed.PageXfer.Protocol;
using Testbed.PageXfer.Tests;
using Testbed.PageXfer.Xfer;
using Testbed.Scenarios;

namespace Testbed.Criu.Tests;

/// <summary>page-server --lazy-pages --pid: pages straight from a process that stands still.</summary>
[NonParallelizable]
public sealed class FrozenTests
{
    // Three processes that tell, when asked by a file, the hash of 16 MiB each that nobody else has.
    private const int Processes = 3;
    private const string Program = """
        import hashlib, os, sys, time
        folder, me = sys.argv[1], "0"
        for child in "1", "2":
            if me == "0" and os.fork() == 0: me = child
        data = bytearray(os.urandom(16 << 20))
        while True:
            if os.path.exists(folder + "/ask" + me):
                os.unlink(folder + "/ask" + me)
                with open(folder + "/new" + me, "w") as f: f.write(hashlib.sha256(data).hexdigest())
                os.rename(folder + "/new" + me, folder + "/answer" + me)
            time.sleep(0.02)
        """;

    private IDisposable? _limits;
    private DirectoryInfo _folder = null!;
    private Side _source = null!;
    private TestCertificates _authority = null!;

    [SetUp]
    public void Start()
    {
        RealCriu.Require();
        _limits = CriuSetup.LiftPipeLimits();
        _folder = Directory.CreateTempSubdirectory("testbed-frozen-");
        File.WriteAllText(In("program.py"), Program);
        _ = _folder.CreateSubdirectory("images");
        _authority = new TestCertificates(_folder.FullName);
        _source = new Side();
        _source.Launch($"/usr/bin/python3 {In("program.py")} {_folder.FullName}");
        _ = Ask();
    }

    [TearDown]
    public void Stop()
    {
        if (_folder is null)
            return;
        _source.Dispose();
        _authority.Dispose();
        _folder.Delete(recursive: true);
        _folder = null!;
        _limits!.Dispose();
    }

    [Test]
    public void MemoryComesFromTheProcess()
    {
        string before = Ask();
        using Process server = Serve(out int port);
        Assert.That(Ask(seconds: 1), Is.Empty, "it stands still");
        using (PagesDirectory pages = PagesDirectory.Open(Images))
        {
            Assert.That(pages.Processes, Is.EquivalentTo(Tree.Select(InnerPidOf)).And.Count.EqualTo(Processes), "named as in their namespace");
            PageLane lane = PageLane.Connect(new IPEndPoint(IPAddress.Loopback, port));
            foreach (int process in Tree)
            {
                List<PageRange> lazy = pages.Pages(InnerPidOf(process)).RangesWith(PagemapFlags.Lazy);
                Assert.That(lazy.Sum(range => range.Bytes), Is.GreaterThan(16 << 20));
                Assert.That(Fetch(lane, InnerPidOf(process), lazy), Is.EqualTo(Direct(process, lazy)));
            }
            lane.Close(Duration.FromSeconds(5));
        }
        AssertEnds(server, 0);
        Assert.That(File.ReadAllText(In("server.log")), Does.Not.Contain("Error"));
        Assert.That(Answer(20), Is.EqualTo(before), "it runs on, with what was asked meanwhile");
        Outcome decoded = RealCriu.Run(RealCriu.Decoder, ["decode", "--pretty", "-i", Path.Combine(Images, $"core-{InnerPid}.img")]);
        Assert.That(decoded.Output, Does.Contain("\"comm\": \"python3\"").And.Contain("X86_64"), decoded.Errors);
    }

    [TestCase("client", 1, TestName = "The client goes away: the process runs on")]
    [TestCase("term", 0, TestName = "SIGTERM: the process runs on")]
    [TestCase("kill", 137, TestName = "SIGKILL: the process runs on")]
    public void NeverLeftFrozen(string what, int exitCode)
    {
        string before = Ask();
        using Process server = Serve(out int port);
        PageLane lane = PageLane.Connect(new IPEndPoint(IPAddress.Loopback, port));
        using (PagesDirectory pages = PagesDirectory.Open(Images))
            _ = Fetch(lane, InnerPid, [.. pages.Pages(InnerPid).RangesWith(PagemapFlags.Lazy).Take(1)]);
        if (what == "client")
            lane.Dispose();
        else
            _ = RealCriu.Run("kill", [what == "term" ? "-TERM" : "-KILL", $"{server.Id}"]);
        AssertEnds(server, exitCode);
        Assert.That(Ask(), Is.EqualTo(before));
    }

    /// <summary>
    /// CRIU writes the images and leaves the process stopped, its own server is told at once that all is in, and ours does the work.
    /// </summary>
    [TestCase(false, false, TestName = "CRIU restores lazily from stopped processes")]
    [TestCase(false, true, TestName = "CRIU restores lazily from stopped processes over TLS")]
    [TestCase(true, false, TestName = "CRIU restores with our daemon from stopped processes")]
    [TestCase(true, true, TestName = "CRIU restores with our daemon from stopped processes over TLS")]
    public void CriuRestoresLazilyFromStoppedProcesses(bool ours, bool tls)
    {
        string before = Ask();
        int own = Redis.FreePort();
        using (Process dump = _source.Start(RealCriu.Program, "dump", "-t", $"{InnerPid}", "-D", Images, "-W", _folder.FullName, "-o", "dump.log", "-v4",
            "--lazy-pages", "--leave-stopped", "--address", "127.0.0.1", "--port", $"{own}"))
        {
            Connect(own).Close(Duration.FromSeconds(5));
            AssertEnds(dump, 0);
        }
        using Process server = Serve(out int port, tls ? Tls("server") : []);
        using var side = new Side();
        string[] program = ours ? RealCriu.Daemon : [RealCriu.Program];
        using Process daemon = side.Start([.. program, "lazy-pages", "-D", Images, "-W", _folder.FullName, "-o", "lazy.log", "-v4",
            "--page-server", "--address", "127.0.0.1", "--port", $"{port}", .. tls ? Tls("client") : []]);
        for (long end = Environment.TickCount64 + 20_000; !File.Exists(In("lazy-pages.socket")) && Environment.TickCount64 < end;)
            Thread.Sleep(20);
        Outcome restored = side.Run(RealCriu.Program, "restore", "-D", Images, "-W", _folder.FullName, "-d", "--lazy-pages", "-o", "restore.log", "-v4");
        Assert.That(restored.ExitCode, Is.Zero, () => string.Join('\n', File.ReadLines(In("restore.log")).TakeLast(20)));
        Assert.That(Ask(), Is.EqualTo(before), "the restored one answers, for the other is stopped");
        AssertEnds(daemon, 0);
        AssertEnds(server, 0);
        Assert.That(Tree.Select(pid => File.ReadAllText($"/proc/{pid}/stat")), Has.All.Contain(") T"), "stopped, as CRIU left them");
    }

    private string Images => In("images");

    private uint InnerPid => InnerPidOf(HostPid);

    private IEnumerable<int> Tree =>
        [HostPid, .. File.ReadAllText($"/proc/{HostPid}/task/{HostPid}/children").Split(' ', StringSplitOptions.RemoveEmptyEntries).Select(int.Parse)];

    private static uint InnerPidOf(int pid) => uint.Parse(File.ReadLines($"/proc/{pid}/status").First(line => line.StartsWith("NSpid:", StringComparison.Ordinal)).Split('\t')[^1]);

    private string[] Tls(string name) => TestCertificates.Options(_authority.Issue(name, address: IPAddress.Loopback, rsa: name == "client"));

    private int HostPid => _source.Processes.First(pid => File.ReadAllText($"/proc/{pid}/cmdline").Contains("program.py", StringComparison.Ordinal));

    private string In(string file) => Path.Combine(_folder.FullName, file);

    private Process Serve(out int port, params string[] more)
    {
        port = Redis.FreePort();
        Process server = RealCriu.StartDaemon(["page-server", "-D", Images, "-W", _folder.FullName, "--address", "127.0.0.1", "--port", $"{port}",
            "--lazy-pages", "--pid", $"{HostPid}", "-v4", "-o", "server.log", "--pidfile", "server.pid", .. more]);
        for (long end = Environment.TickCount64 + 20_000; !File.Exists(In("server.pid")) && Environment.TickCount64 < end && !server.HasExited;)
            Thread.Sleep(20);
        Assert.That(server.HasExited, Is.False, () => File.ReadAllText(In("server.log")));
        File.Delete(In("server.pid"));
        return server;
    }

    private static PageLane Connect(int port)
    {
        for (long end = Environment.TickCount64 + 20_000; ;)
        {
            try
            {
                return PageLane.Connect(new IPEndPoint(IPAddress.Loopback, port));
            }
            catch (BadInputException) when (Environment.TickCount64 < end)
            {
                Thread.Sleep(20);
            }
        }
    }

    private string Ask(int seconds = 20)
    {
        for (int process = 0; process < Processes; process++)
            File.WriteAllText(In($"ask{process}"), "");
        return Answer(seconds);
    }

    /// <summary>What all say; nothing when one of them does not answer.</summary>
    private string Answer(int seconds)
    {
        string[] answers = [.. Enumerable.Range(0, Processes).Select(process => In($"answer{process}"))];
        for (long end = Environment.TickCount64 + seconds * 1000; Environment.TickCount64 < end; Thread.Sleep(20))
        {
            if (!Array.TrueForAll(answers, File.Exists))
                continue;
            string all = string.Concat(answers.Select(File.ReadAllText));
            Array.ForEach(answers, File.Delete);
            return all;
        }
        return "";
    }

    private static void AssertEnds(Process process, int exitCode)
    {
        Assert.That(process.WaitForExit(TimeSpan.FromSeconds(30)), Is.True, "ends");
        Assert.That(process.ExitCode, Is.EqualTo(exitCode));
    }

    /// <summary>A hash over the pages as they come over a lane.</summary>
    private static string Fetch(PageLane lane, uint pid, List<PageRange> ranges)
    {
        var receiver = new Hasher();
        foreach (PageRange range in ranges)
        {
            lane.Request(0, pid, range);
            for (long end = Environment.TickCount64 + 20_000; lane.Outstanding > 0;)
            {
                Assert.That(Environment.TickCount64, Is.LessThan(end));
                _ = lane.Socket.Poll(10_000, System.Net.Sockets.SelectMode.SelectRead);
                _ = lane.Receive(receiver);
            }
        }
        return receiver.Result;
    }

    /// <summary>The same, read beside all of this.</summary>
    private static string Direct(int pid, List<PageRange> ranges)
    {
        using FileStream memory = new($"/proc/{pid}/mem", FileMode.Open, FileAccess.Read, FileShare.ReadWrite, bufferSize: 0);
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (PageRange range in ranges)
        {
            var bytes = new byte[range.Bytes];
            memory.Position = (long)range.Start.Address;
            memory.ReadExactly(bytes);
            hash.AppendData(bytes);
        }
        return Convert.ToHexString(hash.GetHashAndReset());
    }

    private sealed class Hasher : IPageReceiver
    {
        private readonly byte[] _memory = new byte[1 << 20];
        private readonly IncrementalHash _hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        private int _start;

        public Span<byte> BufferFor(int tag, PageRange range) => _memory.AsSpan(_start, (int)Math.Min(range.Bytes, _memory.Length - _start));

        public void Arrived(int tag, PageRange range)
        {
            _hash.AppendData(_memory.AsSpan(_start, (int)range.Bytes));
            _start += (int)range.Bytes;
            if (_start == _memory.Length)
                _start = 0;
        }

        public string Result => Convert.ToHexString(_hash.GetHashAndReset());
    }
}
