using Testbed.Core;

namespace Testbed.Reports.Figures;

/// <summary>
/// An axis of addresses without the gaps: the areas lie end to end, and the deserts between them, which are most of an
/// address space, take no room.
/// </summary>
internal sealed class AddressAxis
{
    /// <summary>Installed pages further apart than this (1 MiB) are taken for two areas where areas are not known.</summary>
    private const long Apart = 256;

    private readonly MemoryArea[] _areas;
    private readonly long[] _offsets;

    /// <summary>Pages on the axis.</summary>
    public long Length { get; }

    private AddressAxis(IEnumerable<MemoryArea> areas)
    {
        _areas = [.. areas];
        _offsets = new long[_areas.Length];
        for (int i = 0; i < _areas.Length; i++)
        {
            _offsets[i] = Length;
            Length += _areas[i].Range.Count;
        }
    }

    /// <summary>The axis of an image, or of the pages that were installed where there is none.</summary>
    public static AddressAxis Of(MemoryImage? image, IEnumerable<RunResult> runs) =>
        image is { Areas.Count: > 0 } ? new AddressAxis(image.Areas) : new AddressAxis(Guess(runs));

    /// <summary>Where a page lies, in pages from the axis' beginning; -1 when it is in no area.</summary>
    public long Place(PageNumber page)
    {
        int low = 0, high = _areas.Length - 1;
        while (low <= high)
        {
            int middle = (low + high) / 2;
            if (_areas[middle].Range.End <= page)
                low = middle + 1;
            else if (page < _areas[middle].Range.Start)
                high = middle - 1;
            else
                return _offsets[middle] + (page - _areas[middle].Range.Start);
        }
        return -1;
    }

    /// <summary>Where an area ends and the next begins, those at least <paramref name="apart"/> (a share of the axis) from
    /// the one before: a JIT runtime has hundreds of small areas, and lines would be all that is seen.</summary>
    public IEnumerable<long> Borders(double apart)
    {
        long last = 0;
        foreach (long border in _offsets.Skip(1))
        {
            if (border - last < apart * Length)
                continue;
            last = border;
            yield return border;
        }
    }

    /// <summary>Names of the areas that are tall enough to be seen (a fiftieth of the axis), at their middles, at least
    /// <paramref name="apart"/> (a share of the axis) from each other: the largest first.</summary>
    public IReadOnlyList<(double At, string Name)> Labels(double apart)
    {
        var labels = new List<(double At, string Name)>();
        foreach (int i in Enumerable.Range(0, _areas.Length).OrderByDescending(i => _areas[i].Range.Count).ThenBy(i => i))
        {
            double middle = _offsets[i] + (_areas[i].Range.Count / 2.0);
            bool seen = labels.Count == 0 || _areas[i].Range.Count * 50 >= Length;
            if (seen && labels.All(l => Math.Abs(l.At - middle) >= apart * Length))
                labels.Add((middle, Name(_areas[i])));
        }
        return [.. labels.OrderBy(l => l.At)];
    }

    private static string Name(MemoryArea area)
    {
        string name = area.Name.Length == 0 ? "anon" : area.Name[(area.Name.LastIndexOf('/') + 1)..];
        if (name.Length > 14)
            name = name[..13] + "…";
        return $"{name} {Column.HumanBytes(area.Range.Bytes)}";
    }

    private static IEnumerable<MemoryArea> Guess(IEnumerable<RunResult> runs)
    {
        PageRange[] ranges = [.. runs.SelectMany(r => r.Installs).Where(i => i.Space == 0).Select(i => i.Range).OrderBy(r => r.Start)];
        if (ranges.Length == 0)
            yield break;
        (PageNumber start, PageNumber end) = (ranges[0].Start, ranges[0].End);
        foreach (PageRange range in ranges)
        {
            if (range.Start > end + Apart)
            {
                yield return new MemoryArea(PageRange.Between(start, end), start.ToString(), 0);
                start = range.Start;
            }
            if (range.End > end)
                end = range.End;
        }
        yield return new MemoryArea(PageRange.Between(start, end), start.ToString(), 0);
    }
}
