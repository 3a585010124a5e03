using System.Runtime.CompilerServices;
using Testbed.Core;
using Testbed.Uffd.Interop;
using static Testbed.Uffd.Interop.Native.E;
using static Testbed.Uffd.Interop.Native.UffdH;

namespace Testbed.Uffd;

/// <summary>What the kernel made of a request to fill pages. All of these are expected while a process lives on.</summary>
public enum CopyOutcome : byte
{
    /// <summary>All pages asked for are in.</summary>
    Installed,

    /// <summary>The next page is there already (EEXIST): whoever waits for it must be woken.</summary>
    AlreadyPresent,

    /// <summary>The address space is being changed (EAGAIN): a message says how; read it first, then try again.</summary>
    Again,

    /// <summary>The next page is in no registered area any more (ENOENT).</summary>
    Gone,

    /// <summary>The address space is no more: the process exited, or called exec (ESRCH; ENOSPC before Linux 4.13).</summary>
    ProcessGone,
}

/// <summary>What to ask of a userfaultfd.</summary>
[Flags]
public enum UffdFeatures : ulong
{
    /// <summary>Page faults only.</summary>
    None = 0,

    /// <summary>Messages about forks.</summary>
    EventFork = UFFD_FEATURE_EVENT_FORK,

    /// <summary>Messages about mremap.</summary>
    EventRemap = UFFD_FEATURE_EVENT_REMAP,

    /// <summary>Messages about madvise that drops pages.</summary>
    EventRemove = UFFD_FEATURE_EVENT_REMOVE,

    /// <summary>Messages about munmap.</summary>
    EventUnmap = UFFD_FEATURE_EVENT_UNMAP,

    /// <summary>Faults name their thread.</summary>
    ThreadId = UFFD_FEATURE_THREAD_ID,

    /// <summary>Everything that serving a whole process needs.</summary>
    Process = EventFork | EventRemap | EventRemove | EventUnmap | ThreadId,
}

/// <summary>
/// A userfaultfd, seen from the daemon that serves it; the memory is another process's. Requests may be made from any
/// thread. Nothing here allocates. The object owns the descriptor.
/// </summary>
public sealed class UserFaultFd(int fd) : IDisposable
{
    private int _fd = fd;

    /// <summary>The descriptor, for poll: readable when there are messages, in error when the API call was not made.</summary>
    public int Fd => _fd;

    /// <summary>The handshake that must come first.</summary>
    /// <returns>All features that this kernel knows (a bit map of UFFD_FEATURE_*).</returns>
    /// <exception cref="BadInputException">The kernel refuses a feature.</exception>
    public unsafe ulong Api(UffdFeatures features)
    {
        Native.UffdioApi api = new() { api = UFFD_API, features = (ulong)features };
        if (Native.Ioctl(_fd, UFFDIO_API, &api) < 0)
            throw new BadInputException($"userfaultfd: the kernel refuses the features {features} ({Native.Describe(Native.Errno)}); Linux 5.7 or newer and CAP_SYS_PTRACE are expected");
        return api.features;
    }

    /// <summary>From now on the missing pages of <paramref name="range"/> fault to this descriptor.</summary>
    /// <returns>0, or the error number: EBUSY when another userfaultfd has it, EINVAL for an area of an unfit kind.</returns>
    public unsafe int Register(PageRange range)
    {
        Native.UffdioRegister register = new() { range = Of(range), mode = UFFDIO_REGISTER_MODE_MISSING };
        return Native.Ioctl(_fd, UFFDIO_REGISTER, &register) < 0 ? Native.Errno : 0;
    }

    /// <summary>Missing pages of <paramref name="range"/> are zero pages again; whoever waits in it is woken.</summary>
    /// <returns>0, or the error number: EINVAL when parts of it are no longer mapped or fit, ENOMEM when the process is gone.</returns>
    public unsafe int Unregister(PageRange range)
    {
        Native.UffdioRange r = Of(range);
        return Native.Ioctl(_fd, UFFDIO_UNREGISTER, &r) < 0 ? Native.Errno : 0;
    }

    /// <summary>Fills missing pages with the bytes at <paramref name="source"/> (in this process) and wakes who waits for them.</summary>
    /// <param name="destination">The first page, by its present address in the target.</param>
    /// <param name="source">The bytes, <paramref name="pages"/> times 4,096.</param>
    /// <param name="pages">How many, at least one.</param>
    /// <param name="done">How many went in; the outcome tells why it was not more.</param>
    /// <exception cref="InvalidOperationException">An error that no process can cause.</exception>
    public unsafe CopyOutcome Copy(PageNumber destination, nint source, long pages, out long done)
    {
        done = 0;
        bool lookedAgain = false;
        while (true)
        {
            Native.UffdioCopy copy = new()
            {
                dst = (destination + done).Address,
                src = (ulong)source + ((ulong)done << PageNumber.Shift),
                len = (ulong)(pages - done) << PageNumber.Shift,
            };
            if (Native.Ioctl(_fd, UFFDIO_COPY, &copy) == 0)
            {
                done = pages;
                return CopyOutcome.Installed;
            }
            int errno = Native.Errno;
            if (copy.copy > 0)
            {
                // Stopped half-way; the reason comes with the next attempt, from there on.
                done += copy.copy >> PageNumber.Shift;
                continue;
            }
            // A copy that waits for the lock that mremap holds looks for the area when that has moved it: no entry, although a
            // message is due, and the page would be lost. By the second look the kernel knows of the message: EAGAIN. A
            // second ENOENT means what it says.
            if (errno == ENOENT && !lookedAgain)
            {
                lookedAgain = true;
                continue;
            }
            return OutcomeOf(errno, "UFFDIO_COPY");
        }
    }

