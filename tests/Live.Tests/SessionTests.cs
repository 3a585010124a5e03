using System.Diagnostics;
using System.IO.Hashing;
using System.Net.Sockets;
using NUnit.Framework;
using Testbed.Core;
using Testbed.PageXfer.Server;
using Testbed.Policies;
using Testbed.Replay;
using Testbed.Traces;
using Testbed.Uffd;
using Trace = Testbed.Traces.Trace;

namespace Testbed.Live.Tests;

/// <summary>The whole way with the real fault service, lanes and page server, on real processes.</summary>
[NonParallelizable]
public sealed class SessionTests
{
    private static readonly string TracePath = Path.Combine(Path.GetTempPath(), $"session-{Environment.ProcessId}.trace");

    public static IEnumerable<string> Policies => PolicyCatalog.Names;

    [OneTimeSetUp]
    public void Require() => Live.RequireRoot();

    [TearDown]
    public void Clean() => File.Delete(TracePath);

    private static LiveSession Begin(int pid, string policy = "demand", LinkParameters link = default, RegionSelection region = RegionSelection.Anon, bool throughServer = false) =>
        LiveSession.Begin(pid, new LiveOptions
        {
            Workload = "test",
            Policy = PolicyCatalog.Parse(policy),
            Link = link,
            Region = region,
            ThroughServer = throughServer,
            TracePath = TracePath,
            TraceEvents = true,
        }, null, CancellationToken.None);

    private static void AssertRepeatsItself(string policy, LiveEnd end)
    {
        Trace trace = Trace.Load(TracePath);
        PolicySpec spec = PolicyCatalog.Parse(policy);
        Assert.That(trace.IsComplete);
        Assert.That(TraceWorkload.ExactHash(trace, spec.DefaultTransfer, spec, []), Is.EqualTo(end.Result.CommandHash), "exact replay");
    }

    /// <summary>All private memory, but for what the kernel writes there whenever a thread changes its CPU.</summary>
    private static ulong HashOf(int pid)
    {
        XxHash64 hash = new();
        Thread.Sleep(50);
        using TracedProcess stopped = TracedProcess.Seize(pid);
        List<(ulong Address, uint Size)> kernels = stopped.ForEachThread(thread => thread.RestartableSequences());
        using TargetMemory memory = new(pid);
        byte[] page = new byte[PageNumber.Size];
        foreach (Mapping mapping in ProcMaps.Select(ProcMaps.Read(pid), RegionSelection.All, []))
        {
            for (PageNumber at = mapping.Range.Start; at < mapping.Range.End; at += 1)
            {
                Array.Clear(page);
                memory.Read(at.Address, page);
                foreach ((ulong address, uint size) in kernels.Where(k => PageNumber.Of(k.Address) == at))
                    page.AsSpan((int)(address - at.Address), (int)size).Clear();
                hash.Append(page);
            }
        }
        return hash.GetCurrentHashAsUInt64();
    }

    [Test, TestCaseSource(nameof(Policies))]
    public void RedisKeepsItsDataUnderEachPolicyOverALink(string policy)
    {
        using Redis redis = new Redis().Filled(40_000);
        string digest = redis.Digest;
        using LiveSession session = Begin(redis.Pid, policy, new LinkParameters(ByteRate.FromBitsPerSecond(1e9), Duration.FromSeconds(0.001)));
        Assert.That(session.Image.PresentPages, Is.GreaterThan(3000));
        using (Process load = redis.Load(3000))
        {
            Assert.That(redis.Digest, Is.EqualTo(digest), "during");
            load.WaitForExit();
        }
        LiveEnd end = session.End(EndState.Drained);
        Assert.That(end.End, Is.EqualTo(FinishOutcome.Detached));
        Assert.That(redis.Digest, Is.EqualTo(digest), "after");
        Assert.That(redis.Traces(), Does.Not.Contain("userfaultfd"));
        AssertRepeatsItself(policy, end);
    }

    [Test]
    public void AQuiescentProcessIsBitIdentical([Values] RegionSelection region)
    {
        using Subject subject = Subject.Start(1024, threads: false);
        subject.Ask("h");
        ulong before = HashOf(subject.Pid);
        string traces = subject.Traces();
        using (LiveSession session = Begin(subject.Pid, region: region))
        {
            LiveEnd end = session.End(EndState.Drained);
            Assert.That(end.End, Is.EqualTo(FinishOutcome.Detached));
            Assert.That(end.Image.PresentPages, Is.GreaterThan(200));
            AssertRepeatsItself("demand", end);
        }
        Assert.That(HashOf(subject.Pid), Is.EqualTo(before));
        Assert.That(subject.Traces(), Is.EqualTo(traces));
    }

