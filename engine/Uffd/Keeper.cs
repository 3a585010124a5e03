using Testbed.Core;
using Testbed.Uffd.Interop;
using static Testbed.Uffd.Interop.Native.Nr;

namespace Testbed.Uffd;

/// <summary>
/// A process that shares our descriptors and does nothing: what we have open stays open when we are killed, also what the kernel opened for us
/// the moment before (a forked child's userfaultfd). As long as it is there, the other ends of our connections are not told that we are gone.
/// </summary>
public sealed unsafe class Keeper : IDisposable
{
    // clone(flags, 0), and in the child: poll(third argument, 1, -1); exit_group(0). Of our memory, which it shares so that it costs nothing, it
    // uses this code alone, and no stack.
    private static ReadOnlySpan<byte> Code =>
    [
        0xb8, __NR_clone, 0, 0, 0, 0x0f, 0x05, 0x85, 0xc0, 0x74, 0x01, 0xc3,
        0x48, 0x89, 0xd7, 0xbe, 1, 0, 0, 0, 0xba, 0xff, 0xff, 0xff, 0xff, 0xb8, __NR_poll, 0, 0, 0, 0x0f, 0x05,
        0x31, 0xff, 0xb8, __NR_exit_group, 0, 0, 0, 0x0f, 0x05,
    ];

    private readonly PidFd _until;
    private readonly int _pid;

    /// <summary>Starts it.</summary>
    /// <param name="until">The process for which it keeps them, and with which it ends; becomes this object's.</param>
    /// <exception cref="BadInputException">The kernel does not let us.</exception>
    public Keeper(PidFd until)
    {
        _until = until;
        nint code = Native.Mmap(0, 2 * (nuint)PageNumber.Size, Native.Mman.PROT_READ | Native.Mman.PROT_WRITE, Native.Mman.MAP_PRIVATE | Native.Mman.MAP_ANONYMOUS, -1, 0);
        if (code == -1)
            throw new BadInputException($"mmap: {Native.Describe(Native.Errno)}; room for two pages is expected");
        var poll = (Native.PollFd*)(code + (nint)PageNumber.Size);
        *poll = new() { fd = until.Fd, events = Native.PollH.POLLIN };
        Code.CopyTo(new Span<byte>((void*)code, Code.Length));
        _ = Native.Syscall(__NR_mprotect, code, PageNumber.Size, Native.Mman.PROT_READ | Native.Mman.PROT_EXEC);
        // No signal that is meant for us may run a handler of ours in it.
        const int SetMask = 2;
        ulong all = ulong.MaxValue, before;
        _ = Native.Syscall(__NR_rt_sigprocmask, SetMask, (long)&all, (long)&before, sizeof(ulong));
        long pid = ((delegate* unmanaged<ulong, nint, Native.PollFd*, long>)code)(Native.Sched.CLONE_VM | Native.Sched.CLONE_FILES, 0, poll);
        _ = Native.Syscall(__NR_rt_sigprocmask, SetMask, (long)&before, 0, sizeof(ulong));
        if (pid < 0)
            throw new BadInputException($"clone: {Native.Describe((int)-pid)}; room for a process is expected");
        _pid = (int)pid;
        Process = new PidFd(_pid);
    }

    /// <summary>The process.</summary>
    public PidFd Process { get; }

    /// <summary>Ends it.</summary>
    public void Dispose()
    {
        Process.Kill();
        Native.SigInfo info = default;
        _ = Native.WaitId(Native.Wait.P_PID, _pid, &info, Native.Wait.WEXITED | Native.Wait.__WALL);
        Process.Dispose();
        _until.Dispose();
    }
}
