using System.Diagnostics;
using Testbed.Core;
using Testbed.Uffd.Interop;
using static Testbed.Uffd.Interop.Native.E;
using static Testbed.Uffd.Interop.Native.PtraceH;

namespace Testbed.Uffd;

/// <summary>
/// A process of which every thread stands still. It lasts for one stop: between stops nobody traces the process, so that the death
/// of this program leaves no tracer behind. When it dies during a stop, the kernel lets the process run on.
/// </summary>
public sealed class TracedProcess : IDisposable
{
    /// <summary>How long threads may take to stop in all, as long as they get somewhere.</summary>
    public static TimeSpan Patience { get; } = TimeSpan.FromSeconds(20);

    /// <summary>
    /// How long no thread may have stopped, while none of those that are left can move: they wait in the kernel,
    /// uninterruptible.
    /// </summary>
    private static readonly TimeSpan StallLimit = TimeSpan.FromSeconds(0.7), LookInterval = TimeSpan.FromSeconds(0.1);

    private readonly PtraceThread _ptrace = new();
    private readonly SortedDictionary<int, StoppedThread> _threads = [];
    private readonly HashSet<int> _unstoppable = [];
    private readonly Stopwatch _clock = Stopwatch.StartNew();
    private readonly Action? _whileWaiting;
    private readonly Action<string>? _onWaiting;
    private StoppedThread? _caller;
    private bool _detached;

    /// <summary>The process.</summary>
    public int Pid { get; }

    /// <summary>The threads that stand still, by tid.</summary>
    public IReadOnlyCollection<int> Threads => _threads.Keys;

    private TracedProcess(int pid, Action? whileWaiting, Action<string>? onWaiting) =>
        (Pid, _whileWaiting, _onWaiting) = (pid, whileWaiting, onWaiting);

    /// <summary>
    /// Stops a process: all threads, also those that are created meanwhile. What cannot be stopped is refused within
    /// about a second.
    /// </summary>
    /// <param name="pid">The process.</param>
    /// <param name="onWaiting">Told once when a call inside the process takes long, with the reason; or null.</param>
    /// <remarks>
    /// Not for a child started with <see cref="Process"/>: the runtime waits for it too. See <see
    /// cref="LaunchedProgram"/>.
    /// </remarks>
    /// <exception cref="BadInputException">It cannot be stopped, and why not; it runs on as before.</exception>
    public static TracedProcess Seize(int pid, Action<string>? onWaiting = null)
    {
        ProcessInfo.Read(pid).EnsureCapturable();
        return Seize(new TracedProcess(pid, null, onWaiting));
    }

    /// <summary>
    /// Stops a process to end a capture. This waits without limit until the process can be stopped, because its
    /// userfaultfd must be closed. Threads that stay in the kernel (a parent in vfork) are left there if one other
    /// stands still.
    /// </summary>
    /// <param name="pid">The process.</param>
    /// <param name="whileWaiting">
    /// What must go on until it stands still. A thread inside munmap, madvise, mremap or fork waits for its message to
    /// be read, and one inside a system call for its page: such a thread stops only when it gets what it waits for.
    /// </param>
    /// <param name="onWaiting">Told once when it takes long, with the reason; or null.</param>
    /// <exception cref="BadInputException">It is gone, or somebody else traces it.</exception>
    internal static TracedProcess SeizeToFinish(int pid, Action whileWaiting, Action<string>? onWaiting)
    {
        for (bool said = false; CgroupFreezer.WhyFrozen(pid) is { } frozen; Thread.Sleep(LookInterval))
        {
            if (!said)
                onWaiting?.Invoke($"process {pid}: {frozen}; its memory is all in, and the capture ends when it runs");
            said = true;
            whileWaiting();
        }
        return Seize(new TracedProcess(pid, whileWaiting, onWaiting));
    }

    private static TracedProcess Seize(TracedProcess process)
    {
        try
        {
            ProcessInfo info = ProcessInfo.Read(process.Pid);
            process._ptrace.Run(() => process.SeizeThreads(info));
            return process;
        }
        catch
        {
            process.Dispose();
            throw;
        }
    }

    /// <summary>
    /// Stops a process that has its memory to itself: see <see cref="MemorySharers"/>. Programs that spawn others have
    /// it not for moments, so this lets go and tries again for about a second.
    /// </summary>
    /// <exception cref="BadInputException">
    /// It cannot be stopped, or another process has its memory; it runs on as before.
    /// </exception>
    public static TracedProcess SeizeAlone(int pid, Action<string>? onWaiting = null)
    {
        SharingClock clock = new();
        while (true)
        {
            TracedProcess stopped = Seize(pid, onWaiting);
            try
            {
                if (stopped.FindSharer(new HashSet<int>()) is not { } sharer)
                    return stopped;
                clock.EnsureTimeLeft(pid, sharer);
            }
            catch
            {
                stopped.Dispose();
                throw;
            }
            stopped.Dispose();
            clock.Pause();
        }
    }

    /// <summary>
    /// A process that has the memory of this one, which must stand still, and is neither it nor expected; or null.
    /// </summary>
    internal int? FindSharer(IReadOnlySet<int> expected) => MemorySharers.Find(Pid, _threads.Keys.First(), expected);

