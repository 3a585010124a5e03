#pragma warning disable CS0649 // Fields that only the kernel writes.
using System.Runtime.InteropServices;

namespace Testbed.Uffd.Interop;

/// <summary>
/// Every call into the kernel that .NET does not offer. Calls return what the kernel returns; on -1 the reason is
/// <see cref="Errno"/>. Constants and structs carry the kernel's names and are checked against its headers by a test.
/// </summary>
internal static partial class Native
{
    /// <summary>The error of the last failed call on this thread.</summary>
    public static int Errno => Marshal.GetLastPInvokeError();

    /// <summary>The error in words.</summary>
    public static string Describe(int errno) => Marshal.GetPInvokeErrorMessage(errno);

    [KernelConstants("errno.h")]
    public static class E
    {
        public const int EPERM = 1, ENOENT = 2, ESRCH = 3, EINTR = 4, EIO = 5, EBADF = 9, EAGAIN = 11, ENOMEM = 12, EACCES = 13,
            EFAULT = 14, EBUSY = 16, EEXIST = 17, EINVAL = 22, ENFILE = 23, EMFILE = 24, ENOTTY = 25, ENOSPC = 28,
            ENOSYS = 38, ECONNRESET = 104;
    }

    [LibraryImport("libc", EntryPoint = "close", SetLastError = true)]
    public static partial int Close(int fd);

