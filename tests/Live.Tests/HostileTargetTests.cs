using System.Diagnostics;
using NUnit.Framework;
using Testbed.Core;
using Testbed.Policies;
using Testbed.Traces;
using Testbed.Uffd;
using Testbed.Uffd.Interop;
using Trace = Testbed.Traces.Trace;

namespace Testbed.Live.Tests;

/// <summary>
/// Targets that are hard to attach to. A refusal comes at once and harms nobody; a capture that has begun is ended
/// well.
/// </summary>
[NonParallelizable]
public sealed class HostileTargetTests
{
    /// <summary>"Within a second", with room for a busy machine; a refusal by patience took 20 s.</summary>
    private static readonly TimeSpan AtOnce = TimeSpan.FromSeconds(15);

    [OneTimeSetUp]
    public void Require() => Live.RequireRoot();

    private static Subject Start(string mode)
    {
        Subject subject = new(Live.Build("hostile"), mode);
        string? line = subject.ReadLine();
        if (line is "no dispatch" or "no seccomp" or "no io_uring")
        {
            subject.Dispose();
            Live.Missing($"this kernel has {line}");
        }
        Assert.That(line, Is.EqualTo("ready"));
        return subject;
    }

    private static void AssertRefused(Action attach, params string[] why)
    {
        Stopwatch clock = Stopwatch.StartNew();
        BadInputException refusal = Assert.Throws<BadInputException>(() => attach())!;
        Assert.That(clock.Elapsed, Is.LessThan(AtOnce));
        Assert.That(refusal.Message, Does.Not.Contain("\n"));
        foreach (string part in why)
            Assert.That(refusal.Message, Does.Contain(part));
    }

    private static void AssertRefused(int pid, params string[] why) =>
        AssertRefused(() => InPlaceTarget.Attach(pid, RegionSelection.Anon).Dispose(), why);

    private static LiveSession Begin(int pid, string? tracePath = null) =>
        LiveSession.Begin(
            pid, new LiveOptions { Workload = "test", TracePath = tracePath }, null, CancellationToken.None);

    private static string TracePath { get; } =
        Path.Combine(Path.GetTempPath(), $"hostile-{Environment.ProcessId}.trace");

    private static void AssertCaptured(Subject subject)
    {
        using Capture capture = new(subject.Pid, RegionSelection.Anon);
        Assert.That(capture.Evicted.Image.PresentPages, Is.GreaterThan(400));
        Assert.That(subject.Ask("h"), Is.EqualTo("good"), "while it is served");
        Assert.That(capture.Finish(), Is.EqualTo(FinishOutcome.Detached));
        Assert.That(subject.Ask("h"), Is.EqualTo("good"), "after the end");
    }

    private static void WaitFor(Func<bool> condition)
    {
        for (long end = Environment.TickCount64 + 20_000; !condition(); Thread.Sleep(1))
            Assert.That(Environment.TickCount64, Is.LessThan(end), "it does not come");
    }

    [Test]
    public void Frozen_process_is_refused_at_once_and_runs_on_when_thawed(
        [Values(1, 2)] int version, [Values] bool parent)
    {
        using CgroupGroup group = new(version);
        using Subject subject = Start("computing");
        string before = subject.Traces();
        group.Add(subject.Pid);
        group.Freeze(parent);
        AssertRefused(subject.Pid, subject.Pid.ToString(), "is frozen by the cgroup", "thaw it first");
        AssertRefused(() => FrozenTree.Freeze(subject.Pid).Dispose(), "thaw it first");
        AssertRefused(() => Begin(subject.Pid).Dispose(), "thaw it first");
        group.Thaw();
        Assert.That(subject.Ask("h"), Is.EqualTo("good"));
        Assert.That(subject.Traces(), Is.EqualTo(before));
        AssertCaptured(subject);
    }

    [Test]
    public void Frozen_process_is_found_without_the_files_of_its_cgroup()
    {
        using CgroupGroup group = new(2);
        using Subject subject = Start("computing");
        group.Add(subject.Pid);
        group.Freeze();
        // A mount namespace in which the cgroups cannot be seen.
        using Cli cli = new(
            ["unshare", "-m", "sh", "-c", "umount -l /sys/fs/cgroup; exec \"$@\"", "sh", "dotnet", Cli.Program],
            ["record", "--pid", $"{subject.Pid}", "--output", TracePath]);
        Assert.That(cli.WaitForExit(), Is.EqualTo(2), cli.Error);
        Assert.That(cli.Error, Does.Contain("frozen by its cgroup"));
        group.Thaw();
        Assert.That(subject.Ask("h"), Is.EqualTo("good"));
    }

