using Testbed.Core;

namespace Testbed.PageXfer.Xfer;

/// <summary>What a page server serves from: images, or later a frozen process. Called from several threads at once.</summary>
public interface IPageSource
{
    /// <summary>How many pages from the start of <paramref name="range"/> on can be read in one go, at most its count;
    /// 0 when the first one is not here.</summary>
    /// <exception cref="BadInputException">There is no such process.</exception>
    long Available(uint pid, PageRange range);

    /// <summary>Reads available pages into the first bytes of <paramref name="destination"/>. Allocates nothing.</summary>
    /// <exception cref="BadInputException">A page is not here.</exception>
    void ReadPages(uint pid, PageRange range, Span<byte> destination);
}
