using Testbed.Core;

namespace Testbed.Uffd;

/// <summary>Sets of pages as sorted lists of ranges that do not overlap.</summary>
internal static class PageRanges
{
    /// <summary>What is in both. A range of the result lies within one range of each.</summary>
    public static List<PageRange> Intersect(IReadOnlyList<PageRange> a, IReadOnlyList<PageRange> b)
    {
        List<PageRange> both = [];
        for (int i = 0, j = 0; i < a.Count && j < b.Count;)
        {
            PageRange common = a[i].Intersect(b[j]);
            if (!common.IsEmpty)
                both.Add(common);
            if (a[i].End < b[j].End)
                i++;
            else
                j++;
        }
        return both;
    }

    /// <summary>What is in <paramref name="a"/> and not in <paramref name="b"/>.</summary>
    public static List<PageRange> Subtract(IReadOnlyList<PageRange> a, IReadOnlyList<PageRange> b)
    {
        List<PageRange> left = [];
        int j = 0;
        foreach (PageRange range in a)
        {
            PageNumber from = range.Start;
            while (j < b.Count && b[j].End <= from)
                j++;
            for (int k = j; k < b.Count && b[k].Start < range.End; k++)
            {
                if (from < b[k].Start)
                    left.Add(PageRange.Between(from, b[k].Start));
                if (from < b[k].End)
                    from = b[k].End;
            }
            if (from < range.End)
                left.Add(PageRange.Between(from, range.End));
        }
        return left;
    }

    /// <summary>Sorted and without overlap, from ranges in any order.</summary>
    public static List<PageRange> Normalize(IEnumerable<PageRange> ranges)
    {
        List<PageRange> sorted = [];
        foreach (PageRange range in ranges.Where(r => !r.IsEmpty).OrderBy(r => r.Start.Value))
        {
            if (sorted.Count > 0 && range.Start <= sorted[^1].End)
                sorted[^1] = PageRange.Between(sorted[^1].Start, range.End > sorted[^1].End ? range.End : sorted[^1].End);
            else
                sorted.Add(range);
        }
        return sorted;
    }
}