    private bool SeizeThreads(ProcessInfo info)
    {
        // A thread may create another until it is stopped itself; a round that finds none new is the last.
        while (true)
        {
            List<StoppedThread> found = [];
            foreach (int tid in ProcessInfo.ThreadIds(Pid))
            {
                if (!_threads.ContainsKey(tid) && !_unstoppable.Contains(tid) && SeizeThread(info, tid) is { } thread)
                    found.Add(thread);
            }
            if (found.Count == 0)
                break;
            foreach (StoppedThread thread in found)
                thread.Interrupt();
            AwaitStops(info, found);
        }
        if (_threads.Count == 0)
            throw new BadInputException($"process {Pid} ({info.Name}): exited while it was being stopped; a running process is expected");
        const ulong UserCode64 = 0x33;
        if (_threads.Values.Any(thread => thread.TryGetRegisters(out Native.UserRegs regs) && regs.cs != UserCode64))
            throw new BadInputException($"process {Pid} ({info.Name}): is running 32-bit code; a 64-bit x86 process is expected");
        return true;
    }

    private StoppedThread? SeizeThread(ProcessInfo info, int tid)
    {
        StoppedThread thread = new(Pid, tid);
        int error = thread.Seize(PTRACE_O_TRACESYSGOOD);
        if (error == 0)
            return thread;
        // Gone, or a zombie: a first thread that called pthread_exit stays listed for as long as the others live.
        if (error == ESRCH || ProcessInfo.ThreadState(Pid, tid) is null or 'Z' or 'X')
            return null;
        int tracer = ProcessInfo.TracerOf(Pid, tid);
        throw new BadInputException($"process {Pid} ({info.Name}): " + (tracer != 0 && tracer != Environment.ProcessId
            ? $"is already traced by process {tracer} ({ProcessInfo.NameOf(tracer)}); detach that tracer first"
            : $"may not be traced ({Native.Describe(error)}); {info.WhyNotPermitted()}"));
    }

    private void AwaitStops(ProcessInfo info, List<StoppedThread> pending)
    {
        Stopwatch stalled = Stopwatch.StartNew();
        TimeSpan look = LookInterval;
        long switches = 0;
        Backoff backoff = default;
        for (bool said = false; ; backoff.Pause())
        {
            if (pending.RemoveAll(TakeIfStopped) > 0)
            {
                stalled.Restart();
                look = LookInterval;
                backoff = default;
            }
            if (pending.Count == 0)
                return;
            _whileWaiting?.Invoke();
            if (stalled.Elapsed < look)
                continue;
            look += LookInterval;
            bool frozen = _whileWaiting is null && CgroupFreezer.WhyFrozen(Pid) is not null;
            if (!frozen && CanMove(pending, ref switches) && _clock.Elapsed < Patience)
            {
                stalled.Restart();
                look = LookInterval;
            }
            else if (frozen || stalled.Elapsed > StallLimit || _clock.Elapsed > Patience)
            {
                if (_whileWaiting is null)
                    throw new BadInputException(WhyNotStopped(info, pending[0].Tid));
                if (_threads.Count > 0)
                {
                    _unstoppable.UnionWith(pending.Select(thread => thread.Tid));
                    return;
                }
                string why = said ? "" : WhyNotStopped(info, pending[0].Tid);
                if (!said)
                    _onWaiting?.Invoke($"{why}; its memory is all in, and the capture ends when it stops");
                said = true;
            }
        }
    }

    private bool TakeIfStopped(StoppedThread thread)
    {
        bool? stopped = thread.LookForStop();
        if (stopped == true)
            _threads.Add(thread.Tid, thread);
        return stopped is not null;
    }

    /// <summary>
    /// Whether one of these threads can still come to a stop: it waits for a processor, or did something since the last
    /// look.
    /// </summary>
    private bool CanMove(List<StoppedThread> pending, ref long switches)
    {
        long before = switches;
        switches = pending.Sum(thread => ProcessInfo.Switches(Pid, thread.Tid));
        return switches != before || pending.Any(thread => ProcessInfo.ThreadState(Pid, thread.Tid) != 'D');
    }

    private string WhyNotStopped(ProcessInfo info, int tid)
    {
        string who = $"process {Pid} ({info.Name})";
        if (CgroupFreezer.WhyFrozen(Pid) is { } frozen)
            return $"{who}: {frozen}";
        if (MemorySharers.Find(Pid, tid, new HashSet<int>()) is { } sharer)
        {
            return $"{who}: thread {tid} cannot be stopped before process {sharer} ({ProcessInfo.NameOf(sharer)}), "
                + "which shares its memory (vfork), calls exec or ends; try again then";
        }
        string place = ProcessInfo.ReadText($"/proc/{Pid}/task/{tid}/wchan") ?? "?";
        return $"{who}: thread {tid} cannot be stopped (state {ProcessInfo.ThreadState(Pid, tid)}, in {place}); "
            + "a process whose threads can be interrupted is expected";
    }