    /// <summary>Fills missing pages with zero pages and wakes who waits for them; outcome and progress as for Copy.</summary>
    public unsafe CopyOutcome Zero(PageRange range, out long done)
    {
        done = 0;
        while (true)
        {
            Native.UffdioZeropage zero = new() { range = Of(new PageRange(range.Start + done, range.Count - done)) };
            if (Native.Ioctl(_fd, UFFDIO_ZEROPAGE, &zero) == 0)
            {
                done = range.Count;
                return CopyOutcome.Installed;
            }
            int errno = Native.Errno;
            if (zero.zeropage > 0)
            {
                done += zero.zeropage >> PageNumber.Shift;
                continue;
            }
            return OutcomeOf(errno, "UFFDIO_ZEROPAGE");
        }
    }

    /// <summary>Wakes every thread that waits in <paramref name="range"/>: it touches again, and faults again if the page is missing.</summary>
    public unsafe void Wake(PageRange range)
    {
        Native.UffdioRange r = Of(range);
        _ = Native.Ioctl(_fd, UFFDIO_WAKE, &r);
    }

    /// <summary>Wakes every thread that waits anywhere.</summary>
    public void WakeAll()
    {
        // User addresses without the first 64 KiB, which vm.mmap_min_addr excludes.
        const ulong First = 0x10, End = (1ul << 35) - 1;
        Wake(new PageRange(new PageNumber(First), (long)(End - First)));
    }

    /// <summary>Reads the messages that are there, without waiting. Handle all others before the faults of the same batch.</summary>
    /// <returns>How many; 0 when there is none.</returns>
    /// <exception cref="InvalidOperationException">The descriptor cannot be read at all.</exception>
    public unsafe int Read(Span<UffdMessage> messages)
    {
        fixed (UffdMessage* p = messages)
        {
            nint n = Native.Read(_fd, p, messages.Length * sizeof(UffdMessage));
            if (n >= 0)
                return (int)(n / sizeof(UffdMessage));
            return Native.Errno is EAGAIN or EINTR ? 0 : throw Broken("read", Native.Errno);
        }
    }

    /// <summary>Waits until there is a message to read.</summary>
    /// <returns>False when the time was up first.</returns>
    public unsafe bool WaitReadable(int timeoutMilliseconds)
    {
        Native.PollFd poll = new() { fd = _fd, events = Native.PollH.POLLIN };
        return Native.Poll(&poll, 1, timeoutMilliseconds) > 0;
    }

    /// <summary>Whether the address space is still there: false once the process has exited or called exec.</summary>
    public unsafe bool IsAddressSpaceAlive()
    {
        // A copy that is to be write-protected is refused in areas that are not registered so, and ours are not: it fails
        // at any address and changes nothing. But first the kernel looks for the address space.
        const ulong Anywhere = 1 << 28;
        Native.UffdioCopy copy = new() { dst = Anywhere, src = Anywhere, len = PageNumber.Size, mode = UFFDIO_COPY_MODE_WP };
        return Native.Ioctl(_fd, UFFDIO_COPY, &copy) == 0 || Native.Errno is not (ESRCH or ENOSPC);
    }

    /// <summary>Takes a descriptor of which it is not sure what it is; one that is no userfaultfd is closed.</summary>
    public static UserFaultFd? TryAdopt(int fd)
    {
        if (File.ResolveLinkTarget($"/proc/self/fd/{fd}", returnFinalTarget: false)?.Name.Contains("[userfaultfd]", StringComparison.Ordinal) == true)
            return new UserFaultFd(fd);
        _ = Native.Close(fd);
        return null;
    }

    /// <summary>Closes the daemon's descriptor; others, in the target or its children, stay open.</summary>
    public void Dispose()
    {
        int fd = Interlocked.Exchange(ref _fd, -1);
        if (fd >= 0)
            _ = Native.Close(fd);
    }

    private static Native.UffdioRange Of(PageRange range) => new() { start = range.Start.Address, len = (ulong)range.Bytes };

    private static CopyOutcome OutcomeOf(int errno, string what) => errno switch
    {
        EEXIST => CopyOutcome.AlreadyPresent,
        EAGAIN => CopyOutcome.Again,
        ENOENT => CopyOutcome.Gone,
        ESRCH or ENOSPC => CopyOutcome.ProcessGone,
        _ => throw Broken(what, errno),
    };

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static InvalidOperationException Broken(string what, int errno) => new($"{what}: {Native.Describe(errno)}");
}
