using System.Runtime.InteropServices;
using Testbed.Core;
using Testbed.Uffd.Interop;
using static Testbed.Uffd.Interop.Native.Nr;

namespace Testbed.Uffd;

/// <summary>A process held by descriptor: it cannot be confused with a later one of the same pid.</summary>
public sealed class PidFd : IDisposable
{
    /// <summary>The descriptor; readable once the process has exited.</summary>
    public int Fd { get; }

    /// <summary>Opens it.</summary>
    /// <exception cref="BadInputException">There is no such process.</exception>
    public PidFd(int pid)
    {
        Fd = (int)Native.Syscall(__NR_pidfd_open, pid, 0);
        if (Fd < 0)
            throw new BadInputException($"process {pid}: {Native.Describe(Native.Errno)}; the pid of a running process is expected");
    }

    /// <summary>One that was sent to us, open.</summary>
    public PidFd(in ChannelMessage message) => Fd = message.Descriptor;

    /// <summary>Ends the process at once, if it still runs.</summary>
    public void Kill() => _ = Native.Syscall(__NR_pidfd_send_signal, Fd, Native.Signal.SIGKILL);

    /// <summary>A copy of a descriptor of the process.</summary>
    /// <returns>The descriptor here, or minus the error number.</returns>
    public int Get(int remote)
    {
        long fd = Native.Syscall(__NR_pidfd_getfd, Fd, remote, 0);
        return fd < 0 ? -Native.Errno : (int)fd;
    }

    /// <summary>Waits for the end of the process.</summary>
    /// <returns>False when the time was up first.</returns>
    public unsafe bool WaitForExit(TimeSpan limit)
    {
        Native.PollFd poll = new() { fd = Fd, events = Native.PollH.POLLIN };
        return Native.Poll(&poll, 1, (int)limit.TotalMilliseconds) > 0;
    }

    /// <inheritdoc/>
    public void Dispose() => _ = Native.Close(Fd);
}

/// <summary>Creates a userfaultfd inside the target: its context is the memory of whoever creates it.</summary>
internal static class RemoteUffd
{
    private const ulong Flags = Native.Fcntl.O_CLOEXEC | Native.Fcntl.O_NONBLOCK;
    private const string Device = "/dev/userfaultfd";

    /// <summary>Creates it.</summary>
    /// <returns>Its number in the target.</returns>
    /// <exception cref="BadInputException">The kernel does not let the target have one.</exception>
    public static int Create(RemoteCalls calls, PidFd target, int pid)
    {
        long fd = calls.Call(__NR_userfaultfd, Flags);
        // An unprivileged target may not make one that sees the kernel's own faults. We may, and it is the opening of
        // the device that is checked: open it here, and hand it over.
        if (fd == -Native.E.EPERM)
            fd = CreateByDevice(calls, target, pid);
        return fd >= 0 ? (int)fd : throw Refused(pid, (int)-fd);
    }

    private static BadInputException Refused(int pid, int errno) => new($"process {pid}: " + errno switch
    {
        Native.E.ENOSYS => "this kernel has no userfaultfd; one with CONFIG_USERFAULTFD is expected",
        Native.E.EMFILE => "has as many open files as it may (RLIMIT_NOFILE), and needs room for four more; "
            + $"raise that limit (prlimit --pid {pid} --nofile=...)",
        Native.E.ENFILE => "the system has as many open files as it may; raise fs.file-max",
        _ => $"may not create a userfaultfd ({Native.Describe(errno)}); "
            + $"run as root with {Device}, or set vm.unprivileged_userfaultfd to 1",
    });

    private static long CreateByDevice(RemoteCalls calls, PidFd target, int pid)
    {
        int device = Native.Open(Device, Native.Fcntl.O_RDWR | Native.Fcntl.O_CLOEXEC);
        if (device < 0)
            throw Refused(pid, Native.Errno);
        int ours = -1;
        int[] theirs = [];
        try
        {
            const ulong Kind = Native.Socket.SOCK_STREAM | Native.Fcntl.O_CLOEXEC;
            long error = calls.Call(__NR_socketpair, Native.Socket.AF_UNIX, Kind, 0, calls.Data);
            if (error < 0)
                return error;
            theirs = [calls.Memory.Read<int>(calls.Data), calls.Memory.Read<int>(calls.Data + 4)];
            ours = target.Get(theirs[0]);
            if (ours < 0)
                return ours;
            using DescriptorChannel channel = new(ours);
            ours = -1;
            if (!channel.Send('D', 0, device))
                throw new InvalidOperationException($"sendmsg: {Native.Describe(Native.Errno)}");
            int received = Receive(calls, theirs[1]);
            theirs = [.. theirs, received];
            return calls.Call(__NR_ioctl, (ulong)received, Native.UffdDevice.USERFAULTFD_IOC_NEW, Flags);
        }
        finally
        {
            foreach (int fd in theirs)
                _ = calls.Call(__NR_close, (ulong)fd);
            if (ours >= 0)
                _ = Native.Close(ours);
            _ = Native.Close(device);
        }
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Rights
    {
        public Native.CmsgHdr Header;
        public int Descriptor;
        public int Padding;
    }

    private const ulong RightsLength = 20; // CMSG_LEN(sizeof(int))

    private static unsafe int Receive(RemoteCalls calls, int socket)
    {
        // In the target's data page: the header, then the vector, the byte, and the descriptor.
        const ulong Vector = 64, Byte = 128, Control = 192;
        Span<byte> page = stackalloc byte[256];
        page.Clear();
        MemoryMarshal.Write(page, new Native.MsgHdr
        {
            msg_iov = calls.Data + Vector,
            msg_iovlen = 1,
            msg_control = calls.Data + Control,
            msg_controllen = (ulong)sizeof(Rights),
        });
        MemoryMarshal.Write(page[(int)Vector..], new Native.IoVec { iov_base = calls.Data + Byte, iov_len = 1 });
        calls.Memory.Write(calls.Data, page);
        long n = calls.Call(__NR_recvmsg, (ulong)socket, calls.Data, Native.Socket.MSG_CMSG_CLOEXEC);
        Rights rights = calls.Memory.Read<Rights>(calls.Data + Control);
        if (n != 1 || rights.Header.cmsg_len != RightsLength)
            throw new BadInputException($"the target cannot be handed a descriptor ({(n < 0 ? Native.Describe((int)-n) : "its table is full")}); room for three is expected");
        return rights.Descriptor;
    }
}
