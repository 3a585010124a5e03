using System.Diagnostics;
using System.Globalization;
using NUnit.Framework;
using Testbed.Core;
using Testbed.Uffd;

namespace Testbed.Live.Tests;

/// <summary>Memory that the kernel, a device or another process writes to while it is captured.</summary>
[NonParallelizable]
public sealed class PinTests
{
    private const int Pages = 1024, BufferPage = 100, BufferPages = 32;

    /// <summary>When a slow disk answers.</summary>
    public enum Moment
    {
        /// <summary>After the memory was read and before it is taken away.</summary>
        Dumped,

        /// <summary>While it is away and the process still stands.</summary>
        Evicted,

        /// <summary>While the process runs.</summary>
        Serving,

        /// <summary>When all is over.</summary>
        Finished,
    }

    [OneTimeSetUp]
    public void Require() => Live.RequireRoot();

    [Test]
    public void Direct_read_in_flight_arrives_whole_when_it_ends_during_a_capture([Values] Moment end)
    {
        using Subject subject = Start("aio", out ulong area, out int disk);
        using InPlaceTarget target = InPlaceTarget.Attach(subject.Pid, RegionSelection.Anon);
        using MemoryStore store = new(target.EstimatedDumpBytes);
        target.Dump(store);
        AnswerIf(end == Moment.Dumped, disk, subject.Pid, area);
        EvictedMemory evicted = target.Evict();
        PageRange buffer = new(PageNumber.Of(area) + BufferPage, BufferPages);
        Assert.That(PageRanges.Intersect(evicted.Resident, [buffer]).Sum(r => r.Count), Is.EqualTo(BufferPages), "the buffer stays");
        Assert.That(evicted.Image.PresentPages, Is.GreaterThan(Pages - BufferPages - 20), "nothing else does");
        AnswerIf(end == Moment.Evicted, disk, subject.Pid, area);
        using MiniService service = new(target.Fd, evicted.Image, store);
        target.Resume();
        AnswerIf(end == Moment.Serving, disk, subject.Pid, area);
        service.Drain();
        Assert.That(target.Finish(), Is.EqualTo(FinishOutcome.Detached));
        AnswerIf(end == Moment.Finished, disk, subject.Pid, area);
        Assert.That(subject.Ask("c"), Is.EqualTo("right"));
        Assert.That(subject.Ask("m"), Is.EqualTo("right"));
    }

    [Test]
    public void Read_only_memory_stays_when_the_kernel_may_write_to_it()
    {
        using Subject subject = Start("read-only", out ulong area, out int disk);
        using Capture capture = new(subject.Pid, RegionSelection.Anon);
        Assert.That(capture.Target.Skipped.Single(s => s.Mapping.Range.Contains(PageNumber.Of(area) + BufferPage)).Reason,
            Does.Contain("io_setup"));
        Assert.That(capture.Finish(), Is.EqualTo(FinishOutcome.Detached));
        AnswerIf(true, disk, subject.Pid, area);
        Assert.That(subject.Ask("c"), Is.EqualTo("right"));
        Assert.That(subject.Ask("m"), Is.EqualTo("right"));
    }

    [Test]
    public void Requests_of_the_kernel_go_on_when_their_memory_was_captured(
        [Values("no-mmap", "sqpoll", "buffers", "receive", "vmsplice", "gift")] string kind, [Values] bool whileMissing)
    {
        using Subject subject = Start(kind, out _, out _);
        using Capture capture = new(subject.Pid, RegionSelection.Anon);
        Assert.That(capture.Evicted.Image.PresentPages, Is.GreaterThan(Pages - 20));
        if (!whileMissing)
            Assert.That(capture.Finish(), Is.EqualTo(FinishOutcome.Detached));
        Assert.That(subject.Ask("c"), Is.EqualTo("right"));
        Assert.That(subject.Ask("m"), Is.EqualTo("right"));
        if (whileMissing)
            Assert.That(capture.Finish(), Is.EqualTo(FinishOutcome.Detached));
        Assert.That(subject.Traces(), Does.Not.Contain("userfaultfd"));
    }

    [Test]
    public void Writes_from_outside_are_kept_when_they_come_at_any_moment_of_a_capture()
    {
        using Subject subject = Start("", out ulong area, out _);
        using Subject writer = new(Live.Build("pins"), "write", $"{Pages}", $"{subject.Pid}", $"0x{area:x}");
        Assert.That(writer.ReadLine(), Is.EqualTo("ready"));
        for (int i = 0; i < 10; i++)
        {
            using Capture capture = new(subject.Pid, RegionSelection.Anon);
            Assert.That(capture.Finish(), Is.EqualTo(FinishOutcome.Detached));
        }
        Assert.That(writer.Ask(""), Is.EqualTo("lost 0"));
        Assert.That(subject.Ask("m"), Is.EqualTo("right"));
    }

