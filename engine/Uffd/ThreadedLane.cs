using Mono.Unix.Native;
using Testbed.Core;
using Testbed.PageXfer.Xfer;
using Testbed.Uffd.Interop;

namespace Testbed.Uffd;

/// <summary>
/// A connection with a thread of its own, for bulk: the fault-service thread does not spend its time copying out of a socket. The
/// two exchange requests and arrivals through rings; who sleeps is woken by an eventfd, and only then.
/// </summary>
internal sealed unsafe class ThreadedLane : ServiceLane, IPageReceiver
{
    private readonly record struct Asked(int Tag, uint Pid, PageRange Range, nint Buffer);

    private readonly record struct Came(int Tag, PageRange Range);

    // Requests are large, and bounded by the bytes in flight.
    private const int RingSize = 4096;

    private const int StepsBack = 10;

    private readonly PageLane _lane;
    private readonly Action _onArrival;
    private readonly SpscRing<Asked> _asked = new(RingSize);
    private readonly SpscRing<Came> _came = new(RingSize);
    private readonly Thread _thread;
    private readonly int _wakeFd = Native.EventFd(0, Native.Fcntl.O_NONBLOCK | Native.Fcntl.O_CLOEXEC);

    // The lane thread's: where the pages of a request go, by its tag.
    private (nint Buffer, PageRange Range)[] _buffers = new (nint, PageRange)[64];

    // The service thread's: what has come and was not told of.
    private readonly PartQueue _here = new();
    private volatile BadInputException? _failure;
    private volatile bool _stop;
    private int _sleeps;

    /// <param name="lane">The connection; it becomes this object's.</param>
    /// <param name="onArrival">Called by the lane's thread when something has come: must be quick.</param>
    public ThreadedLane(PageLane lane, Action onArrival)
    {
        (_lane, _onArrival) = (lane, onArrival);
        _thread = new Thread(Run) { IsBackground = true, Name = "page lane" };
        _thread.Start();
    }

    public override bool ReceivesAhead => true;

    public override bool HasArrivals => !_here.IsEmpty || !_came.IsEmpty || _failure is not null;

    public override void Request(int tag, uint pid, PageRange range, nint buffer)
    {
        if (!_asked.TryWrite(new Asked(tag, pid, range, buffer)))
            throw new InvalidOperationException($"more than {RingSize} requests are open on one lane");
        Interlocked.MemoryBarrier();
        if (Volatile.Read(ref _sleeps) != 0)
            Wake();
    }

    public override void Receive(IPageReceiver receiver)
    {
        TakeIn();
        if (_here.TryTake(out int tag, out PageRange part))
            receiver.Arrived(tag, part);
        else if (_failure is { } failure)
            throw failure;
    }

    public override bool Hurry(int tag, PageNumber page, IPageReceiver receiver)
    {
        TakeIn();
        if (!_here.TryTake(tag, page, out PageRange part))
            return false;
        receiver.Arrived(tag, part);
        return true;
    }

    private void TakeIn()
    {
        while (_came.TryRead(out Came came))
            _here.Add(came.Tag, came.Range);
    }

    public override void Dispose()
    {
        EndThread();
        _lane.Dispose();
    }

    public override void Close(Duration patience)
    {
        EndThread();
        _lane.Close(patience);
    }

    public override void Leave(Duration patience)
    {
        EndThread();
        _lane.Leave(patience);
    }

    private void EndThread()
    {
        _stop = true;
        Wake();
        _thread.Join();
        _ = Native.Close(_wakeFd);
    }

    Span<byte> IPageReceiver.BufferFor(int tag, PageRange range)
    {
        (nint buffer, PageRange whole) = _buffers[tag];
        long pages = Math.Min(range.Count, QuietPartPages);
        return new Span<byte>((byte*)buffer + ((range.Start - whole.Start) << PageNumber.Shift), (int)(pages << PageNumber.Shift));
    }

    void IPageReceiver.Arrived(int tag, PageRange range)
    {
        // Full only when the service thread is far behind: it makes room, and must not be waited for in vain.
        while (!_came.TryWrite(new Came(tag, range)) && !_stop)
            Thread.Sleep(0);
        _onArrival();
    }

    private void Wake()
    {
        ulong one = 1;
        _ = Native.Write(_wakeFd, &one, sizeof(ulong));
    }

    private void Run()
    {
        try
        {
            // Behind those that somebody waits for: with fewer CPUs than threads a fault, which needs four wake-ups (daemon, server, daemon, program),
            // else waits at each until a thread that copies megabytes has used up its time slice. Counted by thread; failing is harmless.
            _ = Syscall.nice(StepsBack);
            while (!_stop)
            {
                while (_asked.TryRead(out Asked asked))
                {
                    if (asked.Tag >= _buffers.Length)
                        Array.Resize(ref _buffers, Math.Max(asked.Tag + 1, _buffers.Length * 2));
                    _buffers[asked.Tag] = (asked.Buffer, asked.Range);
                    _lane.Request(asked.Tag, asked.Pid, asked.Range);
                }
                if (_lane.WantsWrite)
                    _lane.Flush();
                if (!_lane.Receive(this))
                    Sleep();
            }
        }
        catch (BadInputException e)
        {
            _failure = e;
            _onArrival();
        }
    }

    /// <summary>Waits for the socket or for a request. The flag is up before the ring is looked at for the last time, and the
    /// other side looks at the flag after it wrote: one of the two sees the other.</summary>
    private void Sleep()
    {
        Volatile.Write(ref _sleeps, 1);
        Interlocked.MemoryBarrier();
        if (_asked.IsEmpty && !_stop)
        {
            Native.PollFd* polls = stackalloc Native.PollFd[2];
            polls[0] = new() { fd = _wakeFd, events = Native.PollH.POLLIN };
            polls[1] = new()
            {
                fd = (int)_lane.Socket.SafeHandle.DangerousGetHandle(),
                events = (short)(_lane.WantsWrite ? Native.PollH.POLLIN | Native.PollH.POLLOUT : Native.PollH.POLLIN),
            };
            _ = Native.Poll(polls, 2, -1);
            if ((polls[0].revents & Native.PollH.POLLIN) != 0)
            {
                ulong count;
                _ = Native.Read(_wakeFd, &count, sizeof(ulong));
            }
            if (_lane.Outstanding == 0 && polls[1].revents != 0 && !_stop)
                _lane.CheckIdle();
        }
        Volatile.Write(ref _sleeps, 0);
    }
}
