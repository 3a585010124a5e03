using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using Mono.Unix;
using Testbed.Core;

namespace Testbed.PageXfer.Images;

/// <summary>
/// Reads pages of one process (or shared segment) from its images, through any chain of parents. The chain is
/// flattened when opened, so that a read is one binary search. Reads may come from several threads at once.
/// </summary>
public sealed class PageReader : IDisposable
{
    // Snapshots are taken by the minute, not by the millisecond; each one is a pagemap in memory and a file that is open.
    private const int MaxParents = 256;

    private readonly record struct Segment(PageRange Range, PagemapFlags Flags, PagesFile? File, long Offset);

    private readonly List<Segment> _segments = [];
    private readonly PagesFile? _file;
    private readonly PageReader? _parent;

    /// <summary>The pagemap of the newest images.</summary>
    public Pagemap Pagemap { get; }

    /// <summary>Opens the images of <paramref name="id"/> in a directory and, if its pagemap says so, in its parents.</summary>
    /// <exception cref="BadInputException">An image is missing, malformed, or shorter than its pagemap says.</exception>
    public static PageReader Open(string directory, PagemapId id) => new(directory, id, []);

    /// <param name="directory">Where the images are.</param>
    /// <param name="id">Whose.</param>
    /// <param name="children">The directories, by their real names, whose parent it is, at any distance: a loop would read them again and again.</param>
    private PageReader(string directory, PagemapId id, HashSet<string> children)
    {
        string path = Path.Combine(directory, id.FileName);
        if (!children.Add(UnixPath.GetCompleteRealPath(directory)))
            throw new BadInputException($"{path}: is its own parent, through {children.Count} links; expected a chain of snapshots without a loop");
        if (children.Count > MaxParents)
            throw new BadInputException($"{path}: more than {MaxParents} parents; expected a chain of snapshots without a loop");
        Pagemap = Pagemap.Read(path);
        try
        {
            _file = OpenPages(directory, path);
            if (Pagemap.NeedsParent)
            {
                string parent = Path.Combine(directory, "parent");
                if (!Directory.Exists(parent))
                    throw new BadInputException($"{path}: has pages in the parent images; expected a directory or link {parent}");
                // By its real name, for the kernel follows at most 40 links in one path.
                _parent = new PageReader(UnixPath.GetCompleteRealPath(parent), id, children);
            }
            foreach (PagemapRun run in Pagemap.Runs)
            {
                if ((run.Flags & PagemapFlags.Parent) != 0)
                    AddFromParent(path, run);
                else
                    _segments.Add(new Segment(run.Range, run.Flags, run.Offset < 0 ? null : _file, run.Offset));
            }
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>
    /// How many pages from the start of <paramref name="range"/> on can be read in one go, at most its count; 0 when
    /// the first one is not here.
    /// </summary>
    public long Available(PageRange range)
    {
        ReadOnlySpan<Segment> segments = CollectionsMarshal.AsSpan(_segments);
        PageNumber at = range.Start;
        PageNumber end = range.End;
        for (int i = Find(at); i >= 0 && i < segments.Length && at < end; i++)
        {
            if (segments[i].File is null || !segments[i].Range.Contains(at))
                break;
            at = segments[i].Range.End;
        }
        return Math.Min(at - range.Start, Math.Max(0, range.Count));
    }

    /// <summary>Where pages lie on disk, for those who map the files.</summary>
    /// <param name="page">The first one.</param>
    /// <param name="file">The pages file; it stays this object's.</param>
    /// <param name="offset">Of the first page, in bytes.</param>
    /// <returns>How many follow each other there; 0 when the first one is not here.</returns>
    public long Locate(PageNumber page, out SafeFileHandle? file, out long offset)
    {
        (file, offset) = (null, -1);
        int i = Find(page);
        if (i < 0 || !_segments[i].Range.Contains(page) || _segments[i].File is null)
            return 0;
        (file, offset) = (_segments[i].File!.Handle, _segments[i].Offset + ((page - _segments[i].Range.Start) << PageNumber.Shift));
        return _segments[i].Range.End - page;
    }

    /// <summary>Whether each page of a range is in some run, wherever its content is.</summary>
    public bool Covers(PageRange range)
    {
        PageNumber at = range.Start;
        for (int i = Find(at); i >= 0 && i < _segments.Count && at < range.End && _segments[i].Range.Contains(at); i++)
            at = _segments[i].Range.End;
        return at >= range.End;
    }

    /// <summary>Reads all pages of a range into the first bytes of <paramref name="destination"/>.</summary>
    /// <exception cref="BadInputException">A page is not in the images, or a pages file was cut short meanwhile.</exception>
    public void Read(PageRange range, Span<byte> destination)
    {
        long read = TryRead(range, destination, out string? why);
        if (read < range.Count)
            throw new BadInputException($"page {range.Start + read}: {why}");
    }

    /// <summary>Reads pages of a range into the first bytes of <paramref name="destination"/>, as many as can be read now.</summary>
    /// <param name="range">Pages that are in the images.</param>
    /// <param name="destination">Room for them.</param>
    /// <param name="why">Why the first one that is missing cannot be read; null when all could.</param>
    /// <returns>How many could be read, from the first on.</returns>
    /// <exception cref="BadInputException">A page is not in the images.</exception>
    public long TryRead(PageRange range, Span<byte> destination, out string? why)
    {
        why = null;
        ReadOnlySpan<Segment> segments = CollectionsMarshal.AsSpan(_segments);
        PageNumber at = range.Start;
        for (int i = Find(at); at < range.End; i++)
        {
            if (i < 0 || i >= segments.Length || segments[i].File is not { } file || !segments[i].Range.Contains(at))
                throw new BadInputException($"page {at}: not in the images");
            PageRange part = segments[i].Range.Intersect(PageRange.Between(at, range.End));
            long offset = segments[i].Offset + ((at - segments[i].Range.Start) << PageNumber.Shift);
            int got = file.TryRead(destination[..(int)part.Bytes], offset, out why);
            if (got < part.Bytes)
                return at - range.Start + (got >> PageNumber.Shift);
            destination = destination[(int)part.Bytes..];
            at = part.End;
        }
        return range.Count;
    }

    /// <summary>The ranges with all of <paramref name="flags"/> set, parents resolved, neighbours merged.</summary>
    public List<PageRange> RangesWith(PagemapFlags flags)
    {
        var ranges = new List<PageRange>();
        foreach (Segment segment in _segments)
        {
            if ((segment.Flags & flags) != flags)
                continue;
            if (ranges.Count > 0 && ranges[^1].End == segment.Range.Start)
                ranges[^1] = ranges[^1] with { Count = ranges[^1].Count + segment.Range.Count };
            else
                ranges.Add(segment.Range);
        }
        return ranges;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _file?.Dispose();
        _parent?.Dispose();
    }

    private PagesFile? OpenPages(string directory, string pagemapPath) =>
        Pagemap.PagesBytes == 0 ? null : new PagesFile(Path.Combine(directory, $"pages-{Pagemap.PagesId}.img"), Pagemap.PagesBytes, pagemapPath);

    private void AddFromParent(string path, PagemapRun run)
    {
        PageNumber at = run.Range.Start;
        for (int i = _parent!.Find(at); at < run.Range.End; i++)
        {
            if (i < 0 || i >= _parent._segments.Count || !_parent._segments[i].Range.Contains(at))
                throw new BadInputException($"{path}: page {at} is said to be in the parent images, and is not there");
            Segment source = _parent._segments[i];
            PageRange part = source.Range.Intersect(PageRange.Between(at, run.Range.End));
            long offset = source.File is null ? -1 : source.Offset + ((part.Start - source.Range.Start) << PageNumber.Shift);
            PagemapFlags flags = (run.Flags & PagemapFlags.Lazy) | source.Flags;
            _segments.Add(new Segment(part, flags, source.File, offset));
            at = part.End;
        }
    }

    /// <summary>The last segment that begins at <paramref name="page"/> or before; -1 when there is none.</summary>
    private int Find(PageNumber page)
    {
        ReadOnlySpan<Segment> segments = CollectionsMarshal.AsSpan(_segments);
        int low = 0, high = segments.Length;
        while (low < high)
        {
            int middle = (low + high) >>> 1;
            if (segments[middle].Range.Start <= page)
                low = middle + 1;
            else
                high = middle;
        }
        return low - 1;
    }
}
