using Testbed.Core;
using Testbed.PageXfer.Xfer;

namespace Testbed.Uffd;

/// <summary>The lane to images on this machine: pages are installed straight from the mapped files, without a buffer.</summary>
internal sealed class LocalLane(MappedImages images) : ServiceLane
{
    private readonly Queue<(int Tag, uint Pid, PageRange Range)> _asked = new();
    private PageRange _rest;

    public override bool HasArrivals => _asked.Count > 0;

    public override void Request(int tag, uint pid, PageRange range, nint buffer)
    {
        _asked.Enqueue((tag, pid, range));
        if (_asked.Count == 1)
            _rest = range;
    }

    public override void Receive(IPageReceiver receiver)
    {
        if (_asked.Count == 0)
            return;
        (int tag, uint pid, _) = _asked.Peek();
        PageRange part = _rest with { Count = Math.Min(_rest.Count, PartPages) };
        images.Populate(pid, part);
        _rest = PageRange.Between(part.End, _rest.End);
        // The books are in order before the receiver asks for more.
        if (_rest.IsEmpty)
        {
            _asked.Dequeue();
            if (_asked.TryPeek(out (int, uint, PageRange Range) next))
                _rest = next.Range;
        }
        receiver.Arrived(tag, part);
    }

    public override void Dispose() { }

    public override void Close(Duration patience) { }
}
