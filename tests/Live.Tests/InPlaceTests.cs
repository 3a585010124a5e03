using NUnit.Framework;
using Testbed.Core;
using Testbed.Uffd;
using Testbed.Uffd.Interop;

namespace Testbed.Live.Tests;

/// <summary>The whole way, on a real process: stop, dump, evict, run, serve, finish.</summary>
[NonParallelizable]
public sealed class InPlaceTests
{
    private const int Pages = 1024;

    [OneTimeSetUp]
    public void Require() => Live.RequireRoot();

    [Test]
    public void AttachAndResumeLeavesNoTraceAndDisturbsNobody()
    {
        using Subject subject = Subject.Start(Pages, threads: true);
        string hash = subject.Ask("h")!, before = subject.Traces();
        for (int i = 0; i < 20; i++)
        {
            using InPlaceTarget target = InPlaceTarget.Attach(subject.Pid, RegionSelection.Anon);
            Assert.That(target.Threads, Has.Count.EqualTo(17));
            target.Resume();
        }
        AssertUndisturbed(subject);
        Assert.That(subject.Ask("h"), Is.EqualTo(hash));
        Assert.That(subject.Traces(), Is.EqualTo(before));
    }

    [Test]
    public void MemoryIsBitIdenticalAndNoTraceIsLeft([Values] RegionSelection selection, [Values] bool touched)
    {
        using Subject subject = Subject.Start(Pages, threads: true);
        string hash = subject.Ask("h")!, before = subject.Traces();
        using Capture capture = new(subject.Pid, selection);
        long content = capture.Evicted.Image.PresentPages;
        // Of seven pages of each area one was never touched and one is all zero.
        if (selection == RegionSelection.Heap)
            Assert.That(content, Is.InRange(200, 400));
        else
            Assert.That(content, Is.InRange(4 * Pages * 5 / 7, 4 * Pages * 5 / 7 + 600));
        if (touched)
        {
            Assert.That(subject.Ask("h"), Is.EqualTo(hash));
            Assert.That(capture.Service.Faults, Is.GreaterThan(content / 2));
            Assert.That(capture.Service.FaultingThreads, Does.Contain(subject.Pid));
        }
        AssertUndisturbed(subject);
        Assert.That(capture.Finish(), Is.EqualTo(FinishOutcome.Detached));
        AssertUndisturbed(subject);
        Assert.That(subject.Ask("h"), Is.EqualTo(hash));
        Assert.That(subject.Traces(), Is.EqualTo(before));
    }

    [Test]
    public void AForkedChildSeesTheRightMemory()
    {
        using Subject subject = Subject.Start(Pages, threads: true);
        string hash = subject.Ask("h")!;
        using Capture capture = new(subject.Pid, RegionSelection.Anon);
        Assert.That(subject.Ask("f"), Is.EqualTo(hash), "child");
        Assert.That(capture.Service.Forks, Is.EqualTo(1));
        Assert.That(subject.Ask("h"), Is.EqualTo(hash), "parent");
        Assert.That(capture.Finish(), Is.EqualTo(FinishOutcome.Detached));
        Assert.That(subject.Ask("f"), Is.EqualTo(hash), "child after the end");
    }

    [Test]
    public void MovedSplitUnmappedAndDroppedAreasAreFollowed()
    {
        using Subject subject = Subject.Start(Pages, threads: false);
        using Subject twin = Subject.Start(Pages, threads: false);
        using Capture capture = new(subject.Pid, RegionSelection.Anon);
        foreach (string command in (string[])["m", "h", "u", "h", "d", "h", "p", "h"])
            Assert.That(subject.Ask(command), Is.EqualTo(twin.Ask(command)), command);
        Assert.That(capture.Finish(), Is.EqualTo(FinishOutcome.Detached));
        Assert.That(subject.Ask("h"), Is.EqualTo(twin.Ask("h")));
        Assert.That(File.ReadAllText($"/proc/{subject.Pid}/smaps"), Does.Not.Contain(" um "));
        Assert.That(subject.Traces(), Does.Not.Contain("userfaultfd"));
    }

    [Test]
    public void ChangesThatComeBeforeAnyTouchAreFollowed([Values("m", "u", "d", "p")] string change)
    {
        using Subject subject = Subject.Start(Pages, threads: false);
        using Subject twin = Subject.Start(Pages, threads: false);
        using Capture capture = new(subject.Pid, RegionSelection.Anon);
        Assert.That(subject.Ask(change), Is.EqualTo(twin.Ask(change)));
        Assert.That(capture.Finish(), Is.EqualTo(FinishOutcome.Detached));
        Assert.That(subject.Ask("h"), Is.EqualTo(twin.Ask("h")));
    }

