using System.Numerics;
using System.Runtime.CompilerServices;

namespace Testbed.Core;

/// <summary>Where a page of a lazily restored area is.</summary>
public enum PageState : byte
{
    /// <summary>Not in the image: reads as zero.</summary>
    Hole = 0,

    /// <summary>At the source.</summary>
    Lazy = 1,

    /// <summary>Asked for, not installed yet.</summary>
    InFlight = 2,

    /// <summary>In, or unmapped: nothing left to do.</summary>
    Resident = 3,
}

/// <summary>
/// The state of every page of one address space, two bits each, by dump address. Pages of all areas are numbered
/// through: a page's index is its place among them. Policies read it; only the fault service changes it.
/// A page's index costs a search over areas, saved when the last area serves again; a scan costs a step per 64 pages.
/// </summary>
public sealed class PageMap
{
    private const int BlockShift = 9;

    // In ascending order, and an empty one behind.
    private readonly Area[] _areas;

    // Which area holds the first page of each block of 512: from there it is a step or two to that of any other.
    private readonly int[] _areaOfBlock;
    private readonly Word[] _words;
    private int _recent;

    /// <summary>All present pages of <paramref name="image"/> lazy, all others holes.</summary>
    public PageMap(MemoryImage image)
    {
        _areas = new Area[image.Areas.Count + 1];
        long first = 0;
        for (int i = 0; i < image.Areas.Count; i++)
        {
            PageRange range = image.Areas[i].Range;
            _areas[i] = new Area(range.Start.Value, first, range.Count);
            first += range.Count;
        }
        Count = image.TotalPages;
        _areaOfBlock = new int[(Count >> BlockShift) + 1];
        for (int block = 0, area = 0; block < _areaOfBlock.Length && (long)block << BlockShift < Count; _areaOfBlock[block++] = area)
        {
            while ((long)block << BlockShift >= _areas[area].End)
                area++;
        }
        _words = new Word[(Count + 63) / 64];
        foreach (PageRange range in image.Present)
        {
            _ = TryIndex(range.Start, out long index);
            SetRange(index, range.Count, PageState.Lazy);
        }
        PresentPages = image.PresentPages;
    }

    private PageMap(PageMap parent)
    {
        (_areas, _areaOfBlock) = (parent._areas, parent._areaOfBlock);
        _words = (Word[])parent._words.Clone();
        (Count, PresentPages) = (parent.Count, parent.PresentPages);
        (LazyPages, InFlightPages) = (parent.LazyPages, parent.InFlightPages);
        foreach (ref Word word in _words.AsSpan())
        {
            // What is in flight for the parent is not for the child: it asks by itself.
            ulong inFlight = word.High & ~word.Low;
            word.High &= ~inFlight;
            word.Low |= inFlight;
        }
        (LazyPages, InFlightPages) = (LazyPages + InFlightPages, 0);
    }

    /// <summary>Pages of all areas.</summary>
    public long Count { get; }

    /// <summary>Pages that were in the image.</summary>
    public long PresentPages { get; }

    /// <summary>Pages that are still at the source.</summary>
    public long LazyPages { get; private set; }

    /// <summary>Pages that were asked for and are not installed.</summary>
    public long InFlightPages { get; private set; }

    /// <summary>How many areas there are.</summary>
    public int AreaCount => _areas.Length - 1;

