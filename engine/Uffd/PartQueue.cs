using Testbed.Core;

namespace Testbed.Uffd;

/// <summary>
/// Pages of requests that the fault service was not told of yet: first in, first out, a part at a time; or out of turn, for a page that
/// somebody waits for.
/// </summary>
internal sealed class PartQueue
{
    private const int TakenAtMost = 4096;

    // Oldest first, from _oldest on.
    private readonly List<(int Tag, PageRange Range)> _parts = new(64);
    private int _oldest;

    public bool IsEmpty => _oldest == _parts.Count;

    public void Add(int tag, PageRange range)
    {
        // What was taken goes now and then, for under a steady backlog the queue is never empty.
        if (IsEmpty || _oldest >= TakenAtMost)
        {
            _parts.RemoveRange(0, _oldest);
            _oldest = 0;
        }
        _parts.Add((tag, range));
    }

    /// <summary>The oldest pages.</summary>
    public bool TryTake(out int tag, out PageRange part)
    {
        (tag, part) = (0, default);
        if (IsEmpty)
            return false;
        (tag, PageRange range) = _parts[_oldest];
        part = range with { Count = Math.Min(range.Count, ServiceLane.PartPages) };
        PageRange rest = PageRange.Between(part.End, range.End);
        if (rest.IsEmpty)
            _oldest++;
        else
            _parts[_oldest] = (tag, rest);
        return true;
    }

    /// <summary>A page of a request, with what follows it; false when it was taken before.</summary>
    public bool TryTake(int tag, PageNumber page, out PageRange part)
    {
        for (int i = _oldest; i < _parts.Count; i++)
        {
            (int other, PageRange range) = _parts[i];
            if (other != tag || !range.Contains(page))
                continue;
            // What is left stays in its place.
            part = new PageRange(page, Math.Min(range.End - page, ServiceLane.PartPages));
            PageRange before = PageRange.Between(range.Start, part.Start), after = PageRange.Between(part.End, range.End);
            _parts[i] = (tag, before.IsEmpty ? after : before);
            if (_parts[i].Range.IsEmpty)
                _parts.RemoveAt(i);
            else if (!before.IsEmpty && !after.IsEmpty)
                _parts.Insert(i + 1, (tag, after));
            return true;
        }
        part = default;
        return false;
    }
}
