using Testbed.Core;

namespace Testbed.Traces;

/// <summary>
/// The touches of one thread, in order. The three arrays are parallel: 13 bytes per touch, so that millions stay cheap.
/// </summary>
/// <param name="Thread">The thread, as an index into the trace's table.</param>
/// <param name="Pages">What was touched, as a dense index: see <see cref="PageIndex"/>.</param>
/// <param name="ThinkNanoseconds">How long the thread ran between its previous touch's resolution (or the run's start) and this touch.</param>
/// <param name="Access">Read or write.</param>
public sealed record ThreadTouches(int Thread, uint[] Pages, long[] ThinkNanoseconds, Access[] Access)
{
    /// <summary>How many touches.</summary>
    public int Count => Pages.Length;
}

/// <summary>
/// Per thread, the order of first touches with the think time before each. A page that a thread faults on twice (the
/// kernel had it try again, or it was dropped meanwhile) counts once, and the time between goes to the next think time.
/// </summary>
public sealed class FirstTouches
{
    private FirstTouches(PageIndex index, IReadOnlyList<ThreadTouches> threads, long outside)
    {
        Index = index;
        Threads = threads;
        OutsideAreas = outside;
    }

    /// <summary>Between page numbers and the dense index.</summary>
    public PageIndex Index { get; }

    /// <summary>One entry per thread that touched something, by thread index.</summary>
    public IReadOnlyList<ThreadTouches> Threads { get; }

    /// <summary>Faults left out because their page is in no area of the image.</summary>
    public long OutsideAreas { get; }

    /// <summary>Touches of all threads.</summary>
    public long Count => Threads.Sum(t => (long)t.Count);

    internal static FirstTouches From(Trace trace, int space)
    {
        var index = new PageIndex(trace.Image);
        var builders = new Builder?[trace.Threads.Count];
        long outside = 0;
        foreach (ref readonly FaultRecord fault in trace.Faults.AsSpan())
        {
            if (fault.Space != space)
                continue;
            Builder builder = builders[fault.Thread] ??= new Builder(fault.Thread);
            bool known = index.TryFind(fault.Page, out uint page);
            if (!known)
                outside++;
            builder.Add(fault, known, page);
        }
        return new FirstTouches(index, [.. builders.Where(b => b is { IsEmpty: false }).Select(b => b!.Build())], outside);
    }

    private sealed class Builder(int thread)
    {
        private readonly HashSet<uint> _seen = [];
        private readonly List<uint> _pages = [];
        private readonly List<long> _thinks = [];
        private readonly List<Access> _access = [];
        private Instant _resolved;
        private long _think;

        public bool IsEmpty => _pages.Count == 0;

        public void Add(in FaultRecord fault, bool known, uint page)
        {
            // The stamp of a resolution is taken after the wake-up, so the next fault can be seen before it.
            _think += Math.Max(0, (fault.Woken - _resolved).Nanoseconds);
            _resolved = Instant.Max(_resolved, fault.Resolved);
            if (!known || !_seen.Add(page))
                return;
            _pages.Add(page);
            _thinks.Add(_think);
            _access.Add(fault.Access);
            _think = 0;
        }

        public ThreadTouches Build() => new(thread, [.. _pages], [.. _thinks], [.. _access]);
    }
}

/// <summary>
/// Numbers the pages of all areas of an image from 0 on, by address and without gaps, so that an array can have an entry per page.
/// </summary>
public sealed class PageIndex
{
    private readonly MemoryArea[] _areas;
    private readonly long[] _first;
    private int _last;

    /// <summary>Numbers the pages of <paramref name="image"/>.</summary>
    /// <exception cref="BadInputException">More than 2^32 pages (16 TiB).</exception>
    public PageIndex(MemoryImage image)
    {
        if (image.TotalPages > uint.MaxValue)
            throw new BadInputException($"memory image of {image.TotalPages} pages; a replay takes at most {uint.MaxValue}");
        _areas = [.. image.Areas];
        _first = new long[_areas.Length];
        for (int i = 1; i < _areas.Length; i++)
            _first[i] = _first[i - 1] + _areas[i - 1].Range.Count;
        Count = image.TotalPages;
    }

    /// <summary>How many pages there are.</summary>
    public long Count { get; }

    /// <summary>The number of <paramref name="page"/>; false when it is in no area.</summary>
    public bool TryFind(PageNumber page, out uint index)
    {
        index = 0;
        int area = AreaOf(page);
        if (area < 0)
            return false;
        index = (uint)(_first[area] + (page - _areas[area].Range.Start));
        return true;
    }

    /// <summary>The page with number <paramref name="index"/>.</summary>
    /// <exception cref="ArgumentOutOfRangeException">There is no such page.</exception>
    public PageNumber PageAt(uint index)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(index, Count);
        int area = Array.BinarySearch(_first, index);
        if (area < 0)
            area = ~area - 1;
        return _areas[area].Range.Start + (index - _first[area]);
    }

    /// <summary>Which area has <paramref name="page"/>; -1 when none does. The area of the last answer is tried first.</summary>
    private int AreaOf(PageNumber page)
    {
        int last = _last;
        if (last < _areas.Length && _areas[last].Range.Contains(page))
            return last;
        int low = 0;
        int high = _areas.Length - 1;
        while (low <= high)
        {
            int middle = (low + high) / 2;
            PageRange range = _areas[middle].Range;
            if (range.Contains(page))
                return _last = middle;
            if (page < range.Start)
                high = middle - 1;
            else
                low = middle + 1;
        }
        return -1;
    }
}