    [Test]
    public void Write_from_outside_is_kept_when_it_comes_between_dump_and_eviction()
    {
        using Subject subject = Start("", out ulong area, out _);
        using InPlaceTarget target = InPlaceTarget.Attach(subject.Pid, RegionSelection.Anon);
        using MemoryStore store = new(target.EstimatedDumpBytes);
        target.Dump(store);
        using TargetMemory memory = new(subject.Pid);
        // At the place in a page that the program does not check.
        ulong at = area + 17 * PageNumber.Size + 64;
        memory.Write(at, [1, 2, 3, 4, 5, 6, 7, 8]);
        EvictedMemory evicted = target.Evict();
        Assert.That(PageRanges.Intersect(evicted.Resident, [PageRange.Single(PageNumber.Of(at))]), Has.Count.EqualTo(1), "it stays");
        using MiniService service = new(target.Fd, evicted.Image, store);
        target.Resume();
        service.Drain();
        Assert.That(target.Finish(), Is.EqualTo(FinishOutcome.Detached));
        Assert.That(memory.Read<ulong>(at), Is.EqualTo(0x0807060504030201));
        Assert.That(subject.Ask("m"), Is.EqualTo("right"));
    }

    [Test]
    public void Memory_shared_with_a_forked_child_is_evicted_and_both_keep_theirs()
    {
        using Subject subject = Start("fork", out ulong area, out _);
        using Capture capture = new(subject.Pid, RegionSelection.Anon);
        Assert.That(PageRanges.Intersect(capture.Evicted.Image.Present, [new PageRange(PageNumber.Of(area), Pages)]).Sum(r => r.Count), Is.EqualTo(Pages));
        Assert.That(subject.Ask("k"), Is.EqualTo("right"), "child");
        Assert.That(subject.Ask("w"), Is.EqualTo("written"));
        Assert.That(subject.Ask("k"), Is.EqualTo("right"), "child after a write of the parent's");
        Assert.That(capture.Finish(), Is.EqualTo(FinishOutcome.Detached));
        Assert.That(subject.Ask("k"), Is.EqualTo("right"), "child at the end");
    }

    [Test]
    public void Writes_from_outside_are_kept_when_the_recorder_is_killed_during_eviction()
    {
        const int Many = 32768, Kills = 6;
        int seed = Environment.TickCount;
        TestContext.Out.WriteLine($"seed {seed}");
        Random random = new(seed);
        for (int i = 0; i < Kills; i++)
        {
            using Subject subject = Start("", out ulong area, out _, Many);
            using Subject writer = new(Live.Build("pins"), "write", $"{Many}", $"{subject.Pid}", $"0x{area:x}");
            Assert.That(writer.ReadLine(), Is.EqualTo("ready"));
            using Cli recorder = new("record", "--pid", $"{subject.Pid}", "--for", "60s", "-o", "/dev/null");
            Redis.WaitFor(() => recorder.ImagesDirectory is { } d && IsEvicting(d));
            long until = Stopwatch.GetTimestamp() + random.NextInt64(Stopwatch.Frequency / 20);
            while (Stopwatch.GetTimestamp() < until)
                Thread.SpinWait(10);
            recorder.Kill();
            recorder.WaitForExit();
            Redis.WaitFor(() => recorder.Guard is null);
            Assert.That(writer.Ask(""), Is.EqualTo("lost 0"), recorder.GuardLog);
            Assert.That(subject.Ask("m"), Is.EqualTo("right"));
            Assert.That(subject.Traces(), Does.Not.Contain("userfaultfd"));
            Assert.That(recorder.ImagesDirectory, Is.Null);
        }
    }

    private static bool IsEvicting(string images)
    {
        if (!ChangeJournal.Exists(images))
            return false;
        using ChangeJournal journal = ChangeJournal.Open(images);
        return journal.Phase >= CapturePhase.Evicting;
    }

    private static Subject Start(string kind, out ulong area, out int disk, int pages = Pages)
    {
        Subject subject = new(Live.Build("pins"), kind, $"{pages}");
        string[] ready = subject.ReadLine()!.Split(' ');
        if (ready[0] != "ready")
        {
            subject.Dispose();
            Live.Missing($"{kind}: {string.Join(' ', ready)}");
        }
        (area, disk) = (ulong.Parse(ready[1].AsSpan(2), NumberStyles.HexNumber), int.Parse(ready[2]));
        return subject;
    }

    /// <summary>Lets the disk answer, and waits until the answer is in the process's memory.</summary>
    private static void AnswerIf(bool now, int disk, int pid, ulong area)
    {
        if (!now)
            return;
        Live.Run("kill", "-USR1", $"{disk}");
        using TargetMemory memory = new(pid);
        const ulong Last = (BufferPages - 1) * PageNumber.Size;
        Redis.WaitFor(() => memory.Read<byte>(area + BufferPage * PageNumber.Size + Last) == unchecked((byte)(Last * 167 + (Last >> 12) * 31 + 1)));
    }
}
