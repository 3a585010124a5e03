using Testbed.Uffd.Interop;
using static Testbed.Uffd.Interop.Native.E;
using static Testbed.Uffd.Interop.Native.Nr;
using static Testbed.Uffd.Interop.Native.PtraceH;

namespace Testbed.Uffd;

/// <summary>One seized thread. All members belong to the ptrace thread.</summary>
internal sealed unsafe class StoppedThread(int pid, int tid)
{
    private const long ERESTARTNOHAND = 514; // Kernel-internal: restart the call unless a handler runs first.
    private const long ERESTART_RESTARTBLOCK = 516; // The same, by restart_syscall, which knows how much time is left.
    private static readonly HashSet<ulong> NotRestartedCalls =
    [
        __NR_read, __NR_write, __NR_readv, __NR_writev, __NR_accept, __NR_accept4, __NR_sendto, __NR_recvfrom, __NR_sendmsg, __NR_recvmmsg,
        __NR_recvmsg, __NR_sendmmsg, __NR_semop, __NR_semtimedop, __NR_rt_sigtimedwait, __NR_io_getevents, __NR_io_pgetevents,
        __NR_epoll_wait, __NR_epoll_pwait, __NR_epoll_pwait2, __NR_io_uring_enter,
    ];

    /// <summary>The thread.</summary>
    public int Tid => tid;

    /// <summary>Its process.</summary>
    public int Pid => pid;

    /// <summary>Starts to trace it, without stopping it.</summary>
    /// <returns>0 or the error number.</returns>
    public int Seize(int options) => Ptrace(PTRACE_SEIZE, null, (void*)options) < 0 ? Native.Errno : 0;

    /// <summary>Asks it to stop.</summary>
    public void Interrupt() => Ptrace(PTRACE_INTERRUPT, null, null);

    /// <summary>
    /// Looks once whether it stands still, as it was asked to; signals that come first are delivered.
    /// </summary>
    /// <returns>Null when it does not yet, false when it has ended.</returns>
    public bool? LookForStop()
    {
        while (TryTakeReport(out int? status))
        {
            if (status is null)
                return false;
            if (status >> 8 == PTRACE_EVENT_STOP)
            {
                RestartInterruptedCall();
                return true;
            }
            // A stop of another kind takes the request back, so it is made again. The signal is the program's own.
            Interrupt();
            Resume(PTRACE_CONT, status >> 8 == 0 && (status & 0x80) == 0 ? status.Value & 0x7f : 0);
        }
        return null;
    }

    /// <summary>Lets it run on, with a signal if there is one to deliver.</summary>
    public void Resume(int how, int signal) => Ptrace(how, null, (void*)signal);

    /// <summary>Stops tracing it: it runs on, or stays in its group-stop.</summary>
    public void Detach() => Ptrace(PTRACE_DETACH, null, null);

    /// <summary>
    /// Looks once for the next stop. There is no descriptor to wait on, and no blocking wait: a thread may need our
    /// answer before it can stop.
    /// </summary>
    /// <param name="status">The signal, with the event in the second byte; null when the thread has ended.</param>
    /// <returns>False when there is nothing new.</returns>
    public bool TryTakeReport(out int? status)
    {
        const int Kinds = Native.Wait.WEXITED | Native.Wait.WSTOPPED | Native.Wait.__WALL | Native.Wait.WNOHANG;
        status = null;
        while (true)
        {
            Native.SigInfo info = default;
            if (Native.WaitId(Native.Wait.P_PID, tid, &info, Kinds | Native.Wait.WNOWAIT) < 0)
            {
                if (Native.Errno == EINTR)
                    continue;
                return true;
            }
            if (info.si_pid != tid)
                return false;
            status = Take(info, Kinds);
            return true;
        }
    }

    private int? Take(Native.SigInfo info, int kinds)
    {
        bool ended = info.si_code is Native.Signal.CLD_EXITED or Native.Signal.CLD_KILLED or Native.Signal.CLD_DUMPED;
        // The exit of a child of ours is for whoever started it to collect.
        if (ended && tid == pid && ProcessInfo.ReadParent(pid) == Environment.ProcessId)
            return null;
        _ = Native.WaitId(Native.Wait.P_PID, tid, &info, kinds);
        return ended ? null : info.si_status;
    }

    /// <summary>
    /// Some calls end with EINTR when their thread is merely stopped, and the program would see an interruption that nobody
    /// sent. With ERESTARTNOHAND in its place the kernel does the right thing on its way out: the call again if no handler
    /// runs, EINTR if one does. Others go on by restart_syscall, which a seccomp filter may not know, and then kills the
    /// program for it: under a filter they begin anew, too.
    /// </summary>
    private void RestartInterruptedCall()
    {
        if (!TryGetRegisters(out Native.UserRegs regs))
            return;
        bool isForgotten = (long)regs.rax == -EINTR && NotRestartedCalls.Contains(regs.orig_rax);
        if (isForgotten || ((long)regs.rax == -ERESTART_RESTARTBLOCK && ProcessInfo.HasThreadSeccomp(pid, tid)))
        {
            regs.rax = unchecked((ulong)-ERESTARTNOHAND);
            SetRegisters(regs);
        }
    }

