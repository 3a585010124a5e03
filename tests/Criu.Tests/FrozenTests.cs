using System.Diagnostics;
using System.Net;
using System.Security.Cryptography;
using NUnit.Framework;
using Testbed.Core;
using Testbed.PageXfer.Images;
using Testbed.PageXfer.Xfer;
using Testbed.Scenarios;

namespace Testbed.Criu.Tests;

/// <summary>page-server --lazy-pages --pid: pages straight from a process that stands still.</summary>
[NonParallelizable]
public sealed class FrozenTests
{
    // Tells, when asked by a file, the hash of 48 MiB that nobody else has.
    private const string Program = """
        import hashlib, os, sys, time
        folder = sys.argv[1]
        data = bytearray(os.urandom(48 << 20))
        while True:
            if os.path.exists(folder + "/ask"):
                os.unlink(folder + "/ask")
                with open(folder + "/new", "w") as f: f.write(hashlib.sha256(data).hexdigest())
                os.rename(folder + "/new", folder + "/answer")
            time.sleep(0.02)
        """;

    private IDisposable? _limits;
    private DirectoryInfo _folder = null!;
    private Side _source = null!;

    [SetUp]
    public void Start()
    {
        RealCriu.Require();
        _limits = CriuSetup.LiftPipeLimits();
        _folder = Directory.CreateTempSubdirectory("testbed-frozen-");
        File.WriteAllText(In("program.py"), Program);
        _ = _folder.CreateSubdirectory("images");
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
            uint pid = pages.Processes.Single();
            Assert.That(pid, Is.EqualTo(InnerPid), "named as in its namespace");
            List<PageRange> lazy = pages.Pages(pid).RangesWith(PagemapFlags.Lazy);
            Assert.That(lazy.Sum(range => range.Bytes), Is.GreaterThan(48 << 20));
            PageLane lane = PageLane.Connect(new IPEndPoint(IPAddress.Loopback, port));
            Assert.That(Fetch(lane, pid, lazy), Is.EqualTo(Direct(HostPid, lazy)));
            lane.Close(Duration.FromSeconds(5));
        }
        AssertEnds(server, 0);
        Assert.That(File.ReadAllText(In("ask-log")), Is.Empty.Or.Not.Contain("Error"));
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
    [Test]
    public void CriuRestoresLazilyFromAStoppedProcess()
    {
        string before = Ask();
        int own = Redis.FreePort();
        using (Process dump = _source.Start(RealCriu.Program, "dump", "-t", $"{InnerPid}", "-D", Images, "-W", _folder.FullName, "-o", "dump.log", "-v4",
            "--lazy-pages", "--leave-stopped", "--address", "127.0.0.1", "--port", $"{own}"))
        {
            Connect(own).Close(Duration.FromSeconds(5));
            AssertEnds(dump, 0);
        }
        using Process server = Serve(out int port);
        using var side = new Side();
        using Process daemon = side.Start(RealCriu.Program, "lazy-pages", "-D", Images, "-W", _folder.FullName, "-o", "lazy.log", "-v4", "--page-server", "--address", "127.0.0.1", "--port", $"{port}");
        for (long end = Environment.TickCount64 + 20_000; !File.Exists(In("lazy-pages.socket")) && Environment.TickCount64 < end;)
            Thread.Sleep(20);
        Outcome restored = side.Run(RealCriu.Program, "restore", "-D", Images, "-W", _folder.FullName, "-d", "--lazy-pages", "-o", "restore.log", "-v4");
        Assert.That(restored.ExitCode, Is.Zero, () => string.Join('\n', File.ReadLines(In("restore.log")).TakeLast(20)));
        Assert.That(Ask(), Is.EqualTo(before), "the restored one answers, for the other is stopped");
        AssertEnds(daemon, 0);
        AssertEnds(server, 0);
        Assert.That(File.ReadAllText($"/proc/{HostPid}/stat"), Does.Contain(") T"), "stopped, as CRIU left it");
    }

    private string Images => In("images");

    private uint InnerPid => uint.Parse(File.ReadLines($"/proc/{HostPid}/status").First(line => line.StartsWith("NSpid:", StringComparison.Ordinal)).Split('\t')[^1]);

    private int HostPid => _source.Processes.First(pid => File.ReadAllText($"/proc/{pid}/cmdline").Contains("program.py", StringComparison.Ordinal));

    private string In(string file) => Path.Combine(_folder.FullName, file);

    private Process Serve(out int port)
    {
        port = Redis.FreePort();
        Process server = RealCriu.StartDaemon("page-server", "-D", Images, "-W", _folder.FullName, "--address", "127.0.0.1", "--port", $"{port}",
            "--lazy-pages", "--pid", $"{HostPid}", "-v4", "-o", "ask-log", "--pidfile", "server.pid");
        for (long end = Environment.TickCount64 + 20_000; !File.Exists(In("server.pid")) && Environment.TickCount64 < end && !server.HasExited;)
            Thread.Sleep(20);
        Assert.That(server.HasExited, Is.False, () => File.ReadAllText(In("ask-log")));
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
        File.WriteAllText(In("ask"), "");
        return Answer(seconds);
    }

    private string Answer(int seconds)
    {
        for (long end = Environment.TickCount64 + seconds * 1000; Environment.TickCount64 < end; Thread.Sleep(20))
        {
            if (!File.Exists(In("answer")))
                continue;
            string answer = File.ReadAllText(In("answer"));
            File.Delete(In("answer"));
            return answer;
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
