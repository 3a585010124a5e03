using NUnit.Framework;
using Testbed.Uffd;

namespace Testbed.Live.Tests;

/// <summary>A thread that ends while its memory is missing. Nobody can serve the kernel then, so what it needs must be
/// there.</summary>
[NonParallelizable]
public sealed class ExitTests
{
    [OneTimeSetUp]
    public void Require() => Live.RequireRoot();

    [Test]
    public void Whoever_waits_for_a_thread_learns_of_its_end_when_memory_is_missing(
        [Values("join", "mutexes", "lists", "cycle", "tid")] string kind, [Values] bool rseq)
    {
        // Without this area, for which the thread's control block has always stayed, the block is like any other
        // memory.
        using Subject subject = new("env", $"GLIBC_TUNABLES=glibc.pthread.rseq={(rseq ? 1 : 0)}", Live.Build("exits"), kind);
        Assert.That(subject.ReadLine(), Is.EqualTo("ready"));
        using Capture capture = new(subject.Pid, RegionSelection.Anon);
        Assert.That(subject.Ask(""), Is.EqualTo("right"));
        Assert.That(capture.Finish(), Is.EqualTo(FinishOutcome.Detached));
        Assert.That(subject.Traces(), Does.Not.Contain("userfaultfd"));
    }

    [Test]
    public void Every_thread_finds_its_way_back_when_the_recorder_dies_in_the_middle_of_its_call()
    {
        using Subject subject = Subject.Start(64, threads: true);
        string hash = subject.Ask("h")!;
        using (TracedProcess stopped = TracedProcess.Seize(subject.Pid))
        {
            stopped.Inject(ProcMaps.Read(subject.Pid), host =>
            {
                // A frame for each, because here all of them are left at once.
                foreach (StoppedThread thread in stopped.StoppedThreads.Where(t => t.Tid != host.Tid))
                {
                    ulong frame = (ulong)host.Call(9, 0, RemoteCalls.FrameBytes, 3, 0x21, ulong.MaxValue); // mmap
                    using RemoteCalls calls = new(host, thread, frame);
                    Assert.That(calls.Call(39), Is.EqualTo(subject.Pid), "getpid");
                    calls.Abandon();
                }
                host.Abandon();
                return 0;
            });
        }
        subject.Ask("s");
        Thread.Sleep(50);
        // Waits with a time limit end early: a signal return forgets what was left of the time.
        Assert.That(subject.Ask("s"), Does.EndWith("wrong 0 rounds 1 alarms 0"));
        Assert.That(subject.Ask("h"), Is.EqualTo(hash));
    }

    [Test]
    public void Locked_memory_is_locked_and_resident_again_when_a_capture_ends()
    {
        using Subject subject = Subject.Start(1024, threads: true);
        string before = Locked(subject.Pid);
        using Capture capture = new(subject.Pid, RegionSelection.Anon);
        Assert.That(capture.Finish(), Is.EqualTo(FinishOutcome.Detached));
        Assert.That(Locked(subject.Pid), Is.EqualTo(before).And.Contains("Locked:             2048 kB"));
    }

    private static string Locked(int pid) => string.Join('\n',
        File.ReadLines($"/proc/{pid}/smaps").Where(l => l.StartsWith("Locked:", StringComparison.Ordinal))
            .Concat(File.ReadLines($"/proc/{pid}/status").Where(l => l.StartsWith("VmLck", StringComparison.Ordinal))));
}
