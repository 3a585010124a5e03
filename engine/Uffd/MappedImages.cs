using Microsoft.Win32.SafeHandles;
using Testbed.Core;
using Testbed.PageXfer.Images;
using Testbed.Uffd.Interop;

namespace Testbed.Uffd;

/// <summary>
/// The pages files of a directory, mapped: their pages can be installed from where the page cache has them. A file that is cut
/// short while it is mapped makes an install fail with EFAULT, and harms nobody.
/// </summary>
public sealed class MappedImages : IDisposable
{
    private readonly ImageDirectory _images;
    private readonly Dictionary<SafeFileHandle, (nint Address, long Length)> _files = [];

    // The file that served last.
    private SafeFileHandle? _recent;
    private nint _recentAddress;

    /// <summary>Of images that stay the caller's, and open.</summary>
    public MappedImages(ImageDirectory images) => _images = images;

    /// <summary>Where a page's content is, in this process.</summary>
    /// <param name="pid">The process that was dumped.</param>
    /// <param name="page">The page, by dump address.</param>
    /// <param name="pages">How many follow each other there.</param>
    /// <exception cref="BadInputException">It is not in the images.</exception>
    public nint AddressOf(uint pid, PageNumber page, out long pages)
    {
        pages = _images.Pages(pid).Locate(page, out SafeFileHandle? file, out long offset);
        if (pages == 0 || file is null)
            throw new BadInputException($"page {page} of process {pid}: not in the images");
        if (file != _recent)
            (_recent, _recentAddress) = (file, Map(file));
        return _recentAddress + (nint)offset;
    }

    /// <summary>Reads pages ahead into the page cache and maps them, so that no install meets a fault of our own for each.</summary>
    public void Populate(uint pid, PageRange range)
    {
        // A single page is faulted in with its neighbours by the copy itself.
        while (range.Count > 1)
        {
            nint address = AddressOf(pid, range.Start, out long pages);
            pages = Math.Min(pages, range.Count);
            // Older kernels do not know the advice; then the copies fault.
            _ = Native.Madvise(address, (nuint)(pages << PageNumber.Shift), Native.Mman.MADV_POPULATE_READ);
            range = PageRange.Between(range.Start + pages, range.End);
        }
    }

    /// <summary>Unmaps the files.</summary>
    public void Dispose()
    {
        foreach ((nint address, long length) in _files.Values)
            _ = Native.Munmap(address, (nuint)length);
        _files.Clear();
        _recent = null;
    }

    private nint Map(SafeFileHandle file)
    {
        if (_files.TryGetValue(file, out (nint Address, long) mapped))
            return mapped.Address;
        long length = RandomAccess.GetLength(file);
        nint address = Native.Mmap(0, (nuint)length, Native.Mman.PROT_READ, Native.Mman.MAP_SHARED, (int)file.DangerousGetHandle(), 0);
        if (address == -1)
            throw new BadInputException($"{_images.Path}: a pages file of {length} bytes cannot be mapped ({Native.Describe(Native.Errno)})");
        _files.Add(file, (address, length));
        return address;
    }
}
