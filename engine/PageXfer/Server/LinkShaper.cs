using System.Diagnostics;
using System.Net.Sockets;
using Mono.Unix.Native;
using Testbed.Core;
using Testbed.PageXfer.Images;
using Testbed.PageXfer.Protocol;
using Testbed.PageXfer.Xfer;

namespace Testbed.PageXfer.Server;

/// <summary>
/// A link of given rate and delay in user space, for the replies of all connections of a server together. One thread runs the
/// <see cref="LinkScheduler"/>, the same as in replay, on the monotonic clock: a reply joins the queue when its request has been
/// read, counts with its pages alone (heads are as free as requests are), and each quantum is sent when it is due at the client.
/// </summary>
internal sealed class LinkShaper : IDisposable
{
    // A timed sleep ends about 35 us late on a virtual CPU (measured, timer slack 1 ns); the last stretch is spun.
    private static readonly Duration SpinMargin = Duration.FromMicroseconds(30);
    private static readonly Duration RetryBlocked = Duration.FromMilliseconds(0.5);
    private static readonly Duration LongestSleep = Duration.FromMilliseconds(50);

    private readonly object _gate = new();
    private readonly LinkScheduler _scheduler;
    private readonly Lane?[] _lanes;
    private readonly Queue<(Lane Lane, Departure Departure)> _travelling = new();
    private readonly List<Lane> _granted = [];
    private readonly Thread _thread;
    private readonly long _epoch = Stopwatch.GetTimestamp();
    private bool _stopping;
    private volatile bool _lifted;

    public LinkShaper(LinkParameters link, int maxLanes)
    {
        _scheduler = new LinkScheduler(link, maxLanes);
        _lanes = new Lane?[maxLanes];
        _thread = new Thread(Run) { Name = "link-shaper", IsBackground = true };
        _thread.Start();
    }

    /// <summary>A lane for a connection whose socket from now on does not block.</summary>
    public Lane Open(Socket socket, IPageSource source, Action<string> log)
    {
        lock (_gate)
        {
            int free = Array.IndexOf(_lanes, null);
            return _lanes[free] = new Lane(this, free, socket, source, log);
        }
    }

    public void Dispose()
    {
        lock (_gate)
        {
            _stopping = true;
            Monitor.PulseAll(_gate);
        }
        _thread.Join();
    }

    /// <summary>From now on the link has no delay and no limit, also for what is on its way.</summary>
    public void Lift()
    {
        lock (_gate)
        {
            _lifted = true;
            Monitor.PulseAll(_gate);
        }
    }

    private Instant Now => new((long)((Stopwatch.GetTimestamp() - _epoch) * (1e9 / Stopwatch.Frequency)));

    private void Run()
    {
        SharpenTimer();
        while (true)
        {
            Instant next;
            lock (_gate)
            {
                if (_stopping)
                    return;
                next = Step();
                if (next == Instant.Never && _granted.Count == 0)
                {
                    Monitor.Wait(_gate);
                    continue;
                }
            }
            // What a full socket did not take stays granted.
            _granted.RemoveAll(static lane => lane.Flush());
            if (_granted.Count > 0)
                next = new Instant(Math.Min(next.Nanoseconds, (Now + RetryBlocked).Nanoseconds));
            // A reply that is enqueued meanwhile is due later than what is waited for here, because the link is first in, first out.
            if (next != Instant.Never)
                SleepUntil(next);
        }
    }

    /// <summary>Grants what is due to its lanes; says when the next thing happens.</summary>
    private Instant Step()
    {
        Instant now = _lifted ? Instant.Never : Now;
        while (_scheduler.TryDepart(now, out Departure departure))
            _travelling.Enqueue((_lanes[departure.Lane]!, departure));
        (Lane Lane, Departure Departure) head;
        while (_travelling.TryPeek(out head) && head.Departure.Due <= now)
        {
            _travelling.Dequeue();
            head.Lane.Grant(head.Departure.Bytes);
            if (!_granted.Contains(head.Lane))
                _granted.Add(head.Lane);
        }
        Instant next = _scheduler.NextStart;
        return _travelling.TryPeek(out head) && head.Departure.Due < next ? head.Departure.Due : next;
    }

    private void SleepUntil(Instant time)
    {
        for (Duration left = time - Now; left > SpinMargin && !_lifted; left = time - Now)
        {
            // In slices, so that a link that is lifted is noticed.
            long ns = Math.Min((left - SpinMargin).Nanoseconds, LongestSleep.Nanoseconds);
            var request = new Timespec { tv_sec = ns / 1_000_000_000, tv_nsec = ns % 1_000_000_000 };
            Timespec rest = default;
            // A signal may end it early: the loop sees that.
            _ = Syscall.nanosleep(ref request, ref rest);
        }
        while (Now < time && !_lifted)
            Thread.SpinWait(8);
    }

