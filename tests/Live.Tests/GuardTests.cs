using System.Diagnostics;
using NUnit.Framework;
using Testbed.Uffd;

namespace Testbed.Live.Tests;

/// <summary>A recorder that is killed, at any moment, leaves a process that runs on with all its memory.</summary>
[NonParallelizable]
public sealed class GuardTests
{
    private const int Keys = 100_000;

    [OneTimeSetUp]
    public void Require() => Live.RequireRoot();

    [Test]
    public void RedisOutlivesARecorderThatIsKilled([Values("at once", "dump", "journal", "evicted", "load", "end")] string moment)
    {
        using Redis redis = new Redis().Filled(Keys);
        string digest = redis.Digest;
        string trace = Path.Combine(Path.GetTempPath(), $"guard-{Environment.ProcessId}.trace");
        using Cli recorder = new("record", "--pid", $"{redis.Pid}", "--for", moment == "end" ? "500ms" : "60s", "-o", trace);
        using Process? load = moment is "load" ? redis.Load(200_000) : null;
        WaitUntil(moment, recorder, redis, trace);
        recorder.Kill();
        recorder.WaitForExit();
        Assert.That(redis.Ask("get", "key:77"), Does.StartWith("value:77"));
        Redis.WaitFor(() => recorder.Guard is null);
        TestContext.Out.WriteLine($"{moment}: {recorder.GuardLog.Trim()}");
        Assert.That(redis.Digest, Is.EqualTo(digest));
        load?.WaitForExit();
        Assert.That(redis.Traces(), Does.Not.Contain("userfaultfd"));
        Assert.That(File.ReadAllText($"/proc/{redis.Pid}/smaps"), Does.Not.Contain(" um "));
        Assert.That(recorder.ImagesDirectory, Is.Null);
        File.Delete(trace);
    }

    [Test]
    public void Recorder_serves_on_when_it_is_asked_to_stop_for_a_while([Values(20, 21, 22)] int signal)
    {
        using Subject subject = Subject.Start(1024, threads: false), twin = Subject.Start(1024, threads: false);
        using Cli recorder = Record(subject.Pid);
        // SIGTSTP (Ctrl-Z), SIGTTIN, SIGTTOU
        recorder.Signal(signal);
        Assert.That(subject.Ask("h"), Is.EqualTo(twin.Ask("h")));
        recorder.Signal(15);
        Assert.That(recorder.WaitForExit(), Is.EqualTo(130));
    }

    [Test]
    public void TheGuardKnowsWhatTheProgramChanged([Values("m", "u", "d", "p", "mud", "hdm")] string changes)
    {
        using Subject subject = Subject.Start(1024, threads: true), twin = Subject.Start(1024, threads: true);
        using Cli recorder = Record(subject.Pid);
        foreach (char change in changes)
            Assert.That(subject.Ask($"{change}"), Is.EqualTo(twin.Ask($"{change}")));
        recorder.Kill();
        Assert.That(subject.Ask("h"), Is.EqualTo(twin.Ask("h")), "while the guard takes over");
        Redis.WaitFor(() => recorder.Guard is null);
        Assert.That(recorder.GuardLog, Does.Contain("has all its memory back"));
        Assert.That(subject.Ask("h"), Is.EqualTo(twin.Ask("h")));
        Assert.That(subject.Ask("s"), Does.StartWith("spurious 0 wrong 0"));
        Assert.That(subject.Traces(), Does.Not.Contain("userfaultfd"));
    }

    [Test]
    public void AChildForkedBeforeTheKillHasRightMemoryToo([Values("", "d", "m")] string before)
    {
        using Subject subject = Subject.Start(1024, threads: false), twin = Subject.Start(1024, threads: false);
        using Cli recorder = Record(subject.Pid);
        foreach (string command in (string[])[.. before.Select(c => $"{c}"), "g"])
            Assert.That(subject.Ask(command), Is.EqualTo(twin.Ask(command)));
        recorder.Kill();
        Assert.That(subject.ReadLine(), Is.EqualTo(twin.ReadLine()), "child");
        Redis.WaitFor(() => recorder.Guard is null);
        Assert.That(subject.Ask("h"), Is.EqualTo(twin.Ask("h")), "parent");
    }