    [LibraryImport("libc", EntryPoint = "open", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int Open(string path, int flags);

    [LibraryImport("libc", EntryPoint = "read", SetLastError = true)]
    public static unsafe partial nint Read(int fd, void* buffer, nint count);

    [LibraryImport("libc", EntryPoint = "pread", SetLastError = true)]
    public static unsafe partial nint Pread(int fd, void* buffer, nint count, long offset);

    [LibraryImport("libc", EntryPoint = "ioctl", SetLastError = true)]
    public static unsafe partial int Ioctl(int fd, ulong request, void* argument);

    [LibraryImport("libc", EntryPoint = "poll", SetLastError = true)]
    public static unsafe partial int Poll(PollFd* fds, ulong count, int timeoutMilliseconds);

    [LibraryImport("libc", EntryPoint = "eventfd", SetLastError = true)]
    public static partial int EventFd(uint initial, int flags);

    [LibraryImport("libc", EntryPoint = "write", SetLastError = true)]
    public static unsafe partial nint Write(int fd, void* buffer, nint count);

    [LibraryImport("libc", EntryPoint = "sendmsg", SetLastError = true)]
    public static unsafe partial nint SendMsg(int fd, MsgHdr* message, int flags);

    [LibraryImport("libc", EntryPoint = "recvmsg", SetLastError = true)]
    public static unsafe partial nint RecvMsg(int fd, MsgHdr* message, int flags);

    [LibraryImport("libc", EntryPoint = "setsockopt", SetLastError = true)]
    public static unsafe partial int SetSockOpt(int fd, int level, int name, void* value, uint length);

    [LibraryImport("libc", EntryPoint = "socketpair", SetLastError = true)]
    public static unsafe partial int SocketPair(int domain, int type, int protocol, int* fds);

    [LibraryImport("libc", EntryPoint = "setns", SetLastError = true)]
    public static partial int SetNs(int fd, int kind);

    [LibraryImport("libc", EntryPoint = "getpid")]
    public static partial int GetPid();

    /// <summary>The raw system call, for those that libc does not wrap.</summary>
    [LibraryImport("libc", EntryPoint = "syscall", SetLastError = true)]
    public static partial long Syscall(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0, long f = 0);

    [KernelConstants("asm/unistd.h")]
    public static class Nr
    {
        public const int __NR_mmap = 9, __NR_mprotect = 10, __NR_munmap = 11, __NR_ioctl = 16, __NR_close = 3, __NR_open = 2,
            __NR_madvise = 28, __NR_getpid = 39, __NR_socketpair = 53, __NR_recvmsg = 47, __NR_userfaultfd = 323,
            __NR_pidfd_open = 434, __NR_pidfd_getfd = 438, __NR_tgkill = 234, __NR_restart_syscall = 219,
            __NR_rt_sigreturn = 15, __NR_rt_sigprocmask = 14, __NR_poll = 7, __NR_clone = 56, __NR_exit_group = 231,
            __NR_pidfd_send_signal = 424, __NR_kcmp = 312, __NR_gettid = 186, __NR_flock = 73, __NR_mlock = 149, __NR_fallocate = 285,
            __NR_memfd_create = 319, __NR_munlock = 150, __NR_mlock2 = 325, __NR_prctl = 157, __NR_get_robust_list = 274;

        // The calls that an interruption ends with EINTR although no handler ran, see StoppedThread.
        public const int __NR_read = 0, __NR_write = 1, __NR_readv = 19, __NR_writev = 20, __NR_accept = 43, __NR_sendto = 44,
            __NR_recvfrom = 45, __NR_sendmsg = 46, __NR_semop = 65, __NR_rt_sigtimedwait = 128, __NR_io_getevents = 208,
            __NR_semtimedop = 220, __NR_epoll_wait = 232, __NR_epoll_pwait = 281, __NR_accept4 = 288, __NR_recvmmsg = 299,
            __NR_sendmmsg = 307, __NR_io_pgetevents = 333, __NR_io_uring_enter = 426, __NR_epoll_pwait2 = 441;
    }

    [KernelConstants("linux/prctl.h")]
    public static class Prctl
    {
        public const int PR_GET_TID_ADDRESS = 40;
    }

    [KernelConstants("linux/futex.h")]
    public static class Futex
    {
        public const int ROBUST_LIST_LIMIT = 2048;
    }

    [KernelConstants("linux/sched.h")]
    public static class Sched
    {
        public const ulong CLONE_VM = 0x100, CLONE_FILES = 0x400;
    }

    [KernelConstants("fcntl.h")]
    public static class Fcntl
    {
        public const int O_RDONLY = 0, O_RDWR = 2, O_NONBLOCK = 0x800, O_CLOEXEC = 0x80000;
    }

    [KernelConstants("sys/file.h")]
    public static class FileLock
    {
        public const int LOCK_EX = 2, LOCK_NB = 4;
    }

    [KernelConstants("linux/memfd.h")]
    public static class Memfd
    {
        public const int MFD_CLOEXEC = 1;
    }

    [KernelConstants("poll.h")]
    public static class PollH
    {
        public const short POLLIN = 1, POLLOUT = 4, POLLERR = 8, POLLHUP = 16;
    }

    [KernelStruct("struct pollfd", "poll.h")]
    public struct PollFd
    {
        public int fd;
        public short events;
        public short revents;
    }

    [KernelConstants("sys/socket.h")]
    public static class Socket
    {
        public const int AF_UNIX = 1, SOCK_STREAM = 1, SOCK_SEQPACKET = 5, SOL_SOCKET = 1, SO_PASSCRED = 16,
            SCM_RIGHTS = 1, SCM_CREDENTIALS = 2, MSG_CMSG_CLOEXEC = 0x40000000,
            MSG_NOSIGNAL = 0x4000, MSG_DONTWAIT = 0x40;
    }

    [KernelStruct("struct iovec", "sys/uio.h")]
    public struct IoVec
    {
        public ulong iov_base;
        public ulong iov_len;
    }

    [KernelStruct("struct msghdr", "sys/socket.h")]
    public struct MsgHdr
    {
        public ulong msg_name;
        public uint msg_namelen;
        public ulong msg_iov;
        public ulong msg_iovlen;
        public ulong msg_control;
        public ulong msg_controllen;
        public int msg_flags;
    }

    [KernelStruct("struct cmsghdr", "sys/socket.h")]
    public struct CmsgHdr
    {
        public ulong cmsg_len;
        public int cmsg_level;
        public int cmsg_type;
    }
}
