using System.Diagnostics;
using NUnit.Framework;
using Testbed.Core;
using Testbed.Policies;
using Testbed.Traces;
using Testbed.Uffd;
using Trace = Testbed.Traces.Trace;

namespace Testbed.Live.Tests;

/// <summary>A recording ends when it is asked to, whatever the process does meanwhile, and says what it did not see.</summary>
[NonParallelizable]
public sealed class RecordEndTests
{
    private const int Interrupt = 2, Terminate = 15;

    private string _folder = "";

    [SetUp]
    public void Prepare()
    {
        Live.RequireRoot();
        _folder = Directory.CreateTempSubdirectory("record-end-").FullName;
    }

    [TearDown]
    public void Clean() => Directory.Delete(_folder, recursive: true);

    private string TraceFile => Path.Combine(_folder, "recorded.trace");

    /// <summary>A process with private pages, of which it touches one each so often, and with shared ones.</summary>
    private static Subject Toucher(int pages, int microseconds, int shared = 0)
    {
        var subject = new Subject(Live.Build("toucher"), $"{pages}", $"{microseconds}", $"{shared}");
        Assert.That(subject.ReadLine(), Is.EqualTo("ready"));
        return subject;
    }

    private static bool HasMissingMemory(int pid) => File.ReadAllText($"/proc/{pid}/smaps").Contains(" um ", StringComparison.Ordinal);

    [Test]
    public void Record_ends_in_time_when_the_process_goes_on_touching()
    {
        using Subject subject = Toucher(pages: 4000, microseconds: 50_000);
        using var record = new Cli("record", "--pid", $"{subject.Pid}", "--for", "1s", "-o", TraceFile);
        // Waiting for the touches to end would take 200 s.
        Assert.That(record.WaitForExit(60), Is.Zero, record.Error);
        Trace trace = Trace.Load(TraceFile);
        Assert.That(trace.Duration.Seconds, Is.InRange(1, 10), "the recorded time, without what giving back took");
        Assert.That(trace.Faults.Max(f => f.Woken), Is.LessThanOrEqualTo(Instant.Zero + trace.Duration), "late touches are not in the trace");
        Assert.That(trace.Faults, Has.Length.InRange(3, (trace.Duration.Seconds / 0.05) + 60));
        Assert.That(record.Output, Does.Match(@"zero faults in [\d.]+ m?s; \d{3,} pages given back in [\d.]+ m?s"));
        Assert.That(HasMissingMemory(subject.Pid), Is.False);
    }

    [Test]
    public void Record_gives_back_and_ends_at_a_signal([Values(Interrupt, Terminate)] int signal)
    {
        using Subject subject = Toucher(pages: 4000, microseconds: 20_000);
        using var record = new Cli("record", "--pid", $"{subject.Pid}", "--for", "1h", "-o", TraceFile);
        Redis.WaitFor(() => HasMissingMemory(subject.Pid) && record.ImagesDirectory is { } images && Live.Serves(images));
        long asked = Stopwatch.GetTimestamp();
        // Whoever presses twice gets no less.
        record.Signal(signal);
        record.Signal(signal);
        Assert.That(record.WaitForExit(30), Is.EqualTo(130), record.Error);
        Assert.That(Stopwatch.GetElapsedTime(asked).TotalSeconds, Is.LessThan(20));
        Assert.That(record.Error, Does.Match(@"testbed: interrupted; giving the process its memory back: \d+ pages"));
        Assert.That(Trace.Load(TraceFile).End!.State, Is.EqualTo(EndState.Interrupted));
        Assert.That(HasMissingMemory(subject.Pid), Is.False);
        Assert.That(Directory.EnumerateFileSystemEntries(record.Temporary, "testbed-*"), Is.Empty);
    }

    [Test]
    public void Record_gives_back_when_nobody_reads_what_it_says()
    {
        using Subject subject = Toucher(pages: 1000, microseconds: 20_000);
        using var record = new Cli(["sh", "-c", "exec \"$@\" 2>&1 | true", "sh", "dotnet", Cli.Program], ["record", "--pid", $"{subject.Pid}", "--for", "1s", "-o", TraceFile]);
        record.WaitForExit(60);
        Assert.That(Trace.Load(TraceFile).IsComplete);
        Assert.That(HasMissingMemory(subject.Pid), Is.False);
    }

    [Test]
    public void A_session_over_a_slow_link_gives_back_at_the_speed_of_the_host()
    {
        using Subject subject = Toucher(pages: 8000, microseconds: 50_000);
        var options = new LiveOptions
        {
            Workload = "toucher",
            Policy = PolicyCatalog.Parse("next-n"),
            Link = new LinkParameters(ByteRate.FromBitsPerSecond(2e6), Duration.FromMilliseconds(20)),
            TracePath = TraceFile,
            TraceEvents = true,
        };
        using LiveSession session = LiveSession.Begin(subject.Pid, options, null, CancellationToken.None);
        session.WaitWhile(() => session.Elapsed.Seconds < 1, null, CancellationToken.None);
        LiveEnd end = session.End(EndState.Drained);
        // 32 MB over 2 Mbit/s would take 2 minutes.
        Assert.That(end.Restoring.Seconds, Is.LessThan(20));
        Assert.That(end.RestoredPages, Is.GreaterThan(6000));
        Assert.That(end.Result.Residency[^1].Item2, Is.LessThan(2000), "what the drain moves is not in the numbers");
        Assert.That(TraceOf(end), Is.EqualTo(end.Result.CommandHash), "the exact replay still is one");
        Assert.That(HasMissingMemory(subject.Pid), Is.False);

        ulong TraceOf(LiveEnd _) => Replay.TraceWorkload.ExactHash(Trace.Load(TraceFile), options.EffectiveTransfer, options.Policy, []);
    }

