using NUnit.Framework;
using Testbed.Traces;
using Testbed.Uffd;

namespace Testbed.Live.Tests;

/// <summary>
/// What cannot be recorded is refused by the real program in one line, with exit code 2, and whatever process was meant runs
/// on as it was, with nothing left behind.
/// </summary>
[NonParallelizable]
public sealed class BadCaseTests
{
    private const int Sigint = 2, Sigterm = 15;

    private static string NewTrace() => Path.Combine(Path.GetTempPath(), $"bad-{Environment.ProcessId}.trace");

    [OneTimeSetUp]
    public void Require() => Live.RequireRoot();

    [TearDown]
    public void Clean() => File.Delete(NewTrace());

    private static void AssertRefused(string why, params string[] arguments) => AssertRefused(why, ["dotnet", Cli.Program], arguments);

    private static void AssertRefused(string why, string[] command, params string[] arguments)
    {
        using Cli cli = new(command, arguments);
        int exitCode = cli.WaitForExit();
        string[] lines = cli.Error.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        TestContext.Out.WriteLine(cli.Error.TrimEnd());
        Assert.Multiple(() =>
        {
            Assert.That(exitCode, Is.EqualTo(2));
            Assert.That(lines, Has.Length.EqualTo(1));
            Assert.That(cli.Error, Does.StartWith("testbed: ").And.Contain(why));
            Assert.That(cli.Output, Is.Empty);
            Assert.That(cli.ImagesDirectory, Is.Null);
            Assert.That(cli.Guard, Is.Null);
            Assert.That(File.Exists(NewTrace()), Is.False, "a trace of nothing");
        });
    }

    private static string[] Record(int pid, params string[] more) => ["record", "--pid", $"{pid}", "--for", "1s", "-o", NewTrace(), .. more];

    private static void AssertRunsOn(Subject subject, string traces)
    {
        Assert.That(subject.Ask("s"), Does.StartWith("spurious 0 wrong 0"));
        Assert.That(subject.Traces(), Is.EqualTo(traces));
    }

    [Test]
    public void NoSuchProcess() => AssertRefused("no such process", Record(4194303));

    [Test]
    public void Zombie()
    {
        using LaunchedProgram program = LaunchedProgram.Start("true", []);
        while (ProcessInfo.Read(program.Pid).State != 'Z')
            Thread.Sleep(1);
        AssertRefused("zombie", Record(program.Pid));
        Assert.That(program.WaitForExit(TimeSpan.FromSeconds(5)), Is.Zero);
    }

    [Test]
    public void AlreadyTraced()
    {
        using Subject subject = Subject.Start(256, threads: true);
        using Subject tracer = new(Live.Build("tracer"), $"{subject.Pid}");
        Assert.That(tracer.ReadLine(), Is.EqualTo("tracing"));
        string traces = subject.Traces();
        AssertRefused($"already traced by process {tracer.Pid} (tracer)", Record(subject.Pid));
        AssertRunsOn(subject, traces);
    }

    [Test]
    public void KernelThread()
    {
        if (!File.Exists("/proc/2/comm") || ProcessInfo.Read(2).HasMemory)
            Live.Missing("no kernel thread is visible here");
        AssertRefused("kernel thread", Record(2));
    }

    [Test]
    public void AnotherUsersProcess()
    {
        Live.RequireProgram("setpriv");
        string[] way = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"];
        if (Live.Run(way[0], [.. way[1..], "sh", "-c", $"test -r '{Cli.Program}' && echo yes"]) != "yes")
            Live.Missing("user nobody may not read the build");
        using Subject subject = Subject.Start(256, threads: true);
        string traces = subject.Traces();
        AssertRefused("user", [.. way, "dotnet", Cli.Program], "record", "--pid", $"{subject.Pid}", "--for", "1s", "-o", "/dev/null");
        AssertRunsOn(subject, traces);
    }

    [Test]
    public void NoRoomForTheImages()
    {
        string small = Directory.CreateTempSubdirectory("live-small-").FullName;
        Live.Run("mount", "-t", "tmpfs", "-o", "size=1m", "small", small);
        try
        {
            if (new DriveInfo(small).DriveFormat != "tmpfs")
                Live.Missing("a tmpfs cannot be mounted");
            using Subject subject = Subject.Start(1024, threads: true);
            string traces = subject.Traces();
            AssertRefused("MiB", Record(subject.Pid, "--images", small));
            AssertRunsOn(subject, traces);
            Assert.That(Directory.EnumerateFileSystemEntries(small), Is.Empty);
        }
        finally
        {
            Live.Run("umount", small);
            Directory.Delete(small);
        }
    }

