using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Testbed.Core;

namespace Testbed.Uffd;

/// <summary>Takes the memory of a process as it is read: areas by address, and within each its pages by address.</summary>
public interface IMemoryDumpSink
{
    /// <summary>An area begins; the pages that follow are in it, and those of it that never come are zero.</summary>
    void BeginArea(MemoryArea area);

    /// <summary>Consecutive pages, none of them all zero. The bytes (4,096 for each) are valid during the call only.</summary>
    void WritePages(PageRange range, ReadOnlySpan<byte> pages);
}

/// <summary>Reads the existing pages of a stopped process and finds those that are all zero.</summary>
internal sealed class MemoryDump
{
    private const int ChunkPages = 256;

    /// <summary>The pages with content, each run within one area.</summary>
    public List<PageRange> Content { get; } = [];

    /// <summary>A hash of each page with content, in the order of <see cref="Content"/>.</summary>
    public List<ulong> Hashes { get; } = [];

    /// <summary>Existing pages that cannot be read: guard pages, or broken memory. They are best left where they are.</summary>
    public List<PageRange> Unreadable { get; } = [];

    /// <summary>Reads <paramref name="present"/>, which is sorted and within <paramref name="areas"/>, into the sink.</summary>
    /// <param name="memory">The memory of the process.</param>
    /// <param name="areas">The areas, by address.</param>
    /// <param name="present">Their existing pages, each run within one area.</param>
    /// <param name="sink">Who takes them.</param>
    /// <param name="onBytes">Called with the bytes read so far, or null.</param>
    /// <param name="cancel">Ends it with an OperationCanceledException; nothing in the process has changed.</param>
    public void Run(
        TargetMemory memory, IReadOnlyList<MemoryArea> areas, IReadOnlyList<PageRange> present, IMemoryDumpSink sink,
        Action<long>? onBytes, CancellationToken cancel)
    {
        byte[] chunk = GC.AllocateUninitializedArray<byte>(ChunkPages * PageNumber.Size, pinned: true);
        long read = 0;
        int next = 0;
        foreach (MemoryArea area in areas)
        {
            sink.BeginArea(area);
            for (; next < present.Count && present[next].Start < area.Range.End; next++)
            {
                for (PageNumber page = present[next].Start; page < present[next].End;)
                {
                    cancel.ThrowIfCancellationRequested();
                    long wanted = Math.Min(ChunkPages, present[next].End - page);
                    int pages = memory.Read(page.Address, chunk.AsSpan(0, (int)(wanted * PageNumber.Size))) / PageNumber.Size;
                    if (pages == 0)
                    {
                        Append(Unreadable, PageRange.Single(page), area);
                        page += 1;
                        continue;
                    }
                    Emit(new PageRange(page, pages), chunk, area, sink);
                    page += pages;
                    onBytes?.Invoke(read += pages * (long)PageNumber.Size);
                }
            }
        }
    }

    private void Emit(PageRange range, byte[] chunk, MemoryArea area, IMemoryDumpSink sink)
    {
        for (int i = 0; i < range.Count;)
        {
            int from = i;
            while (i < range.Count && !IsZero(chunk, i))
                i++;
            if (i > from)
            {
                PageRange run = new(range.Start + from, i - from);
                sink.WritePages(run, chunk.AsSpan(from * PageNumber.Size, (i - from) * PageNumber.Size));
                Append(Content, run, area);
                for (; from < i; from++)
                    Hashes.Add(HashOf(chunk.AsSpan(from * PageNumber.Size, PageNumber.Size)));
            }
            while (i < range.Count && IsZero(chunk, i))
                i++;
        }
    }

    /// <summary>
    /// Tells whether a page is still as it was read. Four lanes in which every step is reversible, so that one changed word is never missed.
    /// It is compiled with all optimisations at once: the process stands while a library's hash would run unoptimised.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static ulong HashOf(ReadOnlySpan<byte> page)
    {
        const ulong Prime = 0x9E3779B185EBCA87;
        ReadOnlySpan<ulong> words = MemoryMarshal.Cast<byte, ulong>(page);
        ulong a = 1, b = 2, c = 3, d = 4;
        for (int i = 0; i + 3 < words.Length; i += 4)
        {
            a = BitOperations.RotateLeft((a ^ words[i]) * Prime, 29);
            b = BitOperations.RotateLeft((b ^ words[i + 1]) * Prime, 29);
            c = BitOperations.RotateLeft((c ^ words[i + 2]) * Prime, 29);
            d = BitOperations.RotateLeft((d ^ words[i + 3]) * Prime, 29);
        }
        ulong hash = a;
        foreach (ulong lane in (ReadOnlySpan<ulong>)[b, c, d])
            hash = BitOperations.RotateLeft(hash * Prime, 31) ^ lane;
        return hash;
    }

    /// <summary>Whether all bytes are zero.</summary>
    public static bool IsZero(ReadOnlySpan<byte> page) => page.IndexOfAnyExcept((byte)0) < 0;

    private static bool IsZero(byte[] chunk, int page) => IsZero(chunk.AsSpan(page * PageNumber.Size, PageNumber.Size));

    private static void Append(List<PageRange> runs, PageRange range, MemoryArea area)
    {
        if (runs.Count > 0 && runs[^1].End == range.Start && range.Start != area.Range.Start)
            runs[^1] = runs[^1] with { Count = runs[^1].Count + range.Count };
        else
            runs.Add(range);
    }
}
