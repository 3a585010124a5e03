using NUnit.Framework;
using Testbed.Uffd;

namespace Testbed.Live.Tests;

/// <summary>Programs that people run: their memory goes and comes, and they notice nothing.</summary>
[NonParallelizable]
public sealed class ProgramTests
{
    [OneTimeSetUp]
    public void Require() => Live.RequireRoot();

    [Test]
    public void RedisServesFromMemoryThatIsAwayAndForksItsSnapshot()
    {
        Live.RequireProgram("redis-server");
        using Subject redis = new("redis-server", "--port", "7391", "--save", "", "--enable-debug-command", "yes", "--dir", Path.GetTempPath(),
            "--dbfilename", $"live-{Environment.ProcessId}.rdb", "--daemonize", "no", "--loglevel", "warning");
        Redis.WaitFor(() => Cli("ping") == "PONG");
        Cli("debug", "populate", "100000", "key", "300");
        string digest = Cli("debug", "digest"), before = redis.Traces();
        using Capture capture = new(redis.Pid, RegionSelection.Anon);
        Assert.That(capture.Evicted.Image.PresentPages, Is.GreaterThan(8000));
        Assert.That(Cli("get", "key:77"), Does.StartWith("value:77"));
        Assert.That(Cli("bgsave"), Does.Contain("started"));
        Assert.That(Cli("debug", "digest"), Is.EqualTo(digest), "while pages are away");
        Redis.WaitFor(() => Cli("info", "persistence").Contains("rdb_bgsave_in_progress:0", StringComparison.Ordinal));
        Assert.That(Cli("info", "persistence"), Does.Contain("rdb_last_bgsave_status:ok"));
        Assert.That(capture.Service.Forks, Is.GreaterThan(0));
        Assert.That(capture.Finish(), Is.EqualTo(FinishOutcome.Detached));
        Assert.That(Cli("debug", "digest"), Is.EqualTo(digest), "at the end");
        // The child's snapshot is right memory only if it loads to the same content.
        Assert.That(Cli("debug", "reload", "nosave"), Is.EqualTo("OK"));
        Assert.That(Cli("debug", "digest"), Is.EqualTo(digest), "as the child saw it");
        Assert.That(redis.Traces(), Does.Not.Contain("userfaultfd"));
        Assert.That(before, Does.Not.Contain("userfaultfd"));
        File.Delete(Path.Combine(Path.GetTempPath(), $"live-{Environment.ProcessId}.rdb"));

        static string Cli(params string[] arguments) => Live.Run("redis-cli", ["-p", "7391", .. arguments]);
    }

    private const string Python = """
        import sys, hashlib
        blocks = [hashlib.sha256(str(i).encode()).digest() * 200 for i in range(4000)]
        print('ready', flush=True)
        for line in sys.stdin:
            h = hashlib.sha256()
            for b in blocks: h.update(b)
            print(h.hexdigest(), flush=True)
        """;

    private const string Node = """
        const crypto = require('crypto');
        const sha = x => crypto.createHash('sha256').update(x).digest();
        const blocks = []; for (let i = 0; i < 4000; i++) blocks.push(sha(String(i)).toString('hex').repeat(100));
        console.log('ready');
        require('readline').createInterface({input: process.stdin}).on('line', () => {
          const h = crypto.createHash('sha256'); for (const b of blocks) h.update(b); console.log(h.digest('hex')); });
        """;

    private const string Java = """
        import java.util.*; import java.security.*; import java.io.*;
        public class LiveSubject { public static void main(String[] a) throws Exception {
          List<byte[]> blocks = new ArrayList<>(); Random r = new Random(1);
          for (int i = 0; i < 4000; i++) { byte[] b = new byte[6000]; r.nextBytes(b); blocks.add(b); }
          for (int i = 0; i < 4; i++) { Thread t = new Thread(() -> { while (true) try { Thread.sleep(5); } catch (InterruptedException e) { System.exit(3); } }); t.setDaemon(true); t.start(); }
          System.out.println("ready"); BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
          while (in.readLine() != null) { MessageDigest d = MessageDigest.getInstance("SHA-256"); for (byte[] b : blocks) d.update(b);
            System.out.println(HexFormat.of().formatHex(d.digest())); System.gc(); } } }
        """;

    [Test]
    public void InterpretersAndJitRuntimesGoOn([Values("python3", "node", "java")] string runtime)
    {
        Live.RequireProgram(runtime);
        string file = Path.Combine(Path.GetTempPath(), $"LiveSubject-{Environment.ProcessId}.java");
        File.WriteAllText(file, Java);
        try
        {
            using Subject subject = runtime switch
            {
                "python3" => new Subject(Live.Find("python3")!, "-c", Python),
                "node" => new Subject("node", "-e", Node),
                _ => new Subject("java", "-Xmx256m", file),
            };
            string? ready = subject.ReadLine();
            if (ready is null && runtime == "java")
                Live.Missing("java has no compiler (a JDK is needed)");
            Assert.That(ready, Is.EqualTo("ready"));
            string hash = subject.Ask("h")!;
            for (int i = 0; i < 3; i++)
            {
                using Capture capture = new(subject.Pid, i == 2 ? RegionSelection.All : RegionSelection.Anon);
                Assert.That(subject.Ask("h"), Is.EqualTo(hash), "while pages are away");
                Assert.That(capture.Finish(), Is.EqualTo(FinishOutcome.Detached));
                Assert.That(subject.Ask("h"), Is.EqualTo(hash), "at the end");
            }
            Assert.That(subject.Traces(), Does.Not.Contain("userfaultfd"));
        }
        finally
        {
            File.Delete(file);
        }
    }

    [Test]
    public void MemcachedWithFourThreadsGoesOn()
    {
        Live.RequireProgram("memcached");
        using Subject memcached = new("memcached", "-t", "4", "-p", "7392", "-l", "127.0.0.1", "-m", "64", "-u", "root");
        string value = new('v', 1000);
        Redis.WaitFor(() => Talk("version\r\n", 1).StartsWith("VERSION", StringComparison.Ordinal));
        for (int i = 0; i < 2000; i++)
            Assert.That(Talk($"set k{i} 0 0 1000\r\n{value}\r\n", 1), Is.EqualTo("STORED"));
        using Capture capture = new(memcached.Pid, RegionSelection.Anon);
        Parallel.For(0, 400, i => Assert.That(Talk($"get k{i * 5}\r\n", 2), Does.EndWith(value)));
        Assert.That(capture.Service.FaultingThreads, Has.Count.GreaterThan(1));
        Assert.That(capture.Finish(), Is.EqualTo(FinishOutcome.Detached));
        Assert.That(Talk("get k1999\r\n", 2), Does.EndWith(value));

        static string Talk(string request, int lines)
        {
            try
            {
                using System.Net.Sockets.TcpClient client = new("127.0.0.1", 7392) { ReceiveTimeout = 10000 };
                using StreamReader reader = new(client.GetStream());
                client.GetStream().Write(System.Text.Encoding.ASCII.GetBytes(request));
                return string.Join('\n', Enumerable.Range(0, lines).Select(_ => reader.ReadLine()));
            }
            catch (System.Net.Sockets.SocketException)
            {
                return "";
            }
        }
    }
}
