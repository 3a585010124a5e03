using Microsoft.Win32.SafeHandles;
using Testbed.Core;
using Testbed.PageXfer.Xfer;

namespace Testbed.PageXfer.Images;

/// <summary>
/// The memory of every process that a directory holds, whatever else is there: a page server has no need of process tree and
/// address spaces, and where images came over the network they may be on another host. Pages may be read from several
/// threads at once.
/// </summary>
public sealed class PagesDirectory : IPageSource, IDisposable
{
    private readonly string _path;
    private readonly Dictionary<uint, PageReader> _pages = [];

    /// <summary>Opens all images pagemap-PID.img in a directory, and the pages that belong to them.</summary>
    /// <exception cref="BadInputException">There is none, or one is malformed or lacks its pages.</exception>
    public static PagesDirectory Open(string path) => new(path);

    private PagesDirectory(string path)
    {
        _path = path;
        if (!Directory.Exists(path))
            throw new BadInputException($"{path}: no such directory; expected a directory of CRIU images");
        try
        {
            foreach (string file in Directory.EnumerateFiles(path, "pagemap-*.img"))
            {
                // Shared segments have names of their own kind, and no lazy pages.
                if (uint.TryParse(Path.GetFileName(file)["pagemap-".Length..^".img".Length], out uint pid))
                    _pages.Add(pid, PageReader.Open(path, PagemapId.Task(pid)));
            }
        }
        catch
        {
            Dispose();
            throw;
        }
        if (_pages.Count == 0 && !IsWithoutMemory())
            throw new BadInputException($"{path}: no pagemap-PID.img; expected a directory of CRIU images");
    }

    /// <summary>The processes whose memory is here.</summary>
    public IReadOnlyCollection<uint> Processes => _pages.Keys;

    /// <summary>The pages of a process.</summary>
    /// <exception cref="BadInputException">No memory of this process is here.</exception>
    public PageReader Pages(uint pid) => Of(pid);

    /// <inheritdoc/>
    public long Available(uint pid, PageRange range) => Of(pid).Available(range);

    /// <inheritdoc/>
    public void ReadPages(uint pid, PageRange range, Span<byte> destination) => Of(pid).Read(range, destination);

    /// <inheritdoc/>
    public long TryReadPages(uint pid, PageRange range, Span<byte> destination, out string? why) => Of(pid).TryRead(range, destination, out why);

    /// <inheritdoc/>
    public long Locate(uint pid, PageNumber page, out SafeFileHandle? file, out long offset) => Of(pid).Locate(page, out file, out offset);

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (PageReader pages in _pages.Values)
            pages.Dispose();
    }

    private PageReader Of(uint pid) => _pages.TryGetValue(pid, out PageReader? pages) ? pages : throw Unknown(pid);

    private BadInputException Unknown(uint pid)
    {
        string expected = $"expected one of {string.Join(", ", _pages.Keys.Order())}";
        return !Tree().Exists(process => process.Pid == pid) ? new($"{_path}: no memory of a process {pid}; {expected}")
            : IsDead(pid) ? new($"{_path}: process {pid} is a zombie, which has no memory; {expected}")
            : new($"{_path}: no {PagemapId.Task(pid).FileName}, although pstree.img has process {pid}; {expected}");
    }

    /// <summary>Whether there is nothing to serve because all processes are zombies.</summary>
    private bool IsWithoutMemory()
    {
        List<PstreeEntry> tree = Tree();
        return tree.Count > 0 && tree.TrueForAll(process => IsDead(process.Pid));
    }

    /// <summary>The process tree; empty where images came alone.</summary>
    private List<PstreeEntry> Tree()
    {
        string path = Path.Combine(_path, "pstree.img");
        return File.Exists(path) ? [.. ImageFile.ReadAll(path, ImageMagic.Pstree, PstreeEntry.Parser)] : [];
    }

    private bool IsDead(uint pid)
    {
        const uint Dead = 2, Zombie = 6;
        string path = Path.Combine(_path, $"core-{pid}.img");
        if (!File.Exists(path))
            return false;
        return ImageFile.ReadOne(path, ImageMagic.Core, CoreEntry.Parser).Tc?.TaskState is Dead or Zombie;
    }
}