    /// <summary>Asks the kernel not to be generous with this thread's timers (50 us late by default).</summary>
    private static void SharpenTimer()
    {
        try
        {
            string thread = Path.GetFileName(new FileInfo("/proc/thread-self").LinkTarget ?? "self");
            File.WriteAllText($"/proc/{thread}/timerslack_ns", "1");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // Then it is a little less precise.
        }
    }

    /// <summary>The replies of one connection: a stream of heads and pages, of which so much may be sent as the link has carried.</summary>
    internal sealed class Lane : IDisposable
    {
        private readonly record struct Reply(uint Pid, PageRange Range, bool Begun);

        private readonly LinkShaper _shaper;
        private readonly int _index;
        private readonly Socket _socket;
        private readonly IPageSource _source;
        private readonly Action<string> _log;
        private readonly Queue<Reply> _replies = new();
        private readonly byte[] _chunk = new byte[PageServerMessage.Size + (16 << PageNumber.Shift)];
        private Reply _current;
        private int _chunkStart;
        private int _chunkEnd;
        private long _credit;
        private bool _dead;

        public Lane(LinkShaper shaper, int index, Socket socket, IPageSource source, Action<string> log)
        {
            socket.Blocking = false;
            (_shaper, _index, _socket, _source, _log) = (shaper, index, socket, source, log);
        }

        public void Enqueue(uint pid, PageRange range)
        {
            lock (_replies)
                _replies.Enqueue(new Reply(pid, range, Begun: false));
            lock (_shaper._gate)
            {
                _shaper._scheduler.Enqueue(_index, tag: 0, range.Bytes, _shaper.Now);
                Monitor.Pulse(_shaper._gate);
            }
        }

        /// <summary>Waits until all replies have been sent, or cannot be any more.</summary>
        public void AwaitEmpty()
        {
            lock (_replies)
            {
                while (!_dead && (_replies.Count > 0 || !_current.Range.IsEmpty || _chunkEnd > _chunkStart))
                    Monitor.Wait(_replies);
            }
        }

        public void Grant(long bytes) => _credit += bytes;

        /// <summary>Sends what is granted. False: the socket is full, try again later.</summary>
        public bool Flush()
        {
            try
            {
                while (!_dead && (_chunkEnd > _chunkStart || NextChunk()))
                {
                    int sent = _socket.Send(_chunk.AsSpan(_chunkStart, _chunkEnd - _chunkStart), SocketFlags.None, out SocketError error);
                    if (error == SocketError.WouldBlock)
                        return false;
                    if (error != SocketError.Success)
                        throw new SocketException((int)error);
                    lock (_replies)
                    {
                        _chunkStart += sent;
                        Monitor.PulseAll(_replies);
                    }
                }
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException or BadInputException or IOException)
            {
                Fail(e);
            }
            return true;
        }

        public void Dispose()
        {
            lock (_shaper._gate)
            {
                _shaper._scheduler.Clear(_index);
                _shaper._lanes[_index] = null;
            }
            lock (_replies)
                _dead = true;
        }

        private bool NextChunk()
        {
            if (_credit == 0)
                return false;
            lock (_replies)
            {
                if (_current.Range.IsEmpty)
                    _current = _replies.Dequeue();
                (_chunkStart, _chunkEnd) = (0, 0);
            }
            if (!_current.Begun)
            {
                PageServerMessage.Reply(_current.Pid, _current.Range).Write(_chunk);
                _chunkEnd = PageServerMessage.Size;
            }
            // Quanta, like replies, are whole pages.
            long room = (_chunk.Length - PageServerMessage.Size) >> PageNumber.Shift;
            var part = _current.Range with { Count = Math.Min(Math.Min(room, _credit >> PageNumber.Shift), _current.Range.Count) };
            _source.ReadPages(_current.Pid, part, _chunk.AsSpan(_chunkEnd));
            _credit -= part.Bytes;
            lock (_replies)
            {
                _chunkEnd += (int)part.Bytes;
                _current = _current with { Range = PageRange.Between(part.End, _current.Range.End), Begun = true };
            }
            return true;
        }

        private void Fail(Exception e)
        {
            bool first;
            lock (_replies)
            {
                first = !_dead;
                _dead = true;
                Monitor.PulseAll(_replies);
            }
            if (!first)
                return;
            _log(e.Message);
            // Ends the wait of the connection's own thread, which cleans up.
            try
            {
                _socket.Shutdown(SocketShutdown.Both);
            }
            catch (Exception gone) when (gone is SocketException or ObjectDisposedException)
            {
            }
        }
    }
}
