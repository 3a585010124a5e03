using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;
using Testbed.Uffd.Interop;

namespace Testbed.Uffd;

/// <summary>
/// A signal frame that brings a thread back to where it was stopped. A thread that is made to call something executes
/// <c>syscall; mov $15,%eax; syscall</c> with its stack pointer here: when its tracer dies in the middle, the thread itself
/// goes on to rt_sigreturn, and from there to its own business. (Layout: arch/x86/include/asm/sigframe.h.)
/// </summary>
internal static class SignalFrame
{
    /// <summary>syscall; mov $__NR_rt_sigreturn,%eax; syscall; and a trap that is never reached.</summary>
    public static ReadOnlySpan<byte> Code => [0x0f, 0x05, 0xb8, Native.Nr.__NR_rt_sigreturn, 0, 0, 0, 0x0f, 0x05, 0xcc];

    // The kernel takes the frame's address to be the stack pointer minus the return address that a handler would have popped.
    private const int ReturnAddress = 8;
    private const int LegacyXsave = 512, XsaveHeader = 64, SoftwareBytes = 464;

    /// <summary>The stack pointer with which a thread finds a frame at <paramref name="address"/>.</summary>
    public static ulong StackPointer(ulong address) => address + ReturnAddress;

    /// <summary>The frame's bytes for a place at <paramref name="address"/>, a multiple of 64.</summary>
    public static byte[] Build(ulong address, in Native.UserRegs stopped, ulong mask, ReadOnlySpan<byte> xsave)
    {
        int fpu = (ReturnAddress + Marshal.SizeOf<Native.UContext>() + 128 + 63) & ~63;
        byte[] fpstate = FloatingPoint(xsave);
        byte[] frame = new byte[fpu + fpstate.Length];
        Native.UserRegs r = AfterRestart(stopped);
        Native.UContext context = new()
        {
            uc_flags = Native.UContextH.UC_FP_XSTATE | Native.UContextH.UC_SIGCONTEXT_SS | Native.UContextH.UC_STRICT_RESTORE_SS,
            // No flags like these exist: the kernel refuses them in silence, and the thread keeps the signal stack that it has.
            ss_flags = 0x12345,
            uc_sigmask = mask,
            uc_mcontext = new Native.SigContext
            {
                r8 = r.r8,
                r9 = r.r9,
                r10 = r.r10,
                r11 = r.r11,
                r12 = r.r12,
                r13 = r.r13,
                r14 = r.r14,
                r15 = r.r15,
                di = r.rdi,
                si = r.rsi,
                bp = r.rbp,
                bx = r.rbx,
                dx = r.rdx,
                ax = r.rax,
                cx = r.rcx,
                sp = r.rsp,
                ip = r.rip,
                flags = r.eflags,
                cs = (ushort)r.cs,
                ss = (ushort)r.ss,
                fpstate = address + (ulong)fpu,
            },
        };
        MemoryMarshal.Write(frame.AsSpan(ReturnAddress), context);
        fpstate.CopyTo(frame.AsSpan(fpu));
        return frame;
    }

    /// <summary>The registers as the kernel would leave them had it restarted the interrupted call itself.</summary>
    public static Native.UserRegs AfterRestart(Native.UserRegs regs)
    {
        const ulong SyscallInstruction = 2;
        if ((long)regs.orig_rax < 0)
            return regs;
        switch ((long)regs.rax)
        {
            case -512 or -513 or -514:
                regs.rax = regs.orig_rax;
                regs.rip -= SyscallInstruction;
                break;
            case -516:
                regs.rax = Native.Nr.__NR_restart_syscall;
                regs.rip -= SyscallInstruction;
                break;
        }
        regs.orig_rax = ulong.MaxValue;
        return regs;
    }

    private static byte[] FloatingPoint(ReadOnlySpan<byte> xsave)
    {
        // Only the parts in use: the kernel refuses a frame that is longer than the thread's own permission (AMX).
        ulong inUse = BinaryPrimitives.ReadUInt64LittleEndian(xsave[LegacyXsave..]) | 3;
        int size = LegacyXsave + XsaveHeader;
        for (int part = 2; part < 63; part++)
        {
            if ((inUse >> part & 1) == 0)
                continue;
            (int bytes, int offset, _, _) = X86Base.CpuId(0xD, part);
            size = Math.Max(size, offset + bytes);
        }
        size = Math.Min(size, xsave.Length);
        byte[] state = new byte[size + sizeof(uint)];
        xsave[..size].CopyTo(state);
        Span<byte> software = state.AsSpan(SoftwareBytes, LegacyXsave - SoftwareBytes);
        software.Clear();
        BinaryPrimitives.WriteUInt32LittleEndian(software, Native.SigContextH.FP_XSTATE_MAGIC1);
        BinaryPrimitives.WriteInt32LittleEndian(software[4..], size + sizeof(uint));
        BinaryPrimitives.WriteUInt64LittleEndian(software[8..], inUse);
        BinaryPrimitives.WriteInt32LittleEndian(software[16..], size);
        BinaryPrimitives.WriteUInt32LittleEndian(state.AsSpan(size), Native.SigContextH.FP_XSTATE_MAGIC2);
        return state;
    }
}