    [Test]
    public void ASnapshotInTheMiddleIsRight()
    {
        using Redis redis = new Redis().Filled(40_000);
        string digest = redis.Digest;
        using (LiveSession session = Begin(redis.Pid))
        {
            redis.Snapshot();
            LiveEnd end = session.End(EndState.Drained);
            Assert.That(Trace.Load(TracePath).Events.Any(e => e.Kind == ServiceEventKind.Forked));
            AssertRepeatsItself("demand", end);
        }
        using Redis other = new(redis.DumpFile);
        Assert.That(other.Digest, Is.EqualTo(digest));
        Assert.That(redis.Digest, Is.EqualTo(digest));
    }

    [Test, TestCaseSource(nameof(Policies))]
    public void AProcessThatChangesItsMemorySeesWhatItShould(string policy)
    {
        using Subject subject = Subject.Start(1024, threads: true), twin = Subject.Start(1024, threads: true);
        using LiveSession session = Begin(subject.Pid, policy, new LinkParameters(ByteRate.FromBitsPerSecond(1e9), Duration.FromSeconds(0.0005)));
        // Moved first: an area that mprotect has split cannot be moved as one.
        foreach (string command in (string[])["m", "f", "p", "f", "u", "d", "h", "f"])
            Assert.That(subject.Ask(command), Is.EqualTo(twin.Ask(command)), command);
        LiveEnd end = session.End(EndState.Drained);
        Assert.That(end.End, Is.EqualTo(FinishOutcome.Detached));
        Assert.That(subject.Ask("h"), Is.EqualTo(twin.Ask("h")));
        Assert.That(subject.Ask("s"), Does.StartWith("spurious 0 wrong 0"));
        AssertRepeatsItself(policy, end);
    }

    [Test]
    public void MemcachedAnswersFromFourThreads()
    {
        Live.RequireProgram("memcached");
        string socket = Path.Combine(Path.GetTempPath(), $"session-{Environment.ProcessId}.memcached");
        using Subject memcached = new("memcached", "-t", "4", "-s", socket, "-m", "64", "-u", "root");
        Redis.WaitFor(() => File.Exists(socket));
        string value = new('v', 1000);
        for (int i = 0; i < 2000; i++)
            Assert.That(Talk(socket, $"set k{i} 0 0 1000\r\n{value}\r\n", 1), Is.EqualTo("STORED"));
        using LiveSession session = Begin(memcached.Pid, "next-n");
        Parallel.For(0, 400, i => Assert.That(Talk(socket, $"get k{i * 5}\r\n", 2), Does.EndWith(value)));
        LiveEnd end = session.End(EndState.Drained);
        Assert.That(end.End, Is.EqualTo(FinishOutcome.Detached));
        Assert.That(Trace.Load(TracePath).Threads, Has.Count.GreaterThan(1));
        Assert.That(Talk(socket, "get k1999\r\n", 2), Does.EndWith(value));
        AssertRepeatsItself("next-n", end);
        File.Delete(socket);
    }