    /// <summary>The state of the page with this index.</summary>
    public PageState this[long index]
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get
        {
            ref readonly Word word = ref WordOf(index);
            int bit = (int)index;
            return (PageState)(((word.Low >> bit) & 1) | (((word.High >> bit) & 1) << 1));
        }
    }

    /// <summary>The index of a page; false when it is in no area.</summary>
    public bool TryIndex(PageNumber page, out long index)
    {
        ref readonly Area area = ref _areas[_recent];
        ulong offset = page.Value - area.Start;
        index = offset < (ulong)area.Count ? area.Base + (long)offset : IndexOfOther(page);
        return index >= 0;
    }

    private long IndexOfOther(PageNumber page)
    {
        int at = AreaFrom(page.Value);
        if (at < 0 || page.Value - _areas[at].Start >= (ulong)_areas[at].Count)
            return -1;
        _recent = at;
        return _areas[at].Base + (long)(page.Value - _areas[at].Start);
    }

    /// <summary>The first page of the first area behind <paramref name="page"/>.</summary>
    internal bool TryNextArea(PageNumber page, out PageNumber start)
    {
        int area = AreaFrom(page.Value) + 1;
        start = area < AreaCount ? new PageNumber(_areas[area].Start) : default;
        return area < AreaCount;
    }

    /// <summary>The page with this index.</summary>
    public PageNumber PageAt(long index)
    {
        ref readonly Area area = ref AreaOf(index);
        return new PageNumber(area.Start + (ulong)(index - area.Base));
    }

    /// <summary>The area that holds the page with this index, as the indices of its first page and of the one after its last.</summary>
    public (long First, long End) AreaBounds(long index)
    {
        ref readonly Area area = ref AreaOf(index);
        return (area.Base, area.End);
    }

    /// <summary>The first lazy page at <paramref name="from"/> or behind, before <paramref name="end"/>; -1 if none.</summary>
    public long NextLazy(long from, long end)
    {
        if (from >= end)
            return -1;
        long word = from >> 6;
        long lastWord = (end - 1) >> 6;
        ulong lazy = LazyWord(word) & (ulong.MaxValue << (int)(from & 63));
        while (lazy == 0)
        {
            if (++word > lastWord)
                return -1;
            lazy = LazyWord(word);
        }
        long found = (word << 6) + BitOperations.TrailingZeroCount(lazy);
        return found < end ? found : -1;
    }

    /// <summary>The last lazy page at <paramref name="from"/> or before, not before <paramref name="first"/>; -1 if none.</summary>
    public long PreviousLazy(long from, long first)
    {
        if (from < first)
            return -1;
        long word = from >> 6;
        long firstWord = first >> 6;
        ulong lazy = LazyWord(word) & (ulong.MaxValue >> (63 - (int)(from & 63)));
        while (lazy == 0)
        {
            if (--word < firstWord)
                return -1;
            lazy = LazyWord(word);
        }
        long found = (word << 6) + 63 - BitOperations.LeadingZeroCount(lazy);
        return found >= first ? found : -1;
    }

    /// <summary>How many lazy pages follow each other from <paramref name="index"/> on, before <paramref name="end"/>.</summary>
    public long LazyRun(long index, long end) => Run(index, end, PageState.Lazy);

    /// <summary>How many pages from <paramref name="index"/> on have the state, without a gap, before <paramref name="end"/>.</summary>
    internal long Run(long index, long end, PageState state)
    {
        if (end - index == 1)
            return this[index] == state ? 1 : 0;
        ulong low = ((int)state & 1) != 0 ? 0 : ulong.MaxValue;
        ulong high = ((int)state & 2) != 0 ? 0 : ulong.MaxValue;
        long at = index;
        while (at < end)
        {
            int bit = (int)(at & 63);
            ulong same = ((_words[at >> 6].Low ^ low) & (_words[at >> 6].High ^ high)) >> bit;
            int run = BitOperations.TrailingZeroCount(~same);
            if (run < 64 - bit)
                return Math.Min(at + run, end) - index;
            at += 64 - bit;
        }
        return end - index;
    }

    internal void Set(long index, PageState state)
    {
        PageState old = this[index];
        Apply(ref WordOf(index), 1ul << (int)index, state);
        Account(old, -1);
        Account(state, 1);
    }

    /// <summary>Pages that are lazy were asked for.</summary>
    internal void SetInFlight(long index, long count)
    {
        LazyPages -= count;
        InFlightPages += count;
        if (count == 1)
        {
            Apply(ref WordOf(index), 1ul << (int)index, PageState.InFlight);
            return;
        }
        while (count > 0)
        {
            int bit = (int)(index & 63);
            int n = (int)Math.Min(64 - bit, count);
            Apply(ref WordOf(index), (ulong.MaxValue >> (64 - n)) << bit, PageState.InFlight);
            index += n;
            count -= n;
        }
    }

    /// <summary>Pages are in; mostly it is one, and was in flight.</summary>
    internal void Install(long index, long count)
    {
        ref Word word = ref WordOf(index);
        ulong bit = 1ul << (int)index;
        if (count > 1 || (word.High & ~word.Low & bit) == 0)
        {
            SetRange(index, count, PageState.Resident);
            return;
        }
        word.Low |= bit;
        InFlightPages--;
    }

    internal void SetRange(long index, long count, PageState state)
    {
        if (count == 1)
        {
            Set(index, state);
            return;
        }
        long end = index + count;
        while (index < end)
        {
            int bit = (int)(index & 63);
            int n = (int)Math.Min(64 - bit, end - index);
            ulong mask = (ulong.MaxValue >> (64 - n)) << bit;
            ref Word word = ref WordOf(index);
            Account(PageState.Lazy, -BitOperations.PopCount(word.Low & ~word.High & mask));
            Account(PageState.InFlight, -BitOperations.PopCount(word.High & ~word.Low & mask));
            Apply(ref word, mask, state);
            Account(state, n);
            index += n;
        }
    }

    internal PageMap Fork() => new(this);

    private static void Apply(ref Word word, ulong mask, PageState state)
    {
        word.Low = ((int)state & 1) != 0 ? word.Low | mask : word.Low & ~mask;
        word.High = ((int)state & 2) != 0 ? word.High | mask : word.High & ~mask;
    }

    private void Account(PageState state, long pages)
    {
        if (state == PageState.Lazy)
            LazyPages += pages;
        else if (state == PageState.InFlight)
            InFlightPages += pages;
    }

    private ref Word WordOf(long index) => ref _words[(int)(index >> 6)];

    private ulong LazyWord(long word) => _words[word].Low & ~_words[word].High;

    private ref readonly Area AreaOf(long index)
    {
        ref readonly Area area = ref _areas[_recent];
        // One comparison: with two, which of them fails is as good as random.
        if ((ulong)(index - area.Base) < (ulong)area.Count)
            return ref area;
        int at = _areaOfBlock[index >> BlockShift];
        while (index >= _areas[at].End)
            at++;
        _recent = at;
        return ref _areas[at];
    }

    /// <summary>The last area that begins at the page or before; -1 if none does.</summary>
    private int AreaFrom(ulong page)
    {
        int first = 0;
        for (int count = AreaCount; count > 1;)
        {
            int half = count >> 1;
            first = _areas[first + half].Start <= page ? first + half : first;
            count -= half;
        }
        return AreaCount > 0 && _areas[first].Start <= page ? first : -1;
    }

    /// <summary>An area's first page, by address and by index, and how many it has.</summary>
    private readonly record struct Area(ulong Start, long Base, long Count)
    {
        public long End => Base + Count;
    }

    /// <summary>The states of 64 pages: one bit of each here, the other there, side by side in one cache line.</summary>
    private struct Word
    {
        public ulong Low, High;
    }
}
