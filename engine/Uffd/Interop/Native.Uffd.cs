namespace Testbed.Uffd.Interop;

/// <summary>userfaultfd, as in Documentation/admin-guide/mm/userfaultfd.rst.</summary>
internal static partial class Native
{
    [KernelConstants("linux/userfaultfd.h")]
    public static class UffdH
    {
        public const ulong UFFD_API = 0xAA;
        public const ulong UFFDIO_API = 0xC018AA3F, UFFDIO_REGISTER = 0xC020AA00, UFFDIO_UNREGISTER = 0x8010AA01,
            UFFDIO_WAKE = 0x8010AA02, UFFDIO_COPY = 0xC028AA03, UFFDIO_ZEROPAGE = 0xC020AA04;
        public const ulong UFFDIO_REGISTER_MODE_MISSING = 1, UFFDIO_COPY_MODE_DONTWAKE = 1, UFFDIO_COPY_MODE_WP = 2, UFFDIO_ZEROPAGE_MODE_DONTWAKE = 1;
        public const int _UFFDIO_COPY = 3, _UFFDIO_ZEROPAGE = 4, _UFFDIO_WAKE = 2;
        public const byte UFFD_EVENT_PAGEFAULT = 0x12, UFFD_EVENT_FORK = 0x13, UFFD_EVENT_REMAP = 0x14, UFFD_EVENT_REMOVE = 0x15,
            UFFD_EVENT_UNMAP = 0x16;
        public const ulong UFFD_PAGEFAULT_FLAG_WRITE = 1, UFFD_PAGEFAULT_FLAG_WP = 2, UFFD_PAGEFAULT_FLAG_MINOR = 4;
        public const ulong UFFD_FEATURE_PAGEFAULT_FLAG_WP = 1 << 0, UFFD_FEATURE_EVENT_FORK = 1 << 1, UFFD_FEATURE_EVENT_REMAP = 1 << 2,
            UFFD_FEATURE_EVENT_REMOVE = 1 << 3, UFFD_FEATURE_MISSING_HUGETLBFS = 1 << 4, UFFD_FEATURE_MISSING_SHMEM = 1 << 5,
            UFFD_FEATURE_EVENT_UNMAP = 1 << 6, UFFD_FEATURE_SIGBUS = 1 << 7, UFFD_FEATURE_THREAD_ID = 1 << 8,
            UFFD_FEATURE_MINOR_HUGETLBFS = 1 << 9, UFFD_FEATURE_MINOR_SHMEM = 1 << 10, UFFD_FEATURE_EXACT_ADDRESS = 1 << 11,
            UFFD_FEATURE_WP_HUGETLBFS_SHMEM = 1 << 12;
    }

    /// <summary>Linux 6.8.</summary>
    [KernelConstants("linux/userfaultfd.h", Guard = "UFFDIO_MOVE")]
    public static class UffdMove
    {
        public const ulong UFFDIO_MOVE = 0xC028AA05, UFFD_FEATURE_MOVE = 1 << 16;
        public const ulong UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES = 2;
    }

    [KernelConstants("linux/userfaultfd.h", Guard = "USERFAULTFD_IOC_NEW")]
    public static class UffdDevice
    {
        public const ulong USERFAULTFD_IOC_NEW = 0xAA00;
    }

    [KernelStruct("struct uffdio_api", "linux/userfaultfd.h")]
    public struct UffdioApi
    {
        public ulong api;
        public ulong features;
        public ulong ioctls;
    }

    [KernelStruct("struct uffdio_range", "linux/userfaultfd.h")]
    public struct UffdioRange
    {
        public ulong start;
        public ulong len;
    }

    [KernelStruct("struct uffdio_register", "linux/userfaultfd.h")]
    public struct UffdioRegister
    {
        public UffdioRange range;
        public ulong mode;
        public ulong ioctls;
    }

    [KernelStruct("struct uffdio_copy", "linux/userfaultfd.h")]
    public struct UffdioCopy
    {
        public ulong dst;
        public ulong src;
        public ulong len;
        public ulong mode;
        public long copy;
    }

    [KernelStruct("struct uffdio_move", "linux/userfaultfd.h", Guard = "UFFDIO_MOVE")]
    public struct UffdioMove
    {
        public ulong dst;
        public ulong src;
        public ulong len;
        public ulong mode;
        public long move;
    }

    [KernelStruct("struct uffdio_zeropage", "linux/userfaultfd.h")]
    public struct UffdioZeropage
    {
        public UffdioRange range;
        public ulong mode;
        public long zeropage;
    }
}