    [Test]
    public void Call_is_withdrawn_when_the_process_is_frozen_after_the_stop()
    {
        using CgroupGroup group = new(2);
        using Subject subject = Start("computing");
        string before = subject.Traces();
        group.Add(subject.Pid);
        using (TracedProcess stopped = TracedProcess.Seize(subject.Pid))
        {
            group.BeginFreeze();
            AssertRefused(() => stopped.Inject(ProcMaps.Read(subject.Pid), calls => calls.Call(39)), "frozen");
        }
        group.Thaw();
        Assert.That(subject.Ask("h"), Is.EqualTo("good"));
        Assert.That(subject.Traces(), Is.EqualTo(before));
    }

    [Test]
    public void Call_that_is_frozen_in_the_middle_is_waited_for_and_said([Values(1, 2)] int version)
    {
        using CgroupGroup group = new(version);
        using Subject subject = Start("computing");
        string before = subject.Traces();
        group.Add(subject.Pid);
        List<string> said = [];
        using (TracedProcess stopped = TracedProcess.Seize(subject.Pid, said.Add))
        {
            IReadOnlyList<Mapping> mappings = ProcMaps.Read(subject.Pid);
            using ManualResetEventSlim frozen = new();
            Task<long> call = Task.Run(() => stopped.Inject(mappings, calls =>
            {
                group.BeginFreeze();
                frozen.Set();
                return calls.Call(39);
            }));
            frozen.Wait();
            WaitFor(() => said.Count > 0);
            Assert.That(call.IsCompleted, Is.False);
            group.Thaw();
            Assert.That(call.Result, Is.EqualTo(subject.Pid));
        }
        Assert.That(said, Has.Count.EqualTo(1));
        Assert.That(said[0], Does.Contain("is frozen by the cgroup").And.Contain("put back"));
        Assert.That(subject.Ask("h"), Is.EqualTo("good"));
        Assert.That(subject.Traces(), Is.EqualTo(before));
    }

    [Test]
    public void Freezing_at_random_moments_hurts_nobody([Values(1, 2)] int version)
    {
        int seed = Environment.TickCount;
        TestContext.Out.WriteLine($"seed {seed}");
        Random random = new(seed);
        using CgroupGroup group = new(version);
        using Subject subject = Start("computing");
        string before = subject.Traces();
        group.Add(subject.Pid);
        int captured = 0, refused = 0;
        long end = Environment.TickCount64 + 3000, latest = end + 30_000;
        bool isOver = false;
        Thread toggling = new(() =>
        {
            while (!Volatile.Read(ref isOver))
            {
                group.BeginFreeze();
                Thread.Sleep(random.Next(20));
                group.Thaw();
                Thread.Sleep(random.Next(60));
            }
        });
        toggling.Start();
        try
        {
            // On a busy machine it takes longer until both have happened.
            while (Environment.TickCount64 < (captured == 0 || refused == 0 ? latest : end))
            {
                if (IsRefusedAsFrozen(subject.Pid))
                    refused++;
                else
                    captured++;
            }
        }
        finally
        {
            Volatile.Write(ref isOver, true);
            toggling.Join();
        }
        TestContext.Out.WriteLine($"{captured} captured, {refused} refused");
        Assert.That(captured, Is.Positive);
        Assert.That(refused, Is.Positive);
        Assert.That(subject.Ask("h"), Is.EqualTo("good"));
        Assert.That(subject.Traces(), Is.EqualTo(before));
    }

    private static bool IsRefusedAsFrozen(int pid)
    {
        try
        {
            using Capture capture = new(pid, RegionSelection.Anon);
            Assert.That(capture.Finish(), Is.EqualTo(FinishOutcome.Detached));
            return false;
        }
        catch (BadInputException e) when (e.Message.Contains("frozen", StringComparison.Ordinal))
        {
            return true;
        }
    }

    [Test]
    public void Finish_of_a_frozen_process_waits_for_the_thaw_and_says_so([Values(1, 2)] int version)
    {
        using CgroupGroup group = new(version);
        using Subject subject = Start("computing");
        string before = subject.Traces();
        group.Add(subject.Pid);
        List<string> said = [];
        using InPlaceTarget target = InPlaceTarget.Attach(subject.Pid, RegionSelection.Anon, said.Add);
        using MemoryStore store = new(target.EstimatedDumpBytes);
        target.Dump(store);
        EvictedMemory evicted = target.Evict();
        using MiniService service = new(target.Fd, evicted.Image, store);
        target.Resume();
        group.Freeze();
        service.Drain();
        Task<FinishOutcome> finish = Task.Run(() => target.Finish());
        WaitFor(() => said.Count > 0);
        Assert.That(finish.IsCompleted, Is.False);
        Assert.That(said[0], Does.Contain("frozen").And.Contain("memory is all in"));
        group.Thaw();
        Assert.That(finish.Result, Is.EqualTo(FinishOutcome.Detached));
        Assert.That(subject.Ask("h"), Is.EqualTo("good"));
        Assert.That(subject.Traces(), Is.EqualTo(before));
    }

