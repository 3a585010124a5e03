using Testbed.Core;
using Testbed.PageXfer.Xfer;

namespace Testbed.Uffd;

/// <summary>
/// The lane to images on this machine. Pages are read into the buffers that they are installed from: to map the files instead costs a fault of
/// our own for each page that the kernel copies, and counts the whole image as memory of the daemon.
/// </summary>
internal sealed class LocalLane(IPageSource images) : ServiceLane
{
    private readonly PartQueue _asked = new();
    private uint[] _pids = new uint[64];

    public override bool HasArrivals => !_asked.IsEmpty;

    public override void Request(int tag, uint pid, PageRange range, nint buffer)
    {
        if (tag >= _pids.Length)
            Array.Resize(ref _pids, Math.Max(tag + 1, _pids.Length * 2));
        _pids[tag] = pid;
        _asked.Add(tag, range);
    }

    public override void Receive(IPageReceiver receiver)
    {
        if (_asked.TryTake(out int tag, out PageRange part))
            Read(tag, part, receiver);
    }

    public override bool Hurry(int tag, PageNumber page, IPageReceiver receiver)
    {
        if (!_asked.TryTake(tag, page, out PageRange part))
            return false;
        Read(tag, part, receiver);
        return true;
    }

    public override void Dispose() { }

    public override void Close(Duration patience) { }

    public override void Leave(Duration patience) { }

    private void Read(int tag, PageRange part, IPageReceiver receiver)
    {
        while (!part.IsEmpty)
        {
            Span<byte> buffer = receiver.BufferFor(tag, part);
            PageRange here = part with { Count = buffer.Length >> PageNumber.Shift };
            images.ReadPages(_pids[tag], here, buffer);
            part = PageRange.Between(here.End, part.End);
            receiver.Arrived(tag, here);
        }
    }
}
