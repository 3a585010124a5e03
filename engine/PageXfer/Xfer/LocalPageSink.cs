using Microsoft.Win32.SafeHandles;
using Testbed.Core;
using Testbed.PageXfer.Images;

namespace Testbed.PageXfer.Xfer;

/// <summary>
/// Writes pagemap-PID.img and pages-N.img into a directory, under temporary names until complete. If the directory has
/// a link <c>parent</c> to older images of the process, Parent ranges are checked against them.
/// </summary>
public sealed class LocalPageSink : IPageSink
{
    private readonly string _pagemapPath;
    private readonly string _pagesPath;
    private readonly FileStream _pagemap;
    private readonly SafeFileHandle _pages;
    private readonly PageReader? _parent;
    private readonly SinkOrder _order;
    private long _written;
    private bool _completed;
    private bool _disposed;

    /// <summary>Begins to write; N is the lowest number for which no pages file is there, from <paramref name="firstPagesId"/> on.</summary>
    /// <exception cref="BadInputException">The directory cannot be written, or its parent images are malformed.</exception>
    public LocalPageSink(string directory, PagemapId id, uint firstPagesId = 1)
    {
        _pagemapPath = Path.Combine(directory, id.FileName);
        _order = new SinkOrder(_pagemapPath);
        try
        {
            (_pages, uint pagesId) = CreatePages(directory, firstPagesId);
            _pagesPath = Path.Combine(directory, $"pages-{pagesId}.img");
            _pagemap = new FileStream(_pagemapPath + ".tmp", FileMode.Create, FileAccess.Write, FileShare.None, 1 << 16);
            ImageFile.WriteHead(_pagemap, ImageMagic.Pagemap);
            ImageFile.WriteRecord(_pagemap, new PagemapHead { PagesId = pagesId });
            string parent = Path.Combine(directory, "parent");
            if (File.Exists(Path.Combine(parent, id.FileName)))
                _parent = PageReader.Open(parent, id);
        }
        catch (Exception e)
        {
            Dispose();
            if (e is IOException or UnauthorizedAccessException)
                throw new BadInputException($"{directory}: cannot write images ({e.Message}); expected a writable directory", e);
            throw;
        }
    }

    /// <inheritdoc/>
    public bool HasParent => _parent is not null;

    /// <inheritdoc/>
    public void WritePagemap(PageRange range, PagemapFlags flags)
    {
        _order.Announce(range, flags);
        if ((flags & PagemapFlags.Parent) != 0)
        {
            if ((flags & PagemapFlags.Present) != 0)
                throw new BadInputException($"{_pagemapPath}: pages {range}: both in parent and present; expected one of them");
            // Without parent images the range is taken on trust: they may be linked in later.
            if (_parent is not null && !_parent.Covers(range))
                throw new BadInputException($"{_pagemapPath}: pages {range} are said to be in the parent images, and are not there");
        }
        ImageFile.WriteRecord(_pagemap, new PagemapEntry
        {
            Vaddr = range.Start.Address,
            CompatNrPages = 0,
            Flags = (uint)flags,
            NrPages = (ulong)range.Count,
        });
    }

    /// <inheritdoc/>
    public void WritePages(ReadOnlySpan<byte> bytes)
    {
        _order.Content(bytes.Length);
        RandomAccess.Write(_pages, bytes, _written);
        _written += bytes.Length;
    }

    /// <inheritdoc/>
    public void Complete()
    {
        _order.CheckNothingOwed();
        _pagemap.Dispose();
        _pages.Dispose();
        // The pagemap last: whoever sees it finds the pages.
        File.Move(_pagesPath + ".tmp", _pagesPath);
        File.Move(_pagemapPath + ".tmp", _pagemapPath, overwrite: true);
        _completed = true;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_disposed)
            return;
        _disposed = true;
        _parent?.Dispose();
        _pagemap?.Dispose();
        _pages?.Dispose();
        if (_completed)
            return;
        if (_pagemap is not null)
            File.Delete(_pagemapPath + ".tmp");
        if (_pages is not null)
            File.Delete(_pagesPath + ".tmp");
    }

    private static (SafeFileHandle File, uint Id) CreatePages(string directory, uint firstId)
    {
        for (uint id = firstId; ; id++)
        {
            string path = Path.Combine(directory, $"pages-{id}.img");
            try
            {
                // CreateNew, so that two sinks that run at once do not take the same number; and only then the look
                // at the final name, for the other one may just have been completed.
                SafeFileHandle file = File.OpenHandle(path + ".tmp", FileMode.CreateNew, FileAccess.Write);
                if (!File.Exists(path))
                    return (file, id);
                file.Dispose();
                File.Delete(path + ".tmp");
            }
            catch (IOException) when (File.Exists(path + ".tmp"))
            {
            }
        }
    }
}
