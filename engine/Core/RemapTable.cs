namespace Testbed.Core;

/// <summary>
/// Where dumped pages are at run time. Everything is where it was, but for the segments that mremap moved; those
/// are few, and the list is empty in most processes.
/// </summary>
internal sealed class RemapTable
{
    private readonly record struct Segment(PageNumber Run, long Count, PageNumber Dump)
    {
        public PageRange RunRange => new(Run, Count);

        public PageRange DumpRange => new(Dump, Count);
    }

    private readonly List<Segment> _moved;

    public RemapTable() => _moved = [];

    private RemapTable(List<Segment> moved) => _moved = [.. moved];

    public RemapTable Fork() => new(_moved);

    /// <summary>The dump address of a run-time page; false when nothing that was dumped is there.</summary>
    public bool TryToDump(PageNumber run, out PageNumber dump)
    {
        PageNumber? found = _moved.Count == 0 ? run : MovedToDump(run);
        dump = found.GetValueOrDefault();
        return found.HasValue;
    }

    private PageNumber? MovedToDump(PageNumber run)
    {
        bool movedAway = false;
        foreach (Segment s in _moved)
        {
            if (s.RunRange.Contains(run))
                return s.Dump + (run - s.Run);
            movedAway |= s.DumpRange.Contains(run);
        }
        return movedAway ? null : run;
    }

    /// <summary>The run-time place of the first pages of a dump range, as many as stayed together.</summary>
    public PageRange ToRun(PageRange dump) => _moved.Count == 0 ? dump : MovedToRun(dump);

    private PageRange MovedToRun(PageRange dump)
    {
        PageNumber end = dump.End;
        foreach (Segment s in _moved)
        {
            if (s.DumpRange.Contains(dump.Start))
                return new PageRange(s.Run + (dump.Start - s.Dump), Math.Min(dump.Count, s.DumpRange.End - dump.Start));
            if (s.Dump > dump.Start && s.Dump < end)
                end = s.Dump;
        }
        return PageRange.Between(dump.Start, end);
    }

    /// <summary>The dump ranges of what is at a run-time range.</summary>
    public IEnumerable<PageRange> ToDump(PageRange run)
    {
        if (_moved.Count == 0)
            return [run];
        var found = new List<PageRange>();
        for (PageNumber at = run.Start; at < run.End;)
        {
            // The next border of any segment, in either view, ends a stretch that moved, or stayed, as one.
            PageNumber end = run.End;
            foreach (Segment s in _moved)
            {
                foreach (PageNumber border in (ReadOnlySpan<PageNumber>)[s.Run, s.RunRange.End, s.Dump, s.DumpRange.End])
                {
                    if (border > at && border < end)
                        end = border;
                }
            }
            if (TryToDump(at, out PageNumber dump))
                found.Add(new PageRange(dump, end - at));
            at = end;
        }
        return found;
    }

    /// <summary>The pages at <paramref name="from"/> are at <paramref name="to"/> now.</summary>
    public void Move(PageRange from, PageNumber to)
    {
        var arrived = new List<Segment>();
        foreach (PageRange dump in ToDump(from))
        {
            PageRange run = ToRun(dump);
            arrived.Add(new Segment(to + (run.Start - from.Start), dump.Count, dump.Start));
        }
        Forget(from);
        Forget(new PageRange(to, from.Count));
        _moved.AddRange(arrived);
    }

    /// <summary>Nothing that was dumped is at this run-time range any more.</summary>
    private void Forget(PageRange run)
    {
        for (int i = _moved.Count - 1; i >= 0; i--)
        {
            Segment s = _moved[i];
            PageRange cut = s.RunRange.Intersect(run);
            if (cut.IsEmpty)
                continue;
            _moved.RemoveAt(i);
            if (s.Run < cut.Start)
                _moved.Add(new Segment(s.Run, cut.Start - s.Run, s.Dump));
            if (cut.End < s.RunRange.End)
                _moved.Add(new Segment(cut.End, s.RunRange.End - cut.End, s.Dump + (cut.End - s.Run)));
        }
    }
}