    [Test]
    public void Parent_in_vfork_is_refused_at_once_by_the_name_of_its_child()
    {
        using Subject subject = Start("vfork");
        WaitFor(() => ProcessInfo.Read(subject.Pid).State == 'D');
        int child = int.Parse(File.ReadAllText($"/proc/{subject.Pid}/task/{subject.Pid}/children").Trim());
        AssertRefused(subject.Pid, $"process {subject.Pid} ", $"process {child} ", "vfork");
        AssertRefused(() => FrozenTree.Freeze(subject.Pid).Dispose(), $"process {child} ");
        AssertRefused(child, $"process {subject.Pid} ", $"process {child} ");
        subject.Send("x");
        // The letter that ends the child; the line's end is no command.
        Assert.That(subject.Ask("h"), Is.EqualTo("good"));
        AssertCaptured(subject);
    }

    [Test]
    public void Process_that_shares_its_memory_with_another_one_is_refused_and_both_are_named()
    {
        using Subject subject = Start("clone-vm");
        int child = int.Parse(File.ReadAllText($"/proc/{subject.Pid}/task/{subject.Pid}/children").Trim());
        AssertRefused(subject.Pid, $"process {subject.Pid} ", $"process {child} ", "shares its memory");
        AssertRefused(child, $"process {subject.Pid} ", $"process {child} ", "shares its memory");
        AssertRefused(() => FrozenTree.Freeze(child).Dispose(), $"process {subject.Pid} ", $"process {child} ");
        using (FrozenTree tree = FrozenTree.Freeze(subject.Pid))
            Assert.That(tree.Processes, Has.Count.EqualTo(2), "a child in the tree stands still, too");
        Assert.That(subject.Ask("h"), Is.EqualTo("good"));
        Assert.That(subject.Ask("E"), Is.EqualTo("ended"));
        AssertCaptured(subject);
    }

    [Test]
    public void Program_that_spawns_all_the_time_is_captured()
    {
        using Subject subject = Start("spawn");
        for (int i = 0; i < 3; i++)
            AssertCaptured(subject);
        for (int i = 0; i < 3; i++)
            FrozenTree.Freeze(subject.Pid).Dispose();
        Assert.That(subject.Ask("h"), Is.EqualTo("good"));
    }

    [Test]
    public void Finish_works_while_a_child_has_the_same_memory([Values("V", "C")] string how)
    {
        using Subject subject = Start("");
        using Capture capture = new(subject.Pid, RegionSelection.Anon);
        Assert.That(subject.Ask(how), Is.EqualTo(how == "V" ? "vforked" : "cloned"));
        Assert.That(capture.Finish(), Is.EqualTo(FinishOutcome.Detached));
        Assert.That(subject.Traces(), Does.Not.Contain("userfaultfd"));
        Assert.That(File.ReadAllText($"/proc/{subject.Pid}/smaps"), Does.Not.Contain(" um "));
        Assert.That(subject.Ask("h"), Is.EqualTo("good"));
        Assert.That(subject.Ask("E"), Is.EqualTo("ended"));
        AssertCaptured(subject);
    }

    [Test]
    public void Syscall_user_dispatch_in_every_thread_is_refused_at_once_and_sees_no_signal()
    {
        using Subject subject = Start("sud");
        string before = subject.Traces();
        for (int i = 0; i < 5; i++)
            AssertRefused(subject.Pid, "Syscall User Dispatch");
        Assert.That(subject.Ask("h"), Is.EqualTo("good"));
        Assert.That(subject.Traces(), Is.EqualTo(before));
        FrozenTree.Freeze(subject.Pid).Dispose();
        Assert.That(subject.Ask("h"), Is.EqualTo("good"));
    }

    [Test]
    public void Syscall_user_dispatch_in_one_thread_is_left_alone()
    {
        using Subject subject = Start("sud-thread");
        AssertCaptured(subject);
    }

    [Test]
    public void Call_that_becomes_a_signal_is_refused_and_the_program_never_sees_it()
    {
        // As on kernels that do not tell about Syscall User Dispatch: the call is made all the same.
        using Subject subject = Start("sud");
        string before = subject.Traces();
        int signals = 0;
        for (int i = 0; i < 100 && signals < 3; i++)
        {
            using TracedProcess stopped = TracedProcess.Seize(subject.Pid);
            IReadOnlyList<Mapping> mappings = ProcMaps.Read(subject.Pid);
            using TargetMemory memory = new(subject.Pid);
            ulong gadget = stopped.FindSyscallInstruction(memory, mappings);
            stopped.ForEachThread(thread =>
            {
                try
                {
                    // Between its rounds of computing it lets calls pass.
                    new RemoteCalls(subject.Pid, thread, memory, gadget, mappings, null).Dispose();
                }
                catch (BadInputException e)
                {
                    Assert.That(e.Message, Does.Contain("SIGSYS"));
                    signals++;
                }
                return 0;
            });
        }
        Assert.That(signals, Is.Positive);
        Assert.That(subject.Ask("h"), Is.EqualTo("good"));
        Assert.That(subject.Traces(), Is.EqualTo(before));
    }