    private static string Talk(string path, string request, int lines)
    {
        using Socket socket = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified) { ReceiveTimeout = 10000 };
        socket.Connect(new UnixDomainSocketEndPoint(path));
        socket.Send(System.Text.Encoding.ASCII.GetBytes(request));
        using StreamReader reader = new(new NetworkStream(socket));
        return string.Join('\n', Enumerable.Range(0, lines).Select(_ => reader.ReadLine()));
    }

    [Test]
    public void AnEndOfTheTargetEndsTheSession([Values("q", "x", "kill")] string how)
    {
        using Subject subject = Subject.Start(1024, threads: true);
        using LiveSession session = Begin(subject.Pid);
        Stopwatch clock = Stopwatch.StartNew();
        if (how == "kill")
            subject.Program.Kill();
        else
            subject.Send(how);
        session.WaitWhile(() => true, null, new CancellationTokenSource(TimeSpan.FromSeconds(10)).Token);
        LiveEnd end = session.End(EndState.Drained);
        Assert.That(clock.Elapsed, Is.LessThan(TimeSpan.FromSeconds(5)));
        Assert.That(end.End, Is.EqualTo(how == "x" ? FinishOutcome.Executed : FinishOutcome.Exited));
        Assert.That(Trace.Load(TracePath).End!.State, Is.EqualTo(EndState.TargetExited));
        if (how == "x")
            Assert.That(subject.ReadLine(), Is.EqualTo("executed"));
        AssertRepeatsItself("demand", end);
    }

    [Test]
    public void AServerThatComesBackIsUsedAgain()
    {
        using Subject subject = Subject.Start(1024, threads: true), twin = Subject.Start(1024, threads: true);
        using LiveSession session = Begin(subject.Pid, "next-n", new LinkParameters(ByteRate.FromBitsPerSecond(1e8), Duration.FromSeconds(0.001)));
        for (int i = 0; i < 3; i++)
        {
            subject.Send("h");
            Thread.Sleep(50);
            PageServerOptions options = session.Server!.Options;
            session.Server.Dispose();
            Thread.Sleep(300);
            session.Server = PageServer.CreatePrivate(options);
            Assert.That(subject.ReadLine(), Is.EqualTo(twin.Ask("h")));
        }
        LiveEnd end = session.End(EndState.Drained);
        Assert.That(end.End, Is.EqualTo(FinishOutcome.Detached));
        Assert.That(Trace.Load(TracePath).Events.Any(e => e.Kind == ServiceEventKind.LaneDown));
        AssertRepeatsItself("next-n", end);
    }

    [Test]
    public void AServerThatStaysAwayIsDoneWithout()
    {
        using Subject subject = Subject.Start(1024, threads: true), twin = Subject.Start(1024, threads: true);
        using LiveSession session = Begin(subject.Pid, throughServer: true);
        foreach (string command in (string[])["d", "m", "g"])
            Assert.That(subject.Ask(command), Is.EqualTo(twin.Ask(command)));
        session.Server!.Dispose();
        subject.Send("h");
        session.WaitWhile(() => true, null, new CancellationTokenSource(TimeSpan.FromSeconds(20)).Token);
        Assert.That(() => session.End(EndState.Drained), Throws.InvalidOperationException.With.Message.Contains("page server was away"));
        string[] lines = [subject.ReadLine()!, subject.ReadLine()!], right = [twin.ReadLine()!, twin.Ask("h")!];
        Assert.That(lines, Is.EquivalentTo(right), "the child's answer and the parent's, in any order");
        Assert.That(subject.Traces(), Does.Not.Contain("userfaultfd"));
        Assert.That(Trace.Load(TracePath).End!.State, Is.EqualTo(EndState.Failed));
    }

    /// <summary>Not even where a link is emulated, for which there is a page server.</summary>
    [Test]
    public void Emulated_link_listens_on_no_address()
    {
        using Subject subject = Subject.Start(1024, threads: true), twin = Subject.Start(1024, threads: true);
        using LiveSession session = Begin(subject.Pid, "next-n", new LinkParameters(ByteRate.FromBitsPerSecond(1e9), Duration.FromSeconds(0.001)));
        List<string> before = GuardLossTests.Listeners(Environment.ProcessId);
        Assert.That(subject.Ask("h"), Is.EqualTo(twin.Ask("h")));
        Assert.That(session.Server!.Connections, Is.GreaterThan(0));
        Assert.That(GuardLossTests.Listeners(Environment.ProcessId), Is.EqualTo(before));
        Assert.That(before.Where(line => !line.StartsWith("tcp", StringComparison.Ordinal)), Is.Empty);
        session.End(EndState.Drained);
    }

    /// <summary>A page server that cannot read its images is done without, and what it cannot read is waited for.</summary>
    [Test]
    public void Emulated_link_gives_the_memory_back_when_its_images_are_cut()
    {
        string images = Directory.CreateTempSubdirectory("session-cut-").FullName;
        using Subject subject = Subject.Start(1024, threads: true), twin = Subject.Start(1024, threads: true);
        List<string> log = [];
        void Note(string line)
        {
            lock (log)
                log.Add(line);
        }
        using LiveSession session = LiveSession.Begin(subject.Pid, new LiveOptions
        {
            Workload = "test",
            Policy = PolicyCatalog.Parse("next-n"),
            Link = new LinkParameters(ByteRate.FromBitsPerSecond(1e8), Duration.FromSeconds(0.001)),
            ImagesPath = images,
            Log = Note,
        }, null, CancellationToken.None);
        string pages = Path.Combine(images, "pages-1.img");
        byte[] content = File.ReadAllBytes(pages);
        using (FileStream file = new(pages, FileMode.Open, FileAccess.Write, FileShare.ReadWrite))
            file.SetLength(content.Length / 2 + 99);
        subject.Send("h");
        session.WaitWhile(() => true, null, new CancellationTokenSource(TimeSpan.FromSeconds(20)).Token);
        Task end = Task.Run(() => Assert.That(() => session.End(EndState.Drained), Throws.InvalidOperationException.With.Message.Contains("page server failed")));
        bool WasTold()
        {
            lock (log)
                return log.Exists(line => line.Contains("was cut short", StringComparison.Ordinal));
        }
        Redis.WaitFor(WasTold);
        Assert.That(end.Wait(500), Is.False, "pages are missing");
        File.WriteAllBytes(pages, content);
        end.Wait(TimeSpan.FromSeconds(30));
        Assert.That(subject.ReadLine(), Is.EqualTo(twin.Ask("h")));
        Assert.That(subject.Traces(), Does.Not.Contain("userfaultfd"));
        Directory.Delete(images, recursive: true);
    }

    [Test]
    public void AnAbandonedSessionGivesTheMemoryBack()
    {
        using Subject subject = Subject.Start(1024, threads: true), twin = Subject.Start(1024, threads: true);
        Begin(subject.Pid).Dispose();
        Assert.That(subject.Ask("h"), Is.EqualTo(twin.Ask("h")));
        Assert.That(subject.Traces(), Does.Not.Contain("userfaultfd"));
    }
}
