using NUnit.Framework;
using Testbed.Core;
using Testbed.Uffd;

namespace Testbed.Live.Tests;

/// <summary>The whole way, on a real process: stop, dump, evict, run, serve, finish.</summary>
[NonParallelizable]
public sealed class InPlaceTests
{
    private const int Pages = 1024;

    [OneTimeSetUp]
    public void Require() => Live.RequireRoot();

    /// <summary>A process with its pages away, served by the simplest service.</summary>
    private sealed class Capture : IDisposable
    {
        public InPlaceTarget Target { get; }
        public MemoryStore Store { get; }
        public EvictedMemory Evicted { get; }
        public MiniService Service { get; }

        public Capture(int pid, RegionSelection selection)
        {
            Target = InPlaceTarget.Attach(pid, selection);
            Store = new MemoryStore(Target.EstimatedDumpBytes);
            Target.Dump(Store);
            Evicted = Target.Evict();
            Service = new MiniService(Target.Fd, Evicted.Image, Store);
            Target.Resume();
        }

        public FinishOutcome Finish()
        {
            Service.Drain();
            return Target.Finish();
        }

        public void Dispose()
        {
            Service.Dispose();
            Target.Dispose();
            Store.Dispose();
        }
    }

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

    private static void AssertUndisturbed(Subject subject)
    {
        // The first answer starts the count of rounds afresh.
        subject.Ask("s");
        Thread.Sleep(50);
        Assert.That(subject.Ask("s"), Is.EqualTo("spurious 0 wrong 0 rounds 1 alarms 0"));
    }
}
