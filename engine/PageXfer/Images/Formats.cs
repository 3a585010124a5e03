namespace Testbed.PageXfer.Images;

/// <summary>The words at the head of CRIU's image files (format version 1.1, as of CRIU 4.2).</summary>
public static class ImageMagic
{
    /// <summary>The first word of every image but the inventory.</summary>
    public const uint Common = 0x54564319;

    /// <summary>The first word of service files such as statistics.</summary>
    public const uint Service = 0x55105940;

    /// <summary>inventory.img; the only word there.</summary>
    public const uint Inventory = 0x58313116;

    /// <summary>pstree.img.</summary>
    public const uint Pstree = 0x50273030;

    /// <summary>mm-PID.img.</summary>
    public const uint Mm = 0x57492820;

    /// <summary>pagemap-PID.img and pagemap-shmem-ID.img.</summary>
    public const uint Pagemap = 0x56084025;

    /// <summary>core-PID.img.</summary>
    public const uint Core = 0x55053847;

    /// <summary>ids-PID.img.</summary>
    public const uint Ids = 0x54432030;

    /// <summary>stats-dump and stats-restore; behind the service magic.</summary>
    public const uint Stats = 0x57093306;

    /// <summary>irmap-cache; behind the service magic.</summary>
    public const uint IrmapCache = 0x57004059;
}

/// <summary>Where the pages of a pagemap entry are. CRIU's values, in images and on the wire.</summary>
[Flags]
public enum PagemapFlags : uint
{
    /// <summary>Nowhere.</summary>
    None = 0,

    /// <summary>PE_PARENT: unchanged since the parent images.</summary>
    Parent = 1,

    /// <summary>PE_LAZY: may be restored on demand.</summary>
    Lazy = 2,

    /// <summary>PE_PRESENT: in the pages file, or following on the wire.</summary>
    Present = 4,
}

/// <summary>What kind of area a VMA is. CRIU's bits.</summary>
[Flags]
public enum VmaStatus : uint
{
    /// <summary>Not said.</summary>
    None = 0,

    /// <summary>An ordinary area whose content is dumped.</summary>
    Regular = 1 << 0,

    /// <summary>[stack].</summary>
    Stack = 1 << 1,

    /// <summary>[vsyscall].</summary>
    Vsyscall = 1 << 2,

    /// <summary>[vdso].</summary>
    Vdso = 1 << 3,

    /// <summary>[heap].</summary>
    Heap = 1 << 5,

    /// <summary>A private mapping of a file.</summary>
    FilePrivate = 1 << 6,

    /// <summary>A shared mapping of a file.</summary>
    FileShared = 1 << 7,

    /// <summary>Shared anonymous memory.</summary>
    AnonShared = 1 << 8,

    /// <summary>Private anonymous memory: the only kind that is restored lazily.</summary>
    AnonPrivate = 1 << 9,

    /// <summary>System V shared memory.</summary>
    SysvIpc = 1 << 10,

    /// <summary>[vvar].</summary>
    Vvar = 1 << 12,

    /// <summary>No area, but guard pages (MADV_GUARD_INSTALL) within areas. These come behind all areas, in an order of
    /// their own.</summary>
    Guard = 1 << 16,
}

/// <summary>What a pagemap describes: a task's memory or a shared segment. CRIU's numbers on the wire.</summary>
public enum PagemapKind : byte
{
    /// <summary>A task, named by its pid: pagemap-PID.img.</summary>
    Task = 1,

    /// <summary>A shared anonymous segment: pagemap-shmem-ID.img.</summary>
    Shmem = 2,
}

/// <summary>Names one pagemap of an image directory.</summary>
/// <param name="Kind">Task or shared segment.</param>
/// <param name="Id">The pid, or the segment's number.</param>
public readonly record struct PagemapId(PagemapKind Kind, ulong Id)
{
    /// <summary>The pagemap of task <paramref name="pid"/>.</summary>
    public static PagemapId Task(uint pid) => new(PagemapKind.Task, pid);

    /// <summary>The name of its file.</summary>
    public string FileName => Kind == PagemapKind.Task ? $"pagemap-{Id}.img" : $"pagemap-shmem-{Id}.img";
}
