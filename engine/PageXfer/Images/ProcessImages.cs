using Testbed.Core;

namespace Testbed.PageXfer.Images;

/// <summary>Who a dumped process is.</summary>
/// <param name="Pid">Its pid.</param>
/// <param name="Pgid">Its process group.</param>
/// <param name="Sid">Its session.</param>
/// <param name="Threads">Its threads, the leader among them.</param>
/// <param name="ParentPid">Its parent; 0 for the root of the tree.</param>
/// <param name="Name">Its name, as in /proc/PID/comm.</param>
public sealed record ProcessIdentity(uint Pid, uint Pgid, uint Sid, IReadOnlyList<uint> Threads, uint ParentPid = 0, string Name = "");

/// <summary>
/// Writes the images beside the pagemaps of a dump: inventory, pstree, and mm and core of each process. They are what page servers
/// and lazy-pages daemons need, CRIU's included; to restore a process takes more (files, registers, namespaces).
/// </summary>
public static class ProcessImages
{
    private const uint Alive = 1, X86 = 1;

    /// <summary>Writes the images of one process, the root of its tree. Each file appears whole or not at all.</summary>
    public static void Write(string directory, ProcessIdentity process, MmEntry layout) => Write(directory, [(process, layout)]);

    /// <summary>Writes the images of a process tree, parents before children. Each file appears whole or not at all.</summary>
    public static void Write(string directory, IReadOnlyList<(ProcessIdentity Process, MmEntry Layout)> tree)
    {
        foreach ((ProcessIdentity process, MmEntry layout) in tree)
        {
            ImageFile.Write(Path.Combine(directory, $"mm-{process.Pid}.img"), ImageMagic.Mm, layout);
            ImageFile.Write(Path.Combine(directory, $"core-{process.Pid}.img"), ImageMagic.Core, new CoreEntry
            {
                Mtype = X86,
                Tc = new TaskCoreEntry { TaskState = Alive, ExitCode = 0, Personality = 0, Flags = 0, BlkSigset = 0, Comm = process.Name },
            });
        }
        ImageFile.Write(Path.Combine(directory, "pstree.img"), ImageMagic.Pstree, [.. tree.Select(item => ToEntry(item.Process))]);
        ImageFile.Write(Path.Combine(directory, "inventory.img"), ImageMagic.Inventory, NewInventory());
    }

    private static PstreeEntry ToEntry(ProcessIdentity process)
    {
        var entry = new PstreeEntry { Pid = process.Pid, Ppid = process.ParentPid, Pgid = process.Pgid, Sid = process.Sid };
        entry.Threads.AddRange(process.Threads);
        return entry;
    }

    /// <summary>An inventory for images of format 1.1.</summary>
    public static InventoryEntry NewInventory() => new() { ImgVersion = 2, FdinfoPerId = true, NsPerId = true };

    /// <summary>A layout with areas only; what else mm-PID.img may tell is 0 until set.</summary>
    public static MmEntry NewLayout(IEnumerable<VmaEntry> areas)
    {
        var mm = new MmEntry
        {
            MmStartCode = 0,
            MmEndCode = 0,
            MmStartData = 0,
            MmEndData = 0,
            MmStartStack = 0,
            MmStartBrk = 0,
            MmBrk = 0,
            MmArgStart = 0,
            MmArgEnd = 0,
            MmEnvStart = 0,
            MmEnvEnd = 0,
            ExeFileId = 0,
        };
        mm.Vmas.AddRange(areas);
        return mm;
    }

    /// <summary>One area, from what /proc/PID/maps says of it.</summary>
    /// <param name="range">Its pages.</param>
    /// <param name="protection">PROT_READ 1, PROT_WRITE 2, PROT_EXEC 4, or'ed.</param>
    /// <param name="isPrivate">p, not s.</param>
    /// <param name="isFile">Whether it maps a file (an inode that is not 0).</param>
    /// <param name="offset">Offset in the file, in bytes.</param>
    /// <param name="name">The last column: a path, [heap], [stack] and so on, or empty.</param>
    public static VmaEntry NewArea(PageRange range, int protection, bool isPrivate, bool isFile, ulong offset, string name)
    {
        const uint MapShared = 1, MapPrivate = 2, MapAnonymous = 0x20, MapGrowsDown = 0x100;
        uint flags = (isPrivate ? MapPrivate : MapShared) | (isFile ? 0 : MapAnonymous) | (name == "[stack]" ? MapGrowsDown : 0);
        return new VmaEntry
        {
            Start = range.Start.Address,
            End = range.End.Address,
            Pgoff = offset,
            Shmid = 0,
            Prot = (uint)protection,
            Flags = flags,
            Status = (uint)StatusOf(isPrivate, isFile, name),
            Fd = -1,
        };
    }

    private static VmaStatus StatusOf(bool isPrivate, bool isFile, string name) => name switch
    {
        "[vsyscall]" => VmaStatus.Vsyscall,
        "[vdso]" => VmaStatus.Regular | VmaStatus.AnonPrivate | VmaStatus.Vdso,
        "[vvar]" or "[vvar_vclock]" => VmaStatus.Regular | VmaStatus.AnonPrivate | VmaStatus.Vvar,
        "[heap]" => VmaStatus.Regular | VmaStatus.AnonPrivate | VmaStatus.Heap,
        "[stack]" => VmaStatus.Regular | VmaStatus.AnonPrivate | VmaStatus.Stack,
        _ when name.StartsWith("/SYSV", StringComparison.Ordinal) => VmaStatus.Regular | VmaStatus.SysvIpc,
        _ => VmaStatus.Regular | (isPrivate, isFile) switch
        {
            (true, true) => VmaStatus.FilePrivate,
            (true, false) => VmaStatus.AnonPrivate,
            (false, true) => VmaStatus.FileShared,
            (false, false) => VmaStatus.AnonShared,
        },
    };
}