    public bool TryGetRegisters(out Native.UserRegs regs)
    {
        fixed (Native.UserRegs* p = &regs)
            return Ptrace(PTRACE_GETREGS, null, p) >= 0;
    }

    public Native.UserRegs Registers => TryGetRegisters(out Native.UserRegs regs) ? regs : throw Gone();

    public void SetRegisters(in Native.UserRegs regs)
    {
        fixed (Native.UserRegs* p = &regs)
            Check(Ptrace(PTRACE_SETREGS, null, p), "PTRACE_SETREGS");
    }

    /// <summary>The blocked signals; inside ppoll, sigsuspend and the like those that will be blocked again after it.</summary>
    public ulong SignalMask
    {
        get
        {
            ulong mask;
            Check(Ptrace(PTRACE_GETSIGMASK, (void*)sizeof(ulong), &mask), "PTRACE_GETSIGMASK");
            return mask;
        }
        set => Check(Ptrace(PTRACE_SETSIGMASK, (void*)sizeof(ulong), &value), "PTRACE_SETSIGMASK");
    }

    /// <summary>The vector and floating-point state, in the processor's XSAVE layout.</summary>
    public byte[] ExtendedState()
    {
        byte[] buffer = new byte[16384];
        fixed (byte* p = buffer)
        {
            Native.IoVec vector = new() { iov_base = (ulong)p, iov_len = (ulong)buffer.Length };
            Check(Ptrace(PTRACE_GETREGSET, (void*)Native.ElfH.NT_X86_XSTATE, &vector), "PTRACE_GETREGSET");
            return buffer[..(int)vector.iov_len];
        }
    }

    /// <summary>The bytes that the kernel itself writes when the thread moves between CPUs; empty when it registered none.</summary>
    public (ulong Address, uint Size) RestartableSequences()
    {
        Native.RseqConfiguration rseq;
        long size = Ptrace(PTRACE_GET_RSEQ_CONFIGURATION, (void*)sizeof(Native.RseqConfiguration), &rseq);
        return size > 0 ? (rseq.rseq_abi_pointer, rseq.rseq_abi_size) : default;
    }

    /// <summary>
    /// Whether its system calls are made into signals for the program to handle (Syscall User Dispatch, as Wine uses
    /// it); a call that we make would be, too. Kernels before 6.4 do not tell, and it is taken for one that has none.
    /// </summary>
    public bool DispatchesCalls
    {
        get
        {
            const int Request = Native.PtraceDispatchH.PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG;
            Native.DispatchConfiguration dispatch;
            return Ptrace(Request, (void*)sizeof(Native.DispatchConfiguration), &dispatch) >= 0 && dispatch.mode != 0;
        }
    }

    /// <summary>Sets its seccomp filters aside, or strict mode, for as long as it is traced.</summary>
    /// <returns>0 or the error number.</returns>
    public int SuspendSeccomp()
    {
        const int Options = PTRACE_O_TRACESYSGOOD | PTRACE_O_SUSPEND_SECCOMP;
        return Ptrace(PTRACE_SETOPTIONS, null, (void*)Options) < 0 ? Native.Errno : 0;
    }

    /// <summary>
    /// Whether the signal that it is about to get comes from the kernel, for something that the thread itself did.
    /// </summary>
    public bool IsForced(int signal)
    {
        if (signal is not (Native.Signal.SIGSYS or Native.Signal.SIGSEGV or Native.Signal.SIGBUS or Native.Signal.SIGILL
            or Native.Signal.SIGFPE or Native.Signal.SIGTRAP))
            return false;
        // Those that a process sends have codes of zero and below.
        Native.SigInfo info = default;
        return Ptrace(PTRACE_GETSIGINFO, null, &info) < 0 || info.si_code > 0;
    }

    public TargetGoneException Gone() => new($"thread {tid} of process {pid} ended");

    private long Ptrace(int request, void* address, void* data) => Native.Ptrace(request, tid, address, data);

    private void Check(long result, string what)
    {
        if (result >= 0)
            return;
        int error = Native.Errno;
        // Of a thread that stands still, only SIGKILL can make it go.
        if (error == ESRCH && IsDying())
            throw Gone();
        char? state = ProcessInfo.ThreadState(pid, tid);
        throw new InvalidOperationException($"{what} of thread {tid}: {Native.Describe(error)} (state {state})");
    }

    private bool IsDying()
    {
        // For an instant between taking the signal and beginning to exit it shows no sign of either.
        const int PatienceMilliseconds = 1000;
        long end = Environment.TickCount64 + PatienceMilliseconds;
        for (; !ProcessInfo.IsThreadDying(pid, tid); Thread.Sleep(1))
        {
            if (Environment.TickCount64 > end)
                return false;
        }
        return true;
    }
}
