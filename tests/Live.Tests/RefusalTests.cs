using NUnit.Framework;
using Testbed.Core;
using Testbed.Uffd;

namespace Testbed.Live.Tests;

/// <summary>What cannot be captured is refused in one line, and runs on.</summary>
[NonParallelizable]
public sealed class RefusalTests
{
    [OneTimeSetUp]
    public void Require() => Live.RequireRoot();

    private static void AssertRefused(int pid, string why) =>
        Assert.That(() => InPlaceTarget.Attach(pid, RegionSelection.Anon),
            Throws.TypeOf<BadInputException>().With.Message.Contains(why).And.Message.Not.Contains("\n").And.Message.Contains(pid.ToString()));

    [Test]
    public void NoSuchProcess() => AssertRefused(4194303, "no such process");

    [Test]
    public void KernelThread()
    {
        int pid = Directory.EnumerateDirectories("/proc").Select(Path.GetFileName).Where(n => int.TryParse(n, out _)).Select(n => int.Parse(n!))
            .FirstOrDefault(n => n != 1 && ProcessInfo.Read(n) is { HasMemory: false, State: not 'Z' });
        if (pid == 0)
            Live.Missing("no kernel thread is visible here");
        AssertRefused(pid, "kernel thread");
    }

    [Test]
    public void ThisProcess() => AssertRefused(Environment.ProcessId, "this program itself");

    [Test]
    public void Zombie()
    {
        using LaunchedProgram program = LaunchedProgram.Start("true", []);
        while (ProcessInfo.Read(program.Pid).State != 'Z')
            Thread.Sleep(1);
        AssertRefused(program.Pid, "zombie");
        Assert.That(program.WaitForExit(TimeSpan.FromSeconds(5)), Is.Zero);
    }

    [Test]
    public void AlreadyTraced()
    {
        using Subject subject = Subject.Start(16, threads: false);
        using (TracedProcess.Seize(subject.Pid))
            AssertRefused(subject.Pid, $"already traced by process {Environment.ProcessId}");
        Assert.That(subject.Ask("h"), Is.Not.Empty);
    }

    [Test]
    public void ThirtyTwoBitProgram()
    {
        // The smallest 32-bit program that waits: mov $29 (pause),%eax; int $0x80; jmp back.
        byte[] elf =
        [
            0x7f, (byte)'E', (byte)'L', (byte)'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 3, 0, 1, 0, 0, 0, 0x54, 0x80, 4, 8, 0x34, 0, 0, 0,
            0, 0, 0, 0, 0, 0, 0, 0, 0x34, 0, 0x20, 0, 1, 0, 0x28, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 4, 8, 0, 0x80, 4, 8,
            0x5d, 0, 0, 0, 0x5d, 0, 0, 0, 5, 0, 0, 0, 0, 0x10, 0, 0, 0xb8, 29, 0, 0, 0, 0xcd, 0x80, 0xeb, 0xf7,
        ];
        string path = Path.Combine(Path.GetTempPath(), $"pause32-{Environment.ProcessId}");
        File.WriteAllBytes(path, elf);
        Live.Run("chmod", "700", path);
        try
        {
            using LaunchedProgram program = LaunchedProgram.Start(path, []);
            AssertRefused(program.Pid, "32-bit");
            Assert.That(program.WaitForExit(TimeSpan.FromMilliseconds(50)), Is.Null);
            program.Kill();
            program.WaitForExit(TimeSpan.FromSeconds(5));
        }
        catch (BadInputException e) when (e.Message.Contains("cannot be started", StringComparison.Ordinal))
        {
            Assert.Ignore("SKIPPED: this kernel runs no 32-bit programs");
        }
        finally
        {
            File.Delete(path);
        }
    }

    [Test]
    public void DisposeAfterADumpLetsItRunOn()
    {
        using LaunchedProgram program = LaunchedProgram.Start("sleep", ["100"]);
        Thread.Sleep(50);
        using (InPlaceTarget target = InPlaceTarget.Attach(program.Pid, RegionSelection.Anon))
            target.Dump(new NullSink(), cancel: CancellationToken.None);
        Assert.That(program.WaitForExit(TimeSpan.FromMilliseconds(50)), Is.Null);
        program.Kill();
        program.WaitForExit(TimeSpan.FromSeconds(5));
    }

    [Test]
    public void ACancelledDumpLeavesTheProcessAsItWas()
    {
        using Subject subject = Subject.Start(256, threads: false);
        string before = subject.Traces();
        using (InPlaceTarget target = InPlaceTarget.Attach(subject.Pid, RegionSelection.Anon))
            Assert.That(() => target.Dump(new NullSink(), cancel: new CancellationToken(true)), Throws.InstanceOf<OperationCanceledException>());
        Assert.That(subject.Ask("h"), Is.Not.Empty);
        Assert.That(subject.Traces(), Is.EqualTo(before));
    }

    [Test]
    public void UnknownCommand() =>
        Assert.That(() => LaunchedProgram.Start("no-such-command-anywhere", []), Throws.TypeOf<BadInputException>().With.Message.Contains("no-such-command-anywhere"));

    private sealed class NullSink : IMemoryDumpSink
    {
        public void BeginArea(MemoryArea area) { }

        public void WritePages(PageRange range, ReadOnlySpan<byte> pages) { }
    }
}