    /// <summary>Lets all threads run on and ends the stop. A group-stopped process stays so.</summary>
    public void Detach()
    {
        if (_detached)
            return;
        _detached = true;
        _ptrace.Run(() =>
        {
            foreach (StoppedThread thread in _threads.Values)
                thread.Detach();
            return true;
        });
        _ptrace.Dispose();
    }

    /// <summary>Checks that calls can be made inside the target, without changing anything there.</summary>
    /// <exception cref="BadInputException">They cannot, and why not.</exception>
    public void EnsureCallable() => _ptrace.Run(ChooseCaller);

    /// <summary>Runs calls inside the target, on the thread that traces.</summary>
    /// <exception cref="BadInputException">The first call could not be made, and nothing has changed.</exception>
    internal T Inject<T>(IReadOnlyList<Mapping> mappings, Func<RemoteCalls, T> body)
    {
        T result = default!;
        return TryInject(mappings, calls => result = body(calls)) is { } why
            ? throw new BadInputException($"process {Pid}: {why}")
            : result;
    }

    /// <summary>The same.</summary>
    /// <returns>Why the first call could not be made, with nothing changed; null when all went well.</returns>
    internal string? TryInject(IReadOnlyList<Mapping> mappings, Action<RemoteCalls> body) => _ptrace.Run<string?>(() =>
    {
        using TargetMemory memory = new(Pid);
        try
        {
            ulong gadget = FindSyscallInstruction(memory, mappings);
            using RemoteCalls calls = new(Pid, ChooseCaller(), memory, gadget, mappings, _onWaiting);
            body(calls);
            return null;
        }
        catch (CallWithdrawnException e)
        {
            return e.Message;
        }
    });

    /// <summary>Runs something on the thread that traces, for each thread.</summary>
    internal List<T> ForEachThread<T>(Func<StoppedThread, T> function) => _ptrace.Run(() => _threads.Values.Select(function).ToList());

    /// <summary>The threads, for what runs inside <see cref="Inject"/>.</summary>
    internal IReadOnlyCollection<StoppedThread> StoppedThreads => _threads.Values;

    /// <summary>
    /// The thread that makes the calls: one that can, best inside a system call (it can be in no restartable sequence),
    /// without seccomp, and on the first thread's own stack (<see cref="HomeFrame"/>).
    /// </summary>
    private StoppedThread ChooseCaller()
    {
        if (_caller is not null)
            return _caller;
        const int EnoughLooked = 16;
        StoppedThread? best = null;
        int leastCost = int.MaxValue, looked = 0;
        bool dispatches = false;
        foreach (StoppedThread thread in _threads.Values)
        {
            // The kernel's own workers (io_uring, vhost) never come to user code.
            if (!thread.TryGetRegisters(out Native.UserRegs regs) || regs is { rip: 0, rsp: 0 })
                continue;
            if (thread.DispatchesCalls)
            {
                dispatches = true;
                continue;
            }
            int cost = ((long)regs.orig_rax >= 0 ? 0 : 1) + (ProcessInfo.HasThreadSeccomp(Pid, thread.Tid) ? 4 : 0)
                + (thread.Tid == Pid && ProcessInfo.IsOnFirstStack(Pid, regs.rsp) ? 0 : 2);
            if (cost < leastCost)
                (best, leastCost) = (thread, cost);
            if (cost == 0 || ++looked == EnoughLooked)
                break;
        }
        if (best is null)
        {
            throw dispatches
                ? new BadInputException(
                    $"process {Pid}: every thread uses Syscall User Dispatch (as under Wine), so no call can be made "
                    + "on its behalf; a process with a thread that does not is expected")
                : new TargetGoneException($"process {Pid} ended");
        }
        if (leastCost >= 4 && best.SuspendSeccomp() is not 0 and var error)
        {
            throw new BadInputException(
                $"process {Pid}: has a seccomp filter, and may not be traced around it ({Native.Describe(error)}); "
                + "root with CAP_SYS_ADMIN and without a seccomp filter of its own is expected");
        }
        return _caller = best;
    }

    internal ulong FindSyscallInstruction(TargetMemory memory, IReadOnlyList<Mapping> mappings)
    {
        ReadOnlySpan<byte> syscall = [0x0f, 0x05];
        byte[] code = new byte[256 * 1024];
        foreach (Mapping mapping in mappings.Where(m => (m.Protection & 4) != 0 && m.Name != "[vsyscall]").OrderBy(m => m.Name != "[vdso]"))
        {
            int n = memory.Read(mapping.Range.Start.Address, code.AsSpan(0, (int)Math.Min(code.Length, mapping.Range.Bytes)));
            int at = code.AsSpan(0, n).IndexOf(syscall);
            if (at >= 0)
                return mapping.Range.Start.Address + (ulong)at;
        }
        throw new BadInputException($"process {Pid}: no system call instruction in its vdso or code; an ordinary Linux program is expected");
    }

    /// <summary>Detaches; when even that fails, the end of the tracing thread does the same.</summary>
    public void Dispose()
    {
        try
        {
            Detach();
        }
        finally
        {
            _ptrace.Dispose();
        }
    }
}
