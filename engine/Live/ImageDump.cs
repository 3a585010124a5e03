using Testbed.Core;
using Testbed.PageXfer.Images;
using Testbed.PageXfer.Xfer;
using Testbed.Uffd;

namespace Testbed.Live;

/// <summary>Puts the memory of a stopped process into CRIU-format images, through page-xfer.</summary>
internal sealed class ImageDump(IPageSink sink) : IMemoryDumpSink
{
    /// <summary>Kept back so that the disk is not filled to the brim.</summary>
    private const long Spare = 64 << 20;

    /// <summary>Dumps the target into <paramref name="directory"/>.</summary>
    /// <exception cref="BadInputException">No room, no right to write, or the target is gone. It runs on as before.</exception>
    public static void Write(InPlaceTarget target, string directory, Action<long>? onBytes, CancellationToken cancel)
    {
        EnsureRoom(target, directory);
        uint pid = (uint)target.Info.Pid;
        try
        {
            using (LocalPageSink sink = new LocalPageSink(directory, PagemapId.Task(pid)))
            {
                target.Dump(new ImageDump(sink), onBytes, cancel);
                sink.Complete();
            }
            var identity = new ProcessIdentity(pid, pid, pid, [.. target.Threads.Select(t => (uint)t.Tid)]);
            ProcessImages.Write(directory, identity, ProcessImages.NewLayout(target.Mappings.Select(mapping => mapping.ToVma())));
        }
        catch (IOException e)
        {
            throw new BadInputException($"{directory}: cannot write images ({e.Message}); expected room for {target.EstimatedDumpBytes >> 20} MiB", e);
        }
    }

    public void BeginArea(MemoryArea area) { }

    public void WritePages(PageRange range, ReadOnlySpan<byte> pages)
    {
        sink.WritePagemap(range, PagemapFlags.Present | PagemapFlags.Lazy);
        sink.WritePages(pages);
    }

    private static void EnsureRoom(InPlaceTarget target, string directory)
    {
        long needed = target.EstimatedDumpBytes + Spare;
        var drive = new DriveInfo(Path.GetFullPath(directory));
        if (drive.AvailableFreeSpace < needed)
            throw new BadInputException($"{directory}: {drive.AvailableFreeSpace >> 20} MiB free; the images of process {target.Info.Pid} need {needed >> 20} MiB");
        // A directory in memory holds the images beside the pages until these are evicted.
        if (drive.DriveFormat is "tmpfs" or "ramfs" && AvailableMemory() < needed)
            throw new BadInputException($"{directory}: is in memory, of which {AvailableMemory() >> 20} MiB are available; the images of process {target.Info.Pid} need {needed >> 20} MiB");
    }

    private static long AvailableMemory()
    {
        foreach (string line in File.ReadLines("/proc/meminfo"))
        {
            if (line.StartsWith("MemAvailable:", StringComparison.Ordinal))
                return long.Parse(line.AsSpan(13).TrimEnd("kB").Trim()) << 10;
        }
        return long.MaxValue;
    }
}
