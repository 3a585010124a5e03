using Testbed.Core;
using Testbed.PageXfer.Images;

namespace Testbed.PageXfer.Xfer;

/// <summary>
/// Where the memory of one process is written to: the page-xfer contract. Pagemap and pages are apart: a Present range is followed by its
/// content through one or more <see cref="WritePages"/>; a range that is only Lazy or Parent is announced and its
/// content comes later, from elsewhere, or never. A page of no range is a hole and reads as zero.
/// Disposed before <see cref="Complete"/>, it leaves nothing behind.
/// </summary>
public interface IPageSink : IDisposable
{
    /// <summary>Whether there are parent images of this process, so that Parent ranges make sense.</summary>
    bool HasParent { get; }

    /// <summary>Announces a range. Ranges come sorted by address and do not overlap.</summary>
    /// <exception cref="BadInputException">Unsorted, overlapping or empty, content of the last Present range is
    /// missing, or a Parent range is not in the parent.</exception>
    void WritePagemap(PageRange range, PagemapFlags flags);

    /// <summary>Content of the Present range announced last, in order; as much of it as is at hand.</summary>
    /// <exception cref="BadInputException">More than was announced.</exception>
    void WritePages(ReadOnlySpan<byte> bytes);

    /// <summary>All ranges and their content have been written: make them durable under their names.</summary>
    /// <exception cref="BadInputException">Content of the last Present range is missing.</exception>
    void Complete();
}

/// <summary>The order that every sink asks for, checked in one place.</summary>
internal sealed class SinkOrder(string name)
{
    private PageNumber _end;
    private long _owed;

    public void Announce(PageRange range, PagemapFlags flags)
    {
        CheckNothingOwed();
        if (range.IsEmpty || range.Start < _end || range.End <= range.Start)
            throw new BadInputException($"{name}: pages {range}: empty, unsorted or overlapping; expected sorted ranges of at least one page");
        _end = range.End;
        _owed = (flags & PagemapFlags.Present) != 0 ? range.Bytes : 0;
    }

    public void Content(int bytes)
    {
        if (bytes > _owed)
            throw new BadInputException($"{name}: {bytes} bytes of content; expected at most the {_owed} that were announced and have not come yet");
        _owed -= bytes;
    }

    public void CheckNothingOwed()
    {
        if (_owed != 0)
            throw new BadInputException($"{name}: {_owed} bytes of content are missing before {_end}");
    }
}
