using Testbed.Core;
using Testbed.PageXfer.Xfer;

namespace Testbed.Uffd;

/// <summary>
/// The lane to images on this machine. Pages are read into the buffers that they are installed from: to map the files instead costs a fault of
/// our own for each page that the kernel copies, and counts the whole image as memory of the daemon.
/// <para>
/// A page that cannot be read is kept and tried again, because nobody else has it; the others go on meanwhile. Nothing here throws for a
/// file that fails.
/// </para>
/// </summary>
/// <param name="images">What is read.</param>
/// <param name="onDelayed">Called with the tag of a request of which a page cannot be read.</param>
/// <param name="isWanted">Whether a page of a request is still to be installed.</param>
internal sealed class LocalLane(IPageSource images, Action<int> onDelayed, Func<int, PageNumber, bool> isWanted) : ServiceLane
{
    // What fails is tried again so often, and so many pages of it in one round, for each attempt takes a system call.
    private const long RetryMilliseconds = 250;
    private const int TriesPerRound = 1024;

    private readonly PartQueue _asked = new();

    // Pages that could not be read, and while they are tried again those whose turn did not come.
    private List<(int Tag, PageRange Range)> _delayed = [];
    private List<(int Tag, PageRange Range)> _untried = [];
    private uint[] _pids = new uint[64];
    private long _retryAt;
    private string? _trouble;
    private long _delayedPages;

    public override bool HasArrivals => !_asked.IsEmpty || (_delayed.Count > 0 && Environment.TickCount64 >= _retryAt);

    public override string? Trouble => _delayed.Count > 0 ? _trouble : null;

    public override long DelayedPages => _delayedPages;

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
        if (_delayed.Count > 0 && Environment.TickCount64 >= _retryAt)
            Retry(receiver);
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
            PageRange here = ReadSome(tag, part, receiver, out string? why);
            if (why is not null)
                Delay(tag, here = PageRange.Single(part.Start), why);
            part = PageRange.Between(here.End, part.End);
        }
    }

    /// <summary>Reads pages from the start of a range on, and tells of them.</summary>
    /// <returns>Those that were read; <paramref name="why"/> says why it was none.</returns>
    private PageRange ReadSome(int tag, PageRange part, IPageReceiver receiver, out string? why)
    {
        Span<byte> buffer = receiver.BufferFor(tag, part);
        PageRange here = part with { Count = buffer.Length >> PageNumber.Shift };
        here = here with { Count = images.TryReadPages(_pids[tag], here, buffer, out why) };
        if (here.IsEmpty)
            return here;
        why = null;
        receiver.Arrived(tag, here);
        return here;
    }

    private void Delay(int tag, PageRange page, string why)
    {
        _trouble = why;
        onDelayed(tag);
        if (_delayed.Count == 0)
            _retryAt = Environment.TickCount64 + RetryMilliseconds;
        AddTo(_delayed, tag, page);
    }

    private void AddTo(List<(int Tag, PageRange Range)> list, int tag, PageRange pages)
    {
        _delayedPages += pages.Count;
        if (list.Count > 0 && list[^1] is var (last, range) && last == tag && range.End == pages.Start)
            list[^1] = (tag, range with { Count = range.Count + pages.Count });
        else
            list.Add((tag, pages));
    }

    /// <summary>Tries again what failed: all of it as long as it succeeds, and some of what still fails.</summary>
    private void Retry(IPageReceiver receiver)
    {
        int left = TriesPerRound;
        List<(int Tag, PageRange Range)> before = _delayed;
        (_delayed, _delayedPages) = ([], 0);
        foreach ((int tag, PageRange range) in before)
        {
            for (PageRange rest = range; !rest.IsEmpty;)
            {
                if (left == 0)
                {
                    AddTo(_untried, tag, rest);
                    break;
                }
                if (!isWanted(tag, rest.Start))
                {
                    // Its process has ended or dropped it: nobody looks at what is in the buffer.
                    _ = receiver.BufferFor(tag, PageRange.Single(rest.Start));
                    receiver.Arrived(tag, PageRange.Single(rest.Start));
                    rest = PageRange.Between(rest.Start + 1, rest.End);
                    continue;
                }
                PageRange here = ReadSome(tag, rest, receiver, out string? why);
                if (why is not null)
                {
                    left--;
                    Delay(tag, here = PageRange.Single(rest.Start), why);
                }
                rest = PageRange.Between(here.End, rest.End);
            }
        }
        // Those whose turn did not come are the first in the next round.
        _untried.AddRange(_delayed);
        before.Clear();
        (_delayed, _untried) = (_untried, before);
        _retryAt = Environment.TickCount64 + RetryMilliseconds;
    }
}
