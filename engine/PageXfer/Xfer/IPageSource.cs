using Microsoft.Win32.SafeHandles;
using Testbed.Core;

namespace Testbed.PageXfer.Xfer;

/// <summary>What a page server serves from: images, or a frozen process. Called from several threads at once.</summary>
public interface IPageSource
{
    /// <summary>How many pages from the start of <paramref name="range"/> on can be read in one go, at most its count;
    /// 0 when the first one is not here.</summary>
    /// <exception cref="BadInputException">There is no such process.</exception>
    long Available(uint pid, PageRange range);

    /// <summary>Reads available pages into the first bytes of <paramref name="destination"/>. Allocates nothing.</summary>
    /// <exception cref="BadInputException">A page is not here.</exception>
    void ReadPages(uint pid, PageRange range, Span<byte> destination);

    /// <summary>Reads available pages into the first bytes of <paramref name="destination"/>, as many as can be read now.</summary>
    /// <param name="pid">The process.</param>
    /// <param name="range">The pages.</param>
    /// <param name="destination">Room for them.</param>
    /// <param name="why">Why the first page that is missing cannot be read, which may be over later; null when all were.</param>
    /// <returns>How many were read, from the first on.</returns>
    /// <exception cref="BadInputException">A page is not here.</exception>
    long TryReadPages(uint pid, PageRange range, Span<byte> destination, out string? why)
    {
        why = null;
        ReadPages(pid, range, destination);
        return range.Count;
    }

    /// <summary>Where pages lie in a file, so that the kernel can send them from there without a copy.</summary>
    /// <param name="pid">The process.</param>
    /// <param name="page">The first page.</param>
    /// <param name="file">The file; it stays the source's.</param>
    /// <param name="offset">Of the first page, in bytes.</param>
    /// <returns>How many pages follow each other there; 0 when they are in no file.</returns>
    long Locate(uint pid, PageNumber page, out SafeFileHandle? file, out long offset)
    {
        (file, offset) = (null, -1);
        return 0;
    }
}
