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
        using Redis redis = new Redis(7401).Filled(Keys);
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
