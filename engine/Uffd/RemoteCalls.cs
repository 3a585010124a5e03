using System.Diagnostics;
using Testbed.Core;
using Testbed.Uffd.Interop;
using static Testbed.Uffd.Interop.Native.Nr;
using static Testbed.Uffd.Interop.Native.PtraceH;

namespace Testbed.Uffd;

/// <summary>
/// Makes one stopped thread of the target call the kernel, and puts it back as it was. All members belong to the ptrace
/// thread, except that a disposed one is inert.
/// <para>
/// A thread left alone in the middle, because its tracer died, finds its own way back: from the scratch pages by a
/// <see cref="SignalFrame"/> there, and from the first call (mmap of the scratch pages) and the last (their munmap) by a
/// <see cref="HomeFrame"/> on its stack. Where there can be none, these two calls are made in the vdso, and a tracer that
/// dies within those microseconds leaves the thread astray.
/// </para>
/// </summary>
internal sealed class RemoteCalls : IDisposable
{
    private const int CodePages = 1, FramePages = 5, DataPages = 1;
    private const ulong ScratchBytes = (CodePages + FramePages + DataPages) * PageNumber.Size;
    private const int SyscallStop = 0x80 | Native.Signal.SIGTRAP;
    private readonly StoppedThread _thread;
    private readonly int _pid;
    private readonly Action<string>? _onWaiting;
    private readonly Native.UserRegs _stopped;
    private readonly ulong _mask;
    private readonly ulong _gadget;
    private readonly HomeFrame? _home;
    private readonly List<int> _lateSignals = [];
    private readonly bool _isGuest;
    private readonly ulong _guestFrame;
    private ulong _scratch;
    private bool _changed, _broken, _said;

    /// <summary>
    /// All signals but those that the kernel forces on a thread for what it does itself. Blocked, such a signal would
    /// reset the program's own handler of it; open, we see it first, and the program never does.
    /// </summary>
    private static readonly ulong InjectionMask = ~((int[])[
        Native.Signal.SIGILL, Native.Signal.SIGTRAP, Native.Signal.SIGBUS, Native.Signal.SIGFPE, Native.Signal.SIGSEGV,
        Native.Signal.SIGSYS,
    ]).Aggregate(0ul, (mask, signal) => mask | 1ul << (signal - 1));

    private static readonly TimeSpan LookInterval = TimeSpan.FromSeconds(0.1), StuckAfter = TimeSpan.FromSeconds(0.7),
        NoticeAfter = TimeSpan.FromSeconds(3);

    /// <summary>Takes over a stopped thread.</summary>
    /// <param name="pid">Its process.</param>
    /// <param name="thread">The thread.</param>
    /// <param name="memory">The memory of its process.</param>
    /// <param name="gadget">Where a system call instruction is, for a thread without a <see cref="HomeFrame"/>.</param>
    /// <param name="mappings">The mappings of its process.</param>
    /// <param name="onWaiting">Told once when a call takes long, with the reason; or null.</param>
    public RemoteCalls(
        int pid, StoppedThread thread, TargetMemory memory, ulong gadget, IReadOnlyList<Mapping> mappings, Action<string>? onWaiting)
    {
        (_pid, _thread, _gadget, _onWaiting, Memory) = (pid, thread, gadget, onWaiting, memory);
        _stopped = LeaveRestartableSequence(thread.Registers);
        _mask = thread.SignalMask;
        _home = HomeFrame.TryWrite(thread, _stopped, _mask, memory, mappings);
        try
        {
            _scratch = MapScratch();
        }
        catch
        {
            Restore();
            throw;
        }
    }

    /// <summary>
    /// Takes over another stopped thread of the same process for a while. It uses the host's code, and a frame of its own: each thread needs
    /// one that leads back to itself.
    /// </summary>
    /// <param name="host">The thread that mapped the scratch pages, and outlives this.</param>
    /// <param name="thread">The other thread.</param>
    /// <param name="frame">Where in the target its frame goes: <see cref="FrameBytes"/> that nobody else uses meanwhile.</param>
    public RemoteCalls(RemoteCalls host, StoppedThread thread, ulong frame)
    {
        (_pid, _thread, _gadget, _onWaiting, Memory) = (host._pid, thread, host._gadget, host._onWaiting, host.Memory);
        (_isGuest, _guestFrame, _scratch, _changed) = (true, frame, host._scratch, true);
        _stopped = LeaveRestartableSequence(thread.Registers);
        _mask = thread.SignalMask;
        byte[] bytes = SignalFrame.Build(frame, _stopped, _mask, thread.ExtendedState());
        if (bytes.Length > (int)FrameBytes)
            throw new BadInputException($"process {_pid}: its vector registers take {bytes.Length} bytes; at most {FrameBytes} are expected");
        Memory.Write(frame, bytes);
    }

    /// <summary>What a thread's frame takes at most.</summary>
    public const ulong FrameBytes = FramePages * PageNumber.Size;

    /// <summary>The thread.</summary>
    public int Tid => _thread.Tid;

