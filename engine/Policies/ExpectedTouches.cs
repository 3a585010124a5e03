namespace Testbed.Policies;

/// <summary>
/// The pages that a predictor asked for, in the order in which it expects them to be touched, and the one that it
/// expects after them. Papers count hits on prefetched pages; under userfaultfd a touch of a page that is in makes no
/// event. What can be known is that a fault came on an expected page: then those expected before it are presumed
/// touched. A look-up costs a step per expected page.
/// </summary>
internal sealed class ExpectedTouches(int capacity)
{
    private readonly long[] _pages = new long[capacity];
    private int _count;

    /// <summary>The i-th page that is expected.</summary>
    public long this[int i] => _pages[i];

    /// <summary>Expects nothing.</summary>
    public void Clear() => _count = 0;

    /// <summary>Expects a page after all others; more than the capacity are forgotten.</summary>
    public void Add(long page)
    {
        if (_count < _pages.Length)
            _pages[_count++] = page;
    }

    /// <summary>The place of a page in the order; -1 when it is not expected.</summary>
    public int Find(long page) => _pages.AsSpan(0, _count).IndexOf(page);

    /// <summary>Forgets the first <paramref name="touched"/> pages.</summary>
    public void Skip(int touched)
    {
        _pages.AsSpan(touched, _count - touched).CopyTo(_pages);
        _count -= touched;
    }
}