    [Test]
    public void ExitWhilePagesAreAwayIsNoError()
    {
        using Subject subject = Subject.Start(Pages, threads: true);
        using Capture capture = new(subject.Pid, RegionSelection.Anon);
        subject.Send("q");
        Assert.That(subject.Program.WaitForExit(TimeSpan.FromSeconds(20)), Is.Zero);
        Assert.That(capture.Target.HasExited);
        Assert.That(capture.Finish(), Is.EqualTo(FinishOutcome.Exited));
    }

    [Test]
    public void AKillWhilePagesAreAwayIsNoError()
    {
        using Subject subject = Subject.Start(Pages, threads: true);
        using Capture capture = new(subject.Pid, RegionSelection.All);
        subject.Program.Kill();
        Assert.That(subject.Program.WaitForExit(TimeSpan.FromSeconds(20)), Is.EqualTo(128 + 9));
        Assert.That(capture.Finish(), Is.EqualTo(FinishOutcome.Exited));
    }

    [Test]
    public void ExecWhilePagesAreAwayIsNoError()
    {
        using Subject subject = Subject.Start(Pages, threads: true);
        using Capture capture = new(subject.Pid, RegionSelection.Anon);
        Assert.That(subject.Ask("x"), Is.EqualTo("executed"));
        Assert.That(capture.Finish(), Is.EqualTo(FinishOutcome.Executed));
        Assert.That(subject.Traces(), Does.Not.Contain("userfaultfd"));
    }

    [Test]
    public void ADeathDuringTheStopIsOneLine([Values] bool beforeDump)
    {
        using Subject subject = Subject.Start(Pages, threads: true);
        using InPlaceTarget target = InPlaceTarget.Attach(subject.Pid, RegionSelection.Anon);
        using MemoryStore store = new(target.EstimatedDumpBytes);
        if (!beforeDump)
            target.Dump(store);
        subject.Program.Kill();
        Assert.That(beforeDump ? () => target.Dump(store) : () => target.Evict(), Throws.TypeOf<BadInputException>().With.Message.Contains("exited"));
    }

    [Test]
    public void ASignalSentDuringTheStopArrives()
    {
        using Subject subject = Subject.Start(Pages, threads: true);
        string hash = subject.Ask("h")!;
        using InPlaceTarget target = InPlaceTarget.Attach(subject.Pid, RegionSelection.Anon);
        using MemoryStore store = new(target.EstimatedDumpBytes);
        Live.Run("kill", "-USR1", subject.Pid.ToString());
        target.Dump(store);
        EvictedMemory evicted = target.Evict();
        using MiniService service = new(target.Fd, evicted.Image, store);
        target.Resume();
        Assert.That(subject.Ask("s"), Does.StartWith("spurious 0 wrong 0").And.EndsWith("alarms 1"));
        service.Drain();
        Assert.That(target.Finish(), Is.EqualTo(FinishOutcome.Detached));
        Assert.That(subject.Ask("h"), Is.EqualTo(hash));
    }

    [Test]
    public void AStoppedProcessStaysStoppedAndGoesOnWhenContinued()
    {
        using Subject subject = Subject.Start(Pages, threads: true);
        string hash = subject.Ask("h")!;
        Live.Run("kill", "-STOP", subject.Pid.ToString());
        using Capture capture = new(subject.Pid, RegionSelection.Anon);
        Thread.Sleep(100);
        Assert.That(ProcessInfo.Read(subject.Pid).State, Is.EqualTo('T'), "while it is served");
        Assert.That(capture.Finish(), Is.EqualTo(FinishOutcome.Detached));
        Thread.Sleep(100);
        Assert.That(ProcessInfo.Read(subject.Pid).State, Is.EqualTo('T'), "at the end");
        Live.Run("kill", "-CONT", subject.Pid.ToString());
        Assert.That(subject.Ask("h"), Is.EqualTo(hash));
    }

    [Test]
    public void AThreadLeftInTheMiddleOfAnInjectionFindsItsWayBack([Values(0, 1, 2)] int kind)
    {
        using Subject subject = new(Live.Build("target"), "64", kind.ToString());
        Assert.That(subject.ReadLine(), Is.EqualTo("ready"));
        string? hash = kind == 2 ? null : subject.Ask("h");
        for (int i = 0; i < 20; i++)
        {
            using TracedProcess stopped = TracedProcess.Seize(subject.Pid);
            stopped.Inject(ProcMaps.Read(subject.Pid), calls =>
            {
                Assert.That(calls.Call(39), Is.EqualTo(subject.Pid), "getpid");
                calls.Abandon();
                return 0;
            });
        }
        Thread.Sleep(50);
        Assert.That(subject.Program.WaitForExit(TimeSpan.Zero), Is.Null, "it must live");
        if (kind == 2)
            Assert.That(ProcessInfo.Read(subject.Pid).State, Is.EqualTo('R'));
        else
            Assert.That(subject.Ask("h"), Is.EqualTo(hash));
        if (kind == 1)
            AssertUndisturbed(subject);
    }