    [Test]
    public void UnwritableTrace([Values("/proc/nothing.trace", "/no/such/directory/x.trace", "/tmp")] string path)
    {
        using Subject subject = Subject.Start(256, threads: true);
        string traces = subject.Traces();
        AssertRefused(path, "record", "--pid", $"{subject.Pid}", "--for", "1s", "-o", path);
        AssertRunsOn(subject, traces);
    }

    [Test]
    public void WordsThatMeanNothing()
    {
        using Subject subject = Subject.Start(256, threads: true);
        string traces = subject.Traces();
        AssertRefused("attic", Record(subject.Pid, "--region", "attic"));
        AssertRefused("forever", "record", "--pid", $"{subject.Pid}", "--for", "forever", "-o", NewTrace());
        AssertRefused("either --pid PID or -- COMMAND", Record(subject.Pid, "--", "sleep", "1"));
        AssertRefused("either --pid PID or -- COMMAND", "record", "-o", NewTrace());
        AssertRefused("no-such-command-anywhere", "record", "-o", NewTrace(), "--", "no-such-command-anywhere");
        AssertRefused("--pid", "record", "--pid", "redis", "-o", NewTrace());
        AssertRunsOn(subject, traces);
    }

    [Test]
    public void AnInterruptionDuringTheDumpLeavesEverythingAsItWas([Values(Sigint, Sigterm)] int signal)
    {
        using Redis redis = new Redis().Filled(400_000);
        string digest = redis.Digest;
        using Cli recorder = new(Record(redis.Pid));
        Redis.WaitFor(() => recorder.ImagesDirectory is { } d && Directory.EnumerateFiles(d, "pages-*").Any());
        recorder.Signal(signal);
        Assert.That(recorder.WaitForExit(), Is.EqualTo(130));
        Assert.That(recorder.Error.Trim(), Is.EqualTo("testbed: interrupted"));
        Assert.That(redis.Digest, Is.EqualTo(digest));
        Assert.That(redis.Traces(), Does.Not.Contain("userfaultfd"));
        Assert.That(recorder.ImagesDirectory, Is.Null);
        Assert.That(recorder.Guard, Is.Null);
        Assert.That(File.Exists(NewTrace()), Is.False);
    }

    [Test]
    public void AnInterruptionDuringServiceRestoresFirst([Values(Sigint, Sigterm)] int signal, [Values] bool unlimited)
    {
        using Redis redis = new Redis().Filled(100_000);
        string digest = redis.Digest;
        using Cli recorder = new(["record", "--pid", $"{redis.Pid}", "-o", NewTrace(), .. unlimited ? (string[])[] : ["--for", "60s"]]);
        Redis.WaitFor(() => recorder.ImagesDirectory is { } d && Live.Serves(d));
        Assert.That(redis.Ask("get", "key:77"), Does.StartWith("value:77"));
        for (int i = 0; i < 3; i++)
            recorder.Signal(signal);
        // Without an end that was asked for, an interruption is the end.
        Assert.That(recorder.WaitForExit(), Is.EqualTo(unlimited ? 0 : 130), recorder.Error);
        Trace trace = Trace.Load(NewTrace());
        Assert.That(trace.End!.State, Is.EqualTo(EndState.Interrupted));
        Assert.That(trace.Faults, Is.Not.Empty);
        Assert.That(redis.Digest, Is.EqualTo(digest));
        Assert.That(redis.Traces(), Does.Not.Contain("userfaultfd"));
        Assert.That(recorder.ImagesDirectory, Is.Null);
        Assert.That(recorder.Guard, Is.Null);
    }

    [Test]
    public void AGuardThatCannotStartIsARefusal()
    {
        using Subject subject = Subject.Start(256, threads: true);
        string traces = subject.Traces(), copy = Directory.CreateTempSubdirectory("live-noguard-").FullName;
        try
        {
            // The guard is started as programs usually are, and here that does not work.
            Live.Run("cp", "-r", Path.Combine(AppContext.BaseDirectory, "."), copy);
            string settings = Path.Combine(copy, "moved.json");
            File.Move(Path.Combine(copy, "testbed.runtimeconfig.json"), settings);
            AssertRefused("the guard", ["dotnet", "exec", "--runtimeconfig", settings, Path.Combine(copy, "testbed.dll")], Record(subject.Pid));
            AssertRunsOn(subject, traces);
        }
        finally
        {
            Directory.Delete(copy, recursive: true);
        }
    }
}