    [Test]
    public void AwaitBackground_ends_by_its_limit_and_by_a_signal()
    {
        using Subject subject = Toucher(pages: 8000, microseconds: 50_000);
        var options = new LiveOptions
        {
            Workload = "toucher",
            Policy = PolicyCatalog.Parse("next-n"),
            Link = new LinkParameters(ByteRate.FromBitsPerSecond(4e6), Duration.FromMilliseconds(5)),
        };
        using LiveSession session = LiveSession.Begin(subject.Pid, options, null, CancellationToken.None);
        long began = Stopwatch.GetTimestamp();
        session.AwaitBackground(TimeSpan.FromSeconds(1), null, CancellationToken.None);
        using var signal = new CancellationTokenSource(TimeSpan.FromSeconds(1));
        session.AwaitBackground(TimeSpan.FromHours(1), null, signal.Token);
        Assert.That(Stopwatch.GetElapsedTime(began).TotalSeconds, Is.LessThan(20), "all of it over this link takes a minute");
        Assert.That(session.End(EndState.Drained).End, Is.EqualTo(FinishOutcome.Detached));
    }

    [Test]
    public void Record_says_what_stayed_in_place_and_warns_when_it_is_most()
    {
        using Subject subject = Toucher(pages: 500, microseconds: 1000, shared: 4000);
        using var record = new Cli("record", "--pid", $"{subject.Pid}", "--for", "1s", "-o", TraceFile);
        Assert.That(record.WaitForExit(60), Is.Zero, record.Error);
        Assert.That(record.Error, Does.Contain("testbed: warning: most of the process stays in place").And.Contain("shared memory"));
        Assert.That(record.Output, Does.Match(@"\d+ MiB left in place \(31 MiB shared memory, "));
        Trace trace = Trace.Load(TraceFile);
        IReadOnlyList<LeftReason> left = LeftReason.Parse(trace.Header.Properties);
        Assert.That(left[0], Is.EqualTo(new LeftReason("shared memory", 2 * 4000 * 4096)));
        Assert.That(left.Select(r => r.Reason), Does.Contain(LeftReason.Programs));
        Assert.That(new TraceSummary(trace).Render(), Does.Match(@"left in place +3\d MiB: 31 MiB shared memory"));
    }

    [Test]
    public void Record_does_not_warn_about_a_process_that_is_taken()
    {
        using Subject subject = Toucher(pages: 4000, microseconds: 1000);
        using var record = new Cli("record", "--pid", $"{subject.Pid}", "--for", "1s", "-o", TraceFile);
        Assert.That(record.WaitForExit(60), Is.Zero, record.Error);
        Assert.That(record.Error, Does.Not.Contain("warning"));
        Assert.That(record.Output, Does.Contain("left in place ("));
    }

    [Test]
    public void Record_finds_that_nothing_was_touched()
    {
        using Subject subject = Toucher(pages: 500, microseconds: 0);
        using var record = new Cli("record", "--pid", $"{subject.Pid}", "--for", "1s", "-o", TraceFile);
        Assert.That(record.WaitForExit(60), Is.EqualTo(1), record.Error);
        Assert.That(record.Error, Does.Contain("nothing was touched"));
        Assert.That(() => Replay.TraceWorkload.From(Trace.Load(TraceFile)), Throws.TypeOf<BadInputException>(), "which is why");
    }

    [Test]
    public void Threads_keep_their_names_in_a_pid_namespace()
    {
        Live.RequireProgram("unshare");
        using var subject = new Subject("unshare", "-pf", "--kill-child", "--mount-proc", Live.Build("toucher"), "400", "0", "0", "20");
        Assert.That(subject.ReadLine(), Is.EqualTo("ready"));
        int pid = int.Parse(File.ReadAllText($"/proc/{subject.Pid}/task/{subject.Pid}/children").Trim());
        using var record = new Cli("record", "--pid", $"{pid}", "--for", "1h", "-o", TraceFile);
        Redis.WaitFor(() => HasMissingMemory(pid) && record.ImagesDirectory is { } images && Live.Serves(images));
        Live.Run("kill", "-USR1", $"{pid}");
        Assert.That(subject.ReadLine(), Does.Match(@"^[\d.]+$"));
        record.Signal(Terminate);
        Assert.That(record.WaitForExit(60), Is.EqualTo(130), record.Error);
        Trace trace = Trace.Load(TraceFile);
        Assert.That(trace.Threads.Count(t => t.Name == "toucher-thread"), Is.EqualTo(20));
    }
}
