namespace Testbed.Core;

/// <summary>The number of a 4 KiB page: its address divided by 4,096.</summary>
public readonly record struct PageNumber(ulong Value) : IComparable<PageNumber>
{
    /// <summary>Bytes in a page (x86-64 base pages; huge pages are split by the kernel when evicted).</summary>
    public const int Size = 4096;

    /// <summary>log2 of <see cref="Size"/>.</summary>
    public const int Shift = 12;

    /// <summary>The page that holds <paramref name="address"/>.</summary>
    public static PageNumber Of(ulong address) => new(address >> Shift);

    /// <summary>The address of the page's first byte.</summary>
    public ulong Address => Value << Shift;

    /// <summary>The page <paramref name="n"/> pages further on.</summary>
    public static PageNumber operator +(PageNumber p, long n) => new(p.Value + (ulong)n);

    /// <summary>The page <paramref name="n"/> pages before.</summary>
    public static PageNumber operator -(PageNumber p, long n) => new(p.Value - (ulong)n);

    /// <summary>How many pages lie from <paramref name="b"/> to <paramref name="a"/>; negative when a is before b.</summary>
    public static long operator -(PageNumber a, PageNumber b) => (long)(a.Value - b.Value);

    /// <summary>Whether <paramref name="a"/> lies before.</summary>
    public static bool operator <(PageNumber a, PageNumber b) => a.Value < b.Value;

    /// <summary>Whether <paramref name="a"/> lies behind.</summary>
    public static bool operator >(PageNumber a, PageNumber b) => a.Value > b.Value;

    /// <summary>Whether <paramref name="a"/> does not lie behind.</summary>
    public static bool operator <=(PageNumber a, PageNumber b) => a.Value <= b.Value;

    /// <summary>Whether <paramref name="a"/> does not lie before.</summary>
    public static bool operator >=(PageNumber a, PageNumber b) => a.Value >= b.Value;

    /// <inheritdoc/>
    public int CompareTo(PageNumber other) => Value.CompareTo(other.Value);

    /// <summary>The address, in hexadecimal.</summary>
    public override string ToString() => $"0x{Address:x}";
}

/// <summary>A run of consecutive pages: <paramref name="Count"/> of them from <paramref name="Start"/> on.</summary>
public readonly record struct PageRange(PageNumber Start, long Count)
{
    /// <summary>The page after the last one.</summary>
    public PageNumber End => Start + Count;

    /// <summary>Whether there is no page in it.</summary>
    public bool IsEmpty => Count <= 0;

    /// <summary>The size in bytes.</summary>
    public long Bytes => Count << PageNumber.Shift;

    /// <summary>One page.</summary>
    public static PageRange Single(PageNumber page) => new(page, 1);

    /// <summary>The pages from <paramref name="start"/> up to, not including, <paramref name="end"/>.</summary>
    public static PageRange Between(PageNumber start, PageNumber end) => new(start, end > start ? end - start : 0);

    /// <summary>Whether <paramref name="page"/> is one of them.</summary>
    public bool Contains(PageNumber page) => page.Value - Start.Value < (ulong)Math.Max(0, Count);

    /// <summary>The pages that are in both.</summary>
    public PageRange Intersect(PageRange other) =>
        Between(Start > other.Start ? Start : other.Start, End < other.End ? End : other.End);

    /// <summary>The address range, in hexadecimal.</summary>
    public override string ToString() => $"0x{Start.Address:x}-0x{End.Address:x}";
}
