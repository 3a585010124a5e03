#pragma warning disable CS0649 // Fields that only the kernel writes.
using System.Runtime.InteropServices;

namespace Testbed.Uffd.Interop;

/// <summary>Memory: our own, another process's, and what is present of it.</summary>
internal static partial class Native
{
    [LibraryImport("libc", EntryPoint = "mmap", SetLastError = true)]
    public static partial nint Mmap(nint address, nuint length, int protection, int flags, int fd, long offset);

    [LibraryImport("libc", EntryPoint = "munmap", SetLastError = true)]
    public static partial int Munmap(nint address, nuint length);

    [LibraryImport("libc", EntryPoint = "madvise", SetLastError = true)]
    public static partial int Madvise(nint address, nuint length, int advice);

    [LibraryImport("libc", EntryPoint = "process_vm_readv", SetLastError = true)]
    public static unsafe partial nint ProcessVmReadv(int pid, IoVec* local, ulong localCount, IoVec* remote, ulong remoteCount, ulong flags);

    [LibraryImport("libc", EntryPoint = "process_vm_writev", SetLastError = true)]
    public static unsafe partial nint ProcessVmWritev(int pid, IoVec* local, ulong localCount, IoVec* remote, ulong remoteCount, ulong flags);

    [LibraryImport("libc", EntryPoint = "sched_setaffinity", SetLastError = true)]
    public static unsafe partial int SchedSetAffinity(int tid, nuint size, ulong* mask);

    [KernelConstants("sys/mman.h")]
    public static class Mman
    {
        public const int PROT_NONE = 0, PROT_READ = 1, PROT_WRITE = 2, PROT_EXEC = 4, MAP_SHARED = 1, MAP_PRIVATE = 2, MAP_ANONYMOUS = 0x20,
            MAP_POPULATE = 0x8000, MAP_NORESERVE = 0x4000, MADV_DONTNEED = 4, MADV_DONTFORK = 10, MADV_POPULATE_READ = 22, MADV_POPULATE_WRITE = 23,
            MADV_DONTNEED_LOCKED = 24, MLOCK_ONFAULT = 1;
    }

    /// <summary>Where a thread's list of robust futexes begins, in its memory; 0 when it has none, or may not be asked.</summary>
    public static unsafe ulong GetRobustList(int tid)
    {
        ulong head = 0, length = 0;
        return Syscall(Nr.__NR_get_robust_list, tid, (long)&head, (long)&length) < 0 ? 0 : head;
    }

    [KernelConstants("linux/fs.h", Guard = "PAGEMAP_SCAN")]
    public static class PagemapScan
    {
        public const ulong PAGEMAP_SCAN = 0xC0606610;
        public const ulong PAGE_IS_FILE = 1 << 2, PAGE_IS_PRESENT = 1 << 3, PAGE_IS_SWAPPED = 1 << 4, PAGE_IS_PFNZERO = 1 << 5,
            PAGE_IS_HUGE = 1 << 6;
    }

    [KernelConstants("linux/fs.h", Guard = "PAGE_IS_GUARD")]
    public static class PagemapGuard
    {
        public const ulong PAGE_IS_GUARD = 1 << 8;
    }

    [KernelStruct("struct pm_scan_arg", "linux/fs.h", Guard = "PAGEMAP_SCAN")]
    public struct PmScanArg
    {
        public ulong size;
        public ulong flags;
        public ulong start;
        public ulong end;
        public ulong walk_end;
        public ulong vec;
        public ulong vec_len;
        public ulong max_pages;
        public ulong category_inverted;
        public ulong category_mask;
        public ulong category_anyof_mask;
        public ulong return_mask;
    }

    [KernelStruct("struct page_region", "linux/fs.h", Guard = "PAGEMAP_SCAN")]
    public struct PageRegion
    {
        public ulong start;
        public ulong end;
        public ulong categories;
    }
}