    [Test]
    public void Seccomp_in_any_mode_is_traced_around(
        [Values("strict", "trap", "kill", "errno", "trace", "notify", "filtered-thread", "no-restart")] string mode)
    {
        using Subject subject = Start(mode);
        AssertCaptured(subject);
    }

    [Test]
    public void Process_is_captured_by_a_thread_that_can_make_calls(
        [Values("computing", "spin", "kernel-worker")] string mode)
    {
        using Subject subject = Start(mode);
        AssertCaptured(subject);
    }

    [Test]
    public void Killed_process_that_dies_slowly_has_exited()
    {
        using Subject subject = Start("large");
        using Capture capture = new(subject.Pid, RegionSelection.Heap);
        subject.Program.Kill();
        WaitFor(() => !capture.Target.Fd.IsAddressSpaceAlive());
        Assert.That(capture.Target.Finish(), Is.EqualTo(FinishOutcome.Exited));
    }

    [Test]
    public void Second_recorder_is_told_of_the_first()
    {
        using Subject subject = Start("");
        using Capture capture = new(subject.Pid, RegionSelection.Anon);
        AssertRefused(subject.Pid, "registered with another userfaultfd");
        Assert.That(capture.Finish(), Is.EqualTo(FinishOutcome.Detached));
        Assert.That(subject.Ask("h"), Is.EqualTo("good"));
    }

    [Test]
    public void Full_descriptor_table_is_named_by_its_limit()
    {
        Live.RequireProgram("prlimit");
        using Subject subject = Start("");
        string[] paths = Directory.GetFileSystemEntries($"/proc/{subject.Pid}/fd");
        HashSet<int> open = [.. paths.Select(path => int.Parse(Path.GetFileName(path)))];
        int free = Enumerable.Range(0, 4096).First(fd => !open.Contains(fd));
        string before = subject.Traces();
        Live.Run("prlimit", "--pid", $"{subject.Pid}", $"--nofile={free}:4096");
        using (InPlaceTarget target = InPlaceTarget.Attach(subject.Pid, RegionSelection.Anon))
        {
            using MemoryStore store = new(target.EstimatedDumpBytes);
            target.Dump(store);
            AssertRefused(() => target.Evict(), "RLIMIT_NOFILE");
        }
        Assert.That(subject.Ask("h"), Is.EqualTo("good"));
        Assert.That(subject.Traces(), Is.EqualTo(before));
    }

    [Test]
    public void Threads_in_a_pid_namespace_keep_their_names()
    {
        Live.RequireProgram("unshare");
        using Subject outside = new("unshare", "-p", "-f", "--kill-child", Live.Build("hostile"), "toucher");
        Assert.That(outside.ReadLine(), Is.EqualTo("ready"));
        int pid = int.Parse(File.ReadAllText($"/proc/{outside.Pid}/task/{outside.Pid}/children").Trim());
        try
        {
            using (LiveSession session = Begin(pid, TracePath))
            {
                outside.Send("t");
                Assert.That(outside.ReadLine(), Is.EqualTo("good"));
                _ = session.End(EndState.Drained);
            }
            IEnumerable<string> names = Trace.Load(TracePath).Threads.Select(thread => thread.Name);
            Assert.That(names, Does.Contain("toucher").And.Not.Contain(""));
        }
        finally
        {
            File.Delete(TracePath);
        }
    }

    [Test]
    public void Refused_right_to_trace_is_not_answered_with_advice_that_was_followed()
    {
        // Root without the one capability that tracing another user's process takes.
        using LaunchedProgram other = LaunchedProgram.Start(
            "setpriv", ["--reuid=65534", "--clear-groups", "sleep", "100"]);
        WaitFor(() => ProcessInfo.Read(other.Pid).Uid == 65534);
        using Cli cli = new(["setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace", "dotnet", Cli.Program],
            ["record", "--pid", $"{other.Pid}", "--output", TracePath]);
        Assert.That(cli.WaitForExit(), Is.EqualTo(2), cli.Error);
        Assert.That(cli.Error, Does.Contain("CAP_SYS_PTRACE").And.Not.Contain("as root or"));
        other.Kill();
        other.WaitForExit(TimeSpan.FromSeconds(5));
    }
}