    [Test]
    public void WhenTheGuardIsKilledTooTheProcessWaitsForRescue()
    {
        using Subject subject = Subject.Start(1024, threads: true), twin = Subject.Start(1024, threads: true);
        using Cli recorder = Record(subject.Pid);
        Assert.That(subject.Ask("d"), Is.EqualTo(twin.Ask("d")));
        string images = recorder.ImagesDirectory!;
        Live.Run("kill", "-9", $"{recorder.Guard}", $"{recorder.Pid}");
        recorder.WaitForExit();
        subject.Send("h");
        Thread.Sleep(300);
        using Cli rescue = new("rescue", "--pid", $"{subject.Pid}", "--images", images);
        Assert.That(rescue.WaitForExit(), Is.Zero, rescue.Error);
        Assert.That(rescue.Output.Trim(), Is.EqualTo($"process {subject.Pid} runs on with all its memory"));
        Assert.That(subject.ReadLine(), Is.EqualTo(twin.Ask("h")));
        Assert.That(subject.Traces(), Does.Not.Contain("userfaultfd"));
        using Cli again = new("rescue", "--pid", $"{subject.Pid}", "--images", images);
        Assert.That(again.WaitForExit(), Is.EqualTo(2));
    }

    [Test]
    public void ATargetThatEndsWithTheRecorderLeavesNothing()
    {
        using Subject subject = Subject.Start(1024, threads: true);
        using Cli recorder = Record(subject.Pid);
        Live.Run("kill", "-9", $"{subject.Pid}", $"{recorder.Pid}");
        recorder.WaitForExit();
        Redis.WaitFor(() => recorder.Guard is null);
        Assert.That(recorder.ImagesDirectory, Is.Null, recorder.GuardLog);
    }

    [Test]
    public void TheGuardWaitsWithoutACpuAndGoesWithTheRecorder()
    {
        using Subject subject = Subject.Start(1024, threads: true);
        using Cli recorder = Record(subject.Pid);
        using Process guard = Process.GetProcessById(recorder.Guard!.Value);
        TimeSpan before = guard.TotalProcessorTime;
        foreach (int signal in (int[])[1, 2, 15])
            Live.Run("kill", $"-{signal}", $"{guard.Id}");
        Thread.Sleep(2000);
        guard.Refresh();
        Assert.That(guard.HasExited, Is.False, "it ignores signals");
        Assert.That(guard.TotalProcessorTime - before, Is.LessThan(TimeSpan.FromMilliseconds(100)));
        Assert.That(new FileInfo($"/proc/{guard.Id}/fd/1").LinkTarget, Is.EqualTo("/dev/null"));
        Assert.That(new FileInfo($"/proc/{guard.Id}/fd/2").LinkTarget, Is.EqualTo("/dev/null"));
        recorder.Signal(2);
        recorder.WaitForExit();
        Assert.That(guard.WaitForExit(0) || recorder.Guard is null, Is.True);
        Assert.That(recorder.ImagesDirectory, Is.Null);
    }

    private static Cli Record(int pid)
    {
        Cli recorder = new("record", "--pid", $"{pid}", "--for", "60s", "-o", "/dev/null");
        // Serving begins when the process is no longer stopped.
        Redis.WaitFor(() => recorder.ImagesDirectory is { } d && Live.Serves(d));
        return recorder;
    }

    private static void WaitUntil(string moment, Cli recorder, Redis redis, string trace)
    {
        switch (moment)
        {
            case "at once":
                Thread.Sleep(100);
                break;
            case "dump":
                Redis.WaitFor(() => recorder.ImagesDirectory is { } d && Directory.EnumerateFiles(d, "pages-*").Any());
                break;
            case "journal":
                Redis.WaitFor(() => recorder.ImagesDirectory is { } d && ChangeJournal.Exists(d));
                break;
            case "evicted":
                Redis.WaitFor(() => redis.Traces().Contains("userfaultfd", StringComparison.Ordinal));
                break;
            case "load":
                Redis.WaitFor(() => redis.Traces().Contains("userfaultfd", StringComparison.Ordinal));
                Thread.Sleep(300);
                break;
            case "end":
                Redis.WaitFor(() => redis.Traces().Contains("userfaultfd", StringComparison.Ordinal));
                Thread.Sleep(730);
                break;
        }
    }
}