    [Test]
    public void A_thread_left_in_the_first_call_of_an_injection_finds_its_way_back([Values(0, 1, 2)] int kind)
    {
        using Subject subject = new(Live.Build("target"), "64", kind.ToString());
        Assert.That(subject.ReadLine(), Is.EqualTo("ready"));
        string? hash = kind == 2 ? null : subject.Ask("h");
        for (int i = 0; i < 20; i++)
        {
            // Its tracer ends when the call has been set up, and nothing is there but the frame on the stack.
            using TracedProcess stopped = TracedProcess.Seize(subject.Pid);
            IReadOnlyList<Mapping> mappings = ProcMaps.Read(subject.Pid);
            using TargetMemory memory = new(subject.Pid);
            stopped.ForEachThread(thread => thread.Tid != subject.Pid || Enter(thread, memory, mappings));
        }
        Assert.That(() => ProcessInfo.Read(subject.Pid).State, Is.EqualTo(kind == 2 ? 'R' : 'S').After(5000, 10));
        Assert.That(subject.Program.WaitForExit(TimeSpan.FromMilliseconds(100)), Is.Null, "it must live");
        if (kind != 2)
            Assert.That(subject.Ask("h"), Is.EqualTo(hash));
        if (kind == 1)
            AssertUndisturbed(subject);
    }

    private static bool Enter(StoppedThread thread, TargetMemory memory, IReadOnlyList<Mapping> mappings)
    {
        Native.UserRegs regs = thread.Registers;
        HomeFrame home = HomeFrame.TryWrite(thread, regs, thread.SignalMask, memory, mappings) ?? throw new AssertionException("no place for a frame");
        const int getpid = 39;
        (regs.rip, regs.rsp, regs.rax, regs.orig_rax) = (home.Call, home.StackPointer, getpid, ulong.MaxValue);
        (regs.rdi, regs.rsi, regs.rdx, regs.r10) = (1, 2, 3, 4);
        thread.SetRegisters(regs);
        thread.SignalMask = ulong.MaxValue;
        return true;
    }

    [Test]
    public void AComputingThreadIsNotDisturbed()
    {
        using Subject subject = new(Live.Build("target"), "64", "2");
        Assert.That(subject.ReadLine(), Is.EqualTo("ready"));
        for (int i = 0; i < 10; i++)
        {
            using Capture capture = new(subject.Pid, RegionSelection.All);
            Assert.That(capture.Finish(), Is.EqualTo(FinishOutcome.Detached));
        }
        Thread.Sleep(50);
        Assert.That(subject.Program.WaitForExit(TimeSpan.Zero), Is.Null, "it aborts at the first wrong result");
    }

    [Test]
    public void AnUnprivilegedTargetIsHandedTheDevice()
    {
        if (!File.Exists("/dev/userfaultfd"))
            Live.Missing("/dev/userfaultfd is not there");
        Live.RequireProgram("setpriv");
        string program = Path.Combine(Path.GetTempPath(), $"target-{Environment.ProcessId}");
        File.Copy(Live.Build("target"), program, true);
        try
        {
            using Subject subject = new("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", program, Pages.ToString(), "1");
            Assert.That(subject.ReadLine(), Is.EqualTo("ready"));
            string hash = subject.Ask("h")!, before = subject.Traces();
            using Capture capture = new(subject.Pid, RegionSelection.Anon);
            Assert.That(subject.Ask("h"), Is.EqualTo(hash));
            Assert.That(capture.Finish(), Is.EqualTo(FinishOutcome.Detached));
            AssertUndisturbed(subject);
            Assert.That(subject.Traces(), Is.EqualTo(before));
        }
        finally
        {
            File.Delete(program);
        }
    }

    private static void AssertUndisturbed(Subject subject)
    {
        // The first answer starts the count of rounds afresh.
        subject.Ask("s");
        Thread.Sleep(50);
        Assert.That(subject.Ask("s"), Is.EqualTo("spurious 0 wrong 0 rounds 1 alarms 0"));
    }
}