    /// <summary>The pages of the thread's stack that must stay as they are until the last call; empty when there are none.</summary>
    public PageRange HomePages => _home?.Pages ?? default;

    /// <summary>The target's memory.</summary>
    public TargetMemory Memory { get; }

    /// <summary>A page in the target for the arguments and answers of calls; 4,096 bytes, nobody else's.</summary>
    public ulong Data => _scratch + (CodePages + FramePages) * PageNumber.Size;

    private ulong Frame => _isGuest ? _guestFrame : _scratch + CodePages * PageNumber.Size;

    /// <summary>
    /// One call, to its end. The first is taken back when the thread cannot run; from then on there is something to be
    /// put in order in the target, so a call waits for as long as it takes, and says so once.
    /// </summary>
    /// <param name="number">The system call.</param>
    /// <param name="a">First argument.</param>
    /// <param name="b">Second.</param>
    /// <param name="c">Third.</param>
    /// <param name="d">Fourth.</param>
    /// <param name="e">Fifth.</param>
    /// <param name="f">Sixth.</param>
    /// <param name="whileWaiting">What must go on while the thread is inside, or null.</param>
    /// <returns>What the kernel returned: minus the error number when it failed.</returns>
    /// <exception cref="TargetGoneException">The thread ended.</exception>
    /// <exception cref="CallWithdrawnException">The first call was taken back.</exception>
    /// <exception cref="BadInputException">The first call became a signal.</exception>
    public long Call(int number, ulong a = 0, ulong b = 0, ulong c = 0, ulong d = 0, ulong e = 0, ulong f = 0, Action? whileWaiting = null)
    {
        if (_broken)
            return -Native.E.EFAULT;
        Native.UserRegs regs = _stopped;
        (regs.rax, regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9) = ((ulong)number, a, b, c, d, e, f);
        regs.orig_rax = ulong.MaxValue;
        if (_scratch != 0)
            (regs.rip, regs.rsp) = (_scratch, SignalFrame.StackPointer(Frame));
        else if (_home is not null)
            (regs.rip, regs.rsp) = (_home.Call, _home.StackPointer);
        else
            regs.rip = _gadget;
        // Registers before mask: a thread that finds its own way back gets its own mask back even if we die here.
        _thread.SetRegisters(regs);
        _thread.SignalMask = InjectionMask;
        int? signal = RunToSyscallStop(whileWaiting, isEntry: true) ?? RunToSyscallStop(whileWaiting, isEntry: false);
        return signal is null ? (long)_thread.Registers.rax : Break(signal.Value);
    }

    private long Break(int signal)
    {
        _broken = true;
        if (_changed)
            return -Native.E.EFAULT;
        string name = signal == Native.Signal.SIGSYS ? " (SIGSYS: Syscall User Dispatch or seccomp)" : "";
        throw new BadInputException(
            $"process {_pid}: a call made on its behalf became signal {signal}{name}, which the program does not see; "
            + "a process that may make calls is expected");
    }

    /// <summary>Lets the thread run until it enters the kernel, or is about to leave it.</summary>
    /// <returns>Null; or the signal that the kernel forced on it instead.</returns>
    private int? RunToSyscallStop(Action? whileWaiting, bool isEntry)
    {
        string? withdrawn = null;
        while (true)
        {
            _thread.Resume(PTRACE_SYSCALL, 0);
            int status = AwaitReport(whileWaiting, isEntry && !_changed, ref withdrawn);
            if (status == SyscallStop)
                return null;
            if (status >> 8 == PTRACE_EVENT_STOP && withdrawn is not null)
                throw new CallWithdrawnException(withdrawn);
            if (status >> 8 != 0)
                continue;
            if (_thread.IsForced(status & 0x7f))
                return status & 0x7f;
            // SIGSTOP cannot be blocked: it is sent again when the thread is back in its own code.
            _lateSignals.Add(status & 0x7f);
        }
    }

    private int AwaitReport(Action? whileWaiting, bool mayWithdraw, ref string? withdrawn)
    {
        Stopwatch clock = Stopwatch.StartNew();
        TimeSpan look = LookInterval;
        for (Backoff backoff = default; ; backoff.Pause())
        {
            if (_thread.TryTakeReport(out int? status))
                return status ?? throw _thread.Gone();
            whileWaiting?.Invoke();
            if (clock.Elapsed < look)
                continue;
            look += LookInterval;
            if (mayWithdraw && withdrawn is null && WhyStuck(clock.Elapsed) is { } why)
            {
                // It stops before it makes the call, now or when it is let go; or it makes the call after all, and all
                // is well.
                withdrawn = why;
                _thread.Interrupt();
            }
            SayLate(clock.Elapsed);
        }
    }

    private string? WhyStuck(TimeSpan elapsed)
    {
        if (CgroupFreezer.WhyFrozen(_pid) is { } frozen)
            return frozen;
        char? state = ProcessInfo.ThreadState(_pid, _thread.Tid);
        return (elapsed > StuckAfter && state == 'D') || elapsed > TracedProcess.Patience
            ? $"thread {_thread.Tid} does not run (state {state}); a process whose threads can run is expected"
            : null;
    }

