using System.Diagnostics;
using NUnit.Framework;
using Testbed.Core;
using Testbed.Policies;
using Testbed.Replay;
using Testbed.Traces;
using Testbed.Uffd;
using Trace = Testbed.Traces.Trace;

namespace Testbed.Live.Tests;

/// <summary>
/// Memory that fork treats specially, and guard pages: a captured process does what its twin does that nobody captured.
/// </summary>
[NonParallelizable]
public sealed class SpecialMemoryTests
{
    private const int Pages = 64;

    private static readonly string TracePath = Path.Combine(Path.GetTempPath(), $"special-{Environment.ProcessId}.trace");

    [OneTimeSetUp]
    public void Require() => Live.RequireRoot();

    [TearDown]
    public void Clean() => File.Delete(TracePath);

    // vfork comes last: its child has the parent's memory, and brings all of it in.
    [TestCase("fork two grandchild orphan sibling forget vfork")]
    [TestCase("flight fork")]
    [TestCase("after fork")]
    [TestCase("late fork keep fork hold grandchild orphan")]
    public void Fork_wipes_keeps_and_holds_back_what_it_should_while_pages_are_missing(string commands)
    {
        using Subject subject = Start(), twin = Start();
        using LiveSession session = Begin(subject.Pid, "demand", Link(bits: 1e9, delay: 0.01));
        foreach (string command in commands.Split(' '))
            AssertSame(command, subject, twin);
        Assert.That(session.IsComplete, Is.False, "most was missing until here");
        LiveEnd end = session.End(EndState.Drained);
        Assert.That(end.End, Is.EqualTo(FinishOutcome.Detached));
        AssertSame("sum", subject, twin);
        AssertRepeatsItself("demand", end);
    }

    [Test]
    public void Background_transfer_brings_nothing_into_what_fork_wiped()
    {
        using Subject subject = Start(), twin = Start();
        using LiveSession session = Begin(subject.Pid, "next-n + hot-first", Link(bits: 1e7, delay: 0.001));
        Assert.That(subject.Ask("slow"), Is.EqualTo("forked"));
        Assert.That(twin.Ask("slow"), Is.EqualTo("forked"));
        Redis.WaitFor(() => session.IsComplete);
        Assert.That(subject.ReadLine(), Is.EqualTo(twin.ReadLine()));
        session.End(EndState.Drained);
        AssertSame("sum", subject, twin);
    }

    [Test]
    public void A_child_of_a_killed_recorder_finds_wiped_what_fork_wiped([Values("late", "keep")] string before)
    {
        using Subject subject = Start(), twin = Start();
        using Cli recorder = new("record", "--pid", $"{subject.Pid}", "--for", "60s", "-o", "/dev/null");
        Redis.WaitFor(() => recorder.ImagesDirectory is { } d && Live.Serves(d));
        AssertSame(before, subject, twin);
        AssertSame("slow", subject, twin);
        recorder.Kill();
        Assert.That(subject.ReadLine(), Is.EqualTo(twin.ReadLine()));
        Redis.WaitFor(() => recorder.Guard is null);
        AssertSame("fork", subject, twin);
    }

    /// <summary>The recorder is killed at the moment of the fork: what was wiped may not have been written
    /// down.</summary>
    [Test]
    public void A_child_forked_as_the_recorder_is_killed_finds_wiped_what_fork_wiped()
    {
        using Subject subject = Start(), twin = Start();
        using Cli recorder = new("record", "--pid", $"{subject.Pid}", "--for", "60s", "-o", "/dev/null");
        Redis.WaitFor(() => recorder.ImagesDirectory is { } d && Live.Serves(d));
        AssertSame("late", subject, twin);
        subject.Send("slow");
        int moment = Random.Shared.Next(2000);
        for (long start = Stopwatch.GetTimestamp(); Stopwatch.GetElapsedTime(start).TotalMicroseconds < moment;)
            Thread.SpinWait(20);
        recorder.Kill();
        Assert.That(subject.ReadLine(), Is.EqualTo("forked"), $"killed after {moment} us");
        Assert.That(twin.Ask("slow"), Is.EqualTo("forked"));
        Assert.That(subject.ReadLine(), Is.EqualTo(twin.ReadLine()), $"killed after {moment} us");
        Redis.WaitFor(() => recorder.Guard is null);
    }

