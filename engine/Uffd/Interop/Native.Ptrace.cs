#pragma warning disable CS0649 // Fields that only the kernel writes.
using System.Runtime.InteropServices;

namespace Testbed.Uffd.Interop;

/// <summary>ptrace and waiting. All of it belongs to the one OS thread that seized.</summary>
internal static partial class Native
{
    [LibraryImport("libc", EntryPoint = "ptrace", SetLastError = true)]
    public static unsafe partial long Ptrace(long request, int tid, void* address, void* data);

    [LibraryImport("libc", EntryPoint = "waitid", SetLastError = true)]
    public static unsafe partial int WaitId(int idType, int id, SigInfo* info, int options);

    [KernelConstants("linux/ptrace.h")]
    public static class PtraceH
    {
        public const int PTRACE_CONT = 7, PTRACE_GETREGS = 12, PTRACE_SETREGS = 13, PTRACE_DETACH = 17, PTRACE_SYSCALL = 24,
            PTRACE_SETOPTIONS = 0x4200, PTRACE_GETSIGINFO = 0x4202, PTRACE_GETREGSET = 0x4204,
            PTRACE_SETREGSET = 0x4205, PTRACE_SEIZE = 0x4206, PTRACE_INTERRUPT = 0x4207, PTRACE_GETSIGMASK = 0x420a,
            PTRACE_SETSIGMASK = 0x420b, PTRACE_GET_RSEQ_CONFIGURATION = 0x420f;
        public const int PTRACE_O_TRACESYSGOOD = 1, PTRACE_O_SUSPEND_SECCOMP = 1 << 21, PTRACE_EVENT_STOP = 128;
    }

    [KernelConstants("linux/ptrace.h", Guard = "PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG")]
    public static class PtraceDispatchH
    {
        public const int PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG = 0x4211;
    }

    /// <summary>How a thread's system calls become signals (Syscall User Dispatch).</summary>
    [KernelStruct("struct ptrace_sud_config", "linux/ptrace.h", Guard = "PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG")]
    public struct DispatchConfiguration
    {
        public ulong mode;
        public ulong selector;
        public ulong offset;
        public ulong len;
    }

    [KernelConstants("linux/kcmp.h")]
    public static class Kcmp
    {
        public const int KCMP_VM = 1;
    }

    [KernelConstants("linux/elf.h")]
    public static class ElfH
    {
        public const int NT_X86_XSTATE = 0x202;
    }

    [KernelConstants("sys/wait.h")]
    public static class Wait
    {
        public const int P_PID = 1, WNOHANG = 1, WSTOPPED = 2, WEXITED = 4, WNOWAIT = 0x1000000, __WALL = 0x40000000;
    }

    [KernelConstants("signal.h")]
    public static class Signal
    {
        public const int SIGILL = 4, SIGTRAP = 5, SIGBUS = 7, SIGFPE = 8, SIGKILL = 9, SIGSEGV = 11, SIGSTOP = 19,
            SIGSYS = 31, CLD_EXITED = 1, CLD_KILLED = 2, CLD_DUMPED = 3;
        public const int SS_DISABLE = 2;
    }

    [KernelConstants("asm/sigcontext.h")]
    public static class SigContextH
    {
        public const uint FP_XSTATE_MAGIC1 = 0x46505853, FP_XSTATE_MAGIC2 = 0x46505845;
    }

    [KernelStruct("siginfo_t", "signal.h")]
    [StructLayout(LayoutKind.Explicit, Size = 128)]
    public struct SigInfo
    {
        [FieldOffset(0)] public int si_signo;
        [FieldOffset(4)] public int si_errno;
        [FieldOffset(8)] public int si_code;
        [FieldOffset(16)] public int si_pid;
        [FieldOffset(24)] public int si_status;
    }

    [KernelStruct("struct ptrace_rseq_configuration", "linux/ptrace.h")]
    public struct RseqConfiguration
    {
        public ulong rseq_abi_pointer;
        public uint rseq_abi_size;
        public uint signature;
        public uint flags;
        public uint pad;
    }

    [KernelStruct("struct user_regs_struct", "sys/user.h")]
    public struct UserRegs
    {
        public ulong r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi, orig_rax, rip, cs, eflags, rsp, ss,
            fs_base, gs_base, ds, es, fs, gs;
    }

    /// <summary>The integer registers in a signal frame.</summary>
    [KernelStruct("struct sigcontext_64", "asm/sigcontext.h")]
    [StructLayout(LayoutKind.Sequential)]
    public unsafe struct SigContext
    {
        public ulong r8, r9, r10, r11, r12, r13, r14, r15, di, si, bp, bx, dx, ax, cx, sp, ip, flags;
        public ushort cs, gs, fs, ss;
        public ulong err, trapno, oldmask, cr2, fpstate;
        public fixed ulong reserved1[8];
    }

    [KernelConstants("asm/signal.h;asm/sigcontext.h;asm/ucontext.h")]
    public static class UContextH
    {
        public const ulong UC_FP_XSTATE = 1, UC_SIGCONTEXT_SS = 2, UC_STRICT_RESTORE_SS = 4;
    }

    /// <summary>What follows the return address in an rt signal frame.</summary>
    [KernelStruct("struct ucontext", "asm/signal.h;asm/sigcontext.h;asm/ucontext.h")]
    public struct UContext
    {
        public ulong uc_flags, uc_link;
        [KernelField("uc_stack.ss_sp")] public ulong ss_sp;
        [KernelField("uc_stack.ss_flags")] public int ss_flags;
        [KernelField("uc_stack.ss_size")] public ulong ss_size;
        public SigContext uc_mcontext;
        public ulong uc_sigmask;
    }
}