    private void SayLate(TimeSpan elapsed)
    {
        if (_said || elapsed < NoticeAfter)
            return;
        _said = true;
        string why = CgroupFreezer.WhyFrozen(_pid) ?? $"is in state {ProcessInfo.ThreadState(_pid, _thread.Tid)}";
        _onWaiting?.Invoke(
            $"process {_pid}: {why}; thread {_thread.Tid} is in the middle of a call made on its behalf, "
            + "and is put back when it runs");
    }

    /// <summary>
    /// After a call outside the scratch pages: its own state at once, before anything that takes time. Killed before the first call, or between
    /// two of them, we leave a thread that runs on.
    /// </summary>
    private void GoHome()
    {
        _thread.SetRegisters(SignalFrame.AfterRestart(_stopped));
        _thread.SignalMask = _mask;
    }

    private ulong MapScratch()
    {
        // Shared, so that it never merges with a mapping of the target's own.
        long address = Call(__NR_mmap, 0, ScratchBytes, Native.Mman.PROT_READ | Native.Mman.PROT_WRITE,
            Native.Mman.MAP_SHARED | Native.Mman.MAP_ANONYMOUS, ulong.MaxValue);
        if (address is < 0 and > -4096)
            throw new BadInputException($"process {_pid}: has no room for a scratch page ({Native.Describe((int)-address)})");
        ulong scratch = (ulong)address;
        _changed = true;
        GoHome();
        byte[] frame = SignalFrame.Build(scratch + CodePages * PageNumber.Size, _stopped, _mask, _thread.ExtendedState());
        if (frame.Length > FramePages * PageNumber.Size)
            throw new BadInputException($"process {_pid}: its vector registers take {frame.Length} bytes; at most {FramePages * PageNumber.Size} are expected");
        Memory.Write(scratch, SignalFrame.Code);
        Memory.Write(scratch + CodePages * PageNumber.Size, frame);
        long error = Call(__NR_mprotect, scratch, CodePages * PageNumber.Size, Native.Mman.PROT_READ | Native.Mman.PROT_EXEC);
        GoHome();
        if (error >= 0)
            return scratch;
        _ = Call(__NR_munmap, scratch, ScratchBytes);
        throw new BadInputException($"process {_pid}: may not map code of ours ({Native.Describe((int)-error)}); a process without such a security policy is expected");
    }

    /// <summary>
    /// A restartable sequence (rseq) must not be continued after the thread did something else in the middle; the kernel would
    /// send it to its abort handler, and so do we.
    /// </summary>
    private Native.UserRegs LeaveRestartableSequence(Native.UserRegs regs)
    {
        const uint SequenceOffset = 8; // struct rseq: rseq_cs; struct rseq_cs: version, flags, start_ip, post_commit_offset, abort_ip
        (ulong address, uint size) = _thread.RestartableSequences();
        if (size == 0 || (long)regs.orig_rax >= 0)
            return regs;
        ulong sequence = Memory.Read<ulong>(address + SequenceOffset);
        if (sequence == 0)
            return regs;
        ulong start = Memory.Read<ulong>(sequence + 8), length = Memory.Read<ulong>(sequence + 16);
        if (regs.rip - start < length)
            regs.rip = Memory.Read<ulong>(sequence + 24);
        return regs;
    }

    /// <summary>Gives the scratch pages back, and the thread its own state, in the same kind of stop as it was found in.</summary>
    public void Dispose()
    {
        if (_scratch == 0)
            return;
        try
        {
            ulong scratch = _scratch;
            _scratch = 0;
            if (!_isGuest)
                _ = Call(__NR_munmap, scratch, ScratchBytes);
            Restore();
        }
        catch (TargetGoneException)
        {
            // Nothing is left to be put back.
        }
    }

    /// <summary>Ends the injection without putting anything back, as the death of the tracer would. For the test of just that.</summary>
    internal void Abandon() => _scratch = 0;

    private void Restore()
    {
        // As if the kernel had restarted the interrupted call already, in case we die before the last line.
        _thread.SetRegisters(SignalFrame.AfterRestart(_stopped));
        _thread.SignalMask = _mask;
        // Back to a stop on the way to user mode. There the kernel itself decides about restart and signals, from the
        // registers as they were: it knows what is pending, and whether a handler is going to run.
        _thread.Interrupt();
        _thread.Resume(PTRACE_CONT, 0);
        Stopwatch clock = Stopwatch.StartNew();
        bool? stopped;
        for (Backoff backoff = default; (stopped = _thread.LookForStop()) is null; backoff.Pause())
            SayLate(clock.Elapsed);
        if (stopped == true)
            _thread.SetRegisters(_stopped);
        _home?.Remove(Memory);
        foreach (int signal in _lateSignals)
            _ = Native.Syscall(__NR_tgkill, _pid, _thread.Tid, signal);
        _lateSignals.Clear();
    }
}
