using Testbed.Core;
using Testbed.PageXfer.Images;
using Testbed.Traces;

namespace Testbed.Live;

/// <summary>Looks at pages spread evenly over an image.</summary>
internal static class ContentSample
{
    /// <summary>Enough that a share is right to one percentage point, and some 0.1 s.</summary>
    private const int Pages = 8192;

    public static PageContent Of(PageReader pages, MemoryImage image)
    {
        using var counter = new PageContent.Counter();
        Span<byte> page = new byte[PageNumber.Size];
        long every = Math.Max(1, image.PresentPages / Pages);
        long before = 0;
        foreach (PageRange range in image.Present)
        {
            for (long next = (every - before % every) % every; next < range.Count; next += every)
            {
                pages.Read(PageRange.Single(range.Start + next), page);
                counter.Add(page);
            }
            before += range.Count;
        }
        return counter.Counted;
    }
}