    [Test]
    public void Guard_pages_stay_guards_and_are_not_counted_when_captured()
    {
        using Subject subject = StartGuarded(), twin = StartGuarded();
        using LiveSession session = Begin(subject.Pid, "demand");
        AssertSame("loads", subject, twin);
        AssertSame("unguard", subject, twin);
        AssertSame("loads", subject, twin);
        session.End(EndState.Drained);
        AssertSame("loads", subject, twin);
        long resident = Trace.Load(TracePath).Header.ResidentAtStart.Sum(range => range.Count);
        Assert.That(resident, Is.LessThan(8), "eight guard pages are not resident");
    }

    [TestCase("demand")]
    [TestCase("hot-first")]
    public void A_guard_installed_where_its_page_is_missing_traps_on(string policy)
    {
        using Subject subject = StartGuarded(), twin = StartGuarded();
        // Background transfer comes to the area last, after most of a second.
        using LiveSession session = Begin(subject.Pid, policy, Link(bits: 1e7, delay: 0.05));
        AssertSame("guard", subject, twin);
        Assert.That(session.IsComplete, Is.False);
        LiveEnd end = session.End(EndState.Drained);
        AssertSame("loads", subject, twin);
        AssertSame("unguard", subject, twin);
        AssertSame("loads", subject, twin);
        AssertRepeatsItself(policy, end);
    }

    [Test]
    public void A_frozen_tree_serves_no_guard_pages()
    {
        using Subject subject = StartGuarded();
        DirectoryInfo images = Directory.CreateTempSubdirectory("special-images-");
        using (FrozenTree tree = FrozenTree.Freeze(subject.Pid))
        using (Pagemap scan = new(subject.Pid), read = new(subject.Pid, useScan: false))
        {
            tree.WriteImages(images.FullName);
            var guards = new PageRange[4];
            List<PageRange> found = [], scanned = [], all = [];
            foreach (Mapping mapping in ProcMaps.Select(ProcMaps.Read(subject.Pid), RegionSelection.All, []))
            {
                found.AddRange(guards[..scan.ScanGuards(mapping.Range, guards, out PageNumber end)]);
                Assert.That(end, Is.EqualTo(mapping.Range.End));
                scan.Scan(mapping.Range, scanned);
                read.Scan(mapping.Range, all);
            }
            Assert.That(found.Sum(range => range.Count), Is.EqualTo(8));
            Assert.That(PageRanges.Intersect(scanned, found), Is.Empty);
            Assert.That(PageRanges.Intersect(all, found), Is.Empty);
            Assert.That(tree.Available((uint)subject.Pid, found[0]), Is.Zero);
        }
        images.Delete(recursive: true);
    }

    private static void AssertSame(string command, Subject subject, Subject twin)
    {
        foreach (Subject asked in (Subject[])[subject, twin])
            asked.Send(command);
        for (int line = 0; line < (command == "two" ? 2 : 1); line++)
            Assert.That(subject.ReadLine(), Is.EqualTo(twin.ReadLine()), command);
    }

    private static Subject Start(params string[] more)
    {
        Subject subject = new(Live.Build("special"), [$"{Pages}", .. more]);
        string? line = subject.ReadLine();
        if (line != "ready")
            Live.Missing(line ?? "special.c does not start");
        return subject;
    }

    private static Subject StartGuarded() => Start("guarded");

    private static LiveSession Begin(int pid, string policy, LinkParameters link = default) => LiveSession.Begin(pid, new LiveOptions
    {
        Workload = "test",
        Policy = PolicyCatalog.Parse(policy),
        Link = link,
        Region = RegionSelection.Anon,
        TracePath = TracePath,
        TraceEvents = true,
    }, null, CancellationToken.None);

    private static LinkParameters Link(double bits, double delay) => new(ByteRate.FromBitsPerSecond(bits), Duration.FromSeconds(delay));

    private static void AssertRepeatsItself(string policy, LiveEnd end)
    {
        Trace trace = Trace.Load(TracePath);
        PolicySpec spec = PolicyCatalog.Parse(policy);
        Assert.That(TraceWorkload.ExactHash(trace, spec.DefaultTransfer, spec, []), Is.EqualTo(end.Result.CommandHash), "exact replay");
    }
}
