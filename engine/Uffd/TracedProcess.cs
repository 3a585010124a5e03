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
    /// <summary>How long threads may take to stop, or a call inside the target to end.</summary>
    public static TimeSpan Patience { get; } = TimeSpan.FromSeconds(20);

    private readonly PtraceThread _ptrace = new();
    private readonly SortedDictionary<int, StoppedThread> _threads = [];
    private bool _detached;

    /// <summary>The process.</summary>
    public int Pid { get; }

    /// <summary>The threads that stand still, by tid.</summary>
    public IReadOnlyCollection<int> Threads => _threads.Keys;

    private TracedProcess(int pid) => Pid = pid;

    /// <summary>Stops a process: all threads, also those that are created meanwhile.</summary>
    /// <param name="pid">The process.</param>
    /// <param name="whileWaiting">
    /// What must go on until it stands still, or null. A thread inside munmap, madvise, mremap or fork waits for its message to be
    /// read, and one inside a system call for its page: such a thread stops only when it gets what it waits for.
    /// </param>
    /// <remarks>Not for a child started with <see cref="Process"/>: the runtime waits for it too. See <see cref="LaunchedProgram"/>.</remarks>
    /// <exception cref="BadInputException">It cannot be stopped, and why not; it runs on as before.</exception>
    public static TracedProcess Seize(int pid, Action? whileWaiting = null)
    {
        ProcessInfo info = ProcessInfo.Read(pid);
        info.EnsureCapturable();
        TracedProcess process = new(pid);
        try
        {
            process._ptrace.Run(() => process.SeizeThreads(info, whileWaiting));
            return process;
        }
        catch
        {
            process.Dispose();
            throw;
        }
    }

    private bool SeizeThreads(ProcessInfo info, Action? whileWaiting)
    {
        Stopwatch clock = Stopwatch.StartNew();
        int options = PTRACE_O_TRACESYSGOOD | (info.HasSeccomp ? PTRACE_O_SUSPEND_SECCOMP : 0);
        // A thread may create another until it is stopped itself; a round that finds none new is the last.
        while (true)
        {
            List<StoppedThread> found = [];
            foreach (int tid in ProcessInfo.ThreadIds(Pid))
            {
                if (!_threads.ContainsKey(tid) && SeizeThread(info, tid, options) is { } thread)
                    found.Add(thread);
            }
            if (found.Count == 0)
                break;
            foreach (StoppedThread thread in found)
                thread.Interrupt();
            foreach (StoppedThread thread in found)
            {
                if (thread.WaitUntilStopped(whileWaiting, clock, Patience))
                    _threads.Add(thread.Tid, thread);
            }
        }
        if (_threads.Count == 0)
            throw new BadInputException($"process {Pid} ({info.Name}): exited while it was being stopped; a running process is expected");
        const ulong UserCode64 = 0x33;
        if (_threads.Values.Any(thread => thread.TryGetRegisters(out Native.UserRegs regs) && regs.cs != UserCode64))
            throw new BadInputException($"process {Pid} ({info.Name}): is running 32-bit code; a 64-bit x86 process is expected");
        return true;
    }

    private StoppedThread? SeizeThread(ProcessInfo info, int tid, int options)
    {
        StoppedThread thread = new(Pid, tid);
        int error = thread.Seize(options);
        if (error == 0)
            return thread;
        // Gone, or a zombie: a first thread that called pthread_exit stays listed for as long as the others live.
        if (error == ESRCH || ProcessInfo.ThreadState(Pid, tid) is null or 'Z' or 'X')
            return null;
        string who = $"process {Pid} ({info.Name})";
        ProcessInfo now = ProcessInfo.Read(Pid);
        throw new BadInputException(now switch
        {
            { TracerPid: not 0 } when now.TracerPid != Environment.ProcessId => $"{who}: is already traced by process {now.TracerPid}; detach that tracer first",
            { HasSeccomp: true } => $"{who}: has a seccomp filter and may not be traced around it ({Native.Describe(error)}); root is expected",
            _ => $"{who}: belongs to user {now.Uid} and may not be traced ({Native.Describe(error)}); run as that user or as root, and see kernel.yama.ptrace_scope",
        });
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

    /// <summary>Runs calls inside the target, on the thread that traces.</summary>
    internal T Inject<T>(IReadOnlyList<Mapping> mappings, Func<RemoteCalls, T> body) => _ptrace.Run(() =>
    {
        using TargetMemory memory = new(Pid);
        using RemoteCalls calls = new(Pid, ChooseThread(), memory, FindSyscallInstruction(memory, mappings), Patience);
        return body(calls);
    });

    /// <summary>Runs something on the thread that traces, for each thread.</summary>
    internal List<T> ForEachThread<T>(Func<StoppedThread, T> function) => _ptrace.Run(() => _threads.Values.Select(function).ToList());

    /// <summary>The threads, for what runs inside <see cref="Inject"/>.</summary>
    internal IReadOnlyCollection<StoppedThread> StoppedThreads => _threads.Values;

    private StoppedThread ChooseThread()
    {
        // Best one inside a system call: it can be in no restartable sequence.
        StoppedThread? any = null;
        foreach (StoppedThread thread in _threads.Values)
        {
            if (!thread.TryGetRegisters(out Native.UserRegs regs))
                continue;
            if ((long)regs.orig_rax >= 0)
                return thread;
            any ??= thread;
        }
        return any ?? throw new TargetGoneException($"process {Pid} ended");
    }

    private ulong FindSyscallInstruction(TargetMemory memory, IReadOnlyList<Mapping> mappings)
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
