using System.Diagnostics;
using Testbed.Core;
using Testbed.Uffd.Interop;
using static Testbed.Uffd.Interop.Native.E;
using static Testbed.Uffd.Interop.Native.Nr;
using static Testbed.Uffd.Interop.Native.PtraceH;

namespace Testbed.Uffd;

/// <summary>One seized thread. All members belong to the ptrace thread.</summary>
internal sealed unsafe class StoppedThread(int pid, int tid)
{
    private const long ERESTARTNOHAND = 514; // Kernel-internal: restart the call unless a handler runs first.
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

    /// <summary>Waits until it stands still; signals that come first are delivered.</summary>
    /// <returns>False when it has ended.</returns>
    public bool WaitUntilStopped(Action? whileWaiting, Stopwatch clock, TimeSpan limit)
    {
        while (WaitForReport(whileWaiting, clock, limit) is { } status)
        {
            if (status >> 8 == PTRACE_EVENT_STOP)
            {
                RestartInterruptedCall();
                return true;
            }
            // A stop of another kind takes the request back, so it is made again. The signal is the program's own.
            Interrupt();
            Resume(PTRACE_CONT, status >> 8 == 0 && (status & 0x80) == 0 ? status & 0x7f : 0);
        }
        return false;
    }

    /// <summary>Lets it run on, with a signal if there is one to deliver.</summary>
    public void Resume(int how, int signal) => Ptrace(how, null, (void*)signal);

    /// <summary>Stops tracing it: it runs on, or stays in its group-stop.</summary>
    public void Detach() => Ptrace(PTRACE_DETACH, null, null);

    /// <summary>The next stop: the signal, with the event in the second byte.</summary>
    /// <returns>Null when the thread has ended.</returns>
    /// <exception cref="BadInputException">The time is up.</exception>
    public int? WaitForReport(Action? whileWaiting, Stopwatch clock, TimeSpan limit)
    {
        // There is no descriptor to wait on, and no blocking wait: a thread may need our answer before it can stop.
        for (int round = 0; ; round++)
        {
            Native.SigInfo info = default;
            const int Kinds = Native.Wait.WEXITED | Native.Wait.WSTOPPED | Native.Wait.__WALL | Native.Wait.WNOHANG;
            if (Native.WaitId(Native.Wait.P_PID, tid, &info, Kinds | Native.Wait.WNOWAIT) < 0)
            {
                if (Native.Errno == EINTR)
                    continue;
                return null;
            }
            if (info.si_pid == tid)
                return Take(info, Kinds);
            whileWaiting?.Invoke();
            if (clock.Elapsed > limit)
                throw new BadInputException($"thread {tid} of process {pid}: does not stop within {limit.TotalSeconds:0} s (state {ProcessInfo.ThreadState(pid, tid)}); a process whose threads can be interrupted is expected");
            if (round < 200)
                Thread.Yield();
            else
                Thread.Sleep(round < 2000 ? 0 : 1);
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
    /// runs, EINTR if one does.
    /// </summary>
    private void RestartInterruptedCall()
    {
        if (TryGetRegisters(out Native.UserRegs regs) && (long)regs.rax == -EINTR && NotRestartedCalls.Contains(regs.orig_rax))
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

    public TargetGoneException Gone() => new($"thread {tid} of process {pid} ended");

    private long Ptrace(int request, void* address, void* data) => Native.Ptrace(request, tid, address, data);

    private void Check(long result, string what)
    {
        if (result >= 0)
            return;
        throw Native.Errno == ESRCH ? Gone() : new InvalidOperationException($"{what} of thread {tid}: {Native.Describe(Native.Errno)}");
    }
}
