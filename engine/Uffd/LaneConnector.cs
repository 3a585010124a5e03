using System.Collections.Concurrent;
using Testbed.Core;
using Testbed.PageXfer.Xfer;

namespace Testbed.Uffd;

/// <summary>
/// Opens lanes on a thread of its own, so that the fault-service thread never waits for a connection. The first lane is tried again
/// and again; another one only once, for it is wanted anew whenever the first comes up.
/// </summary>
internal sealed class LaneConnector : IDisposable
{
    private static readonly TimeSpan FirstPause = TimeSpan.FromMilliseconds(50);
    private static readonly TimeSpan LongestPause = TimeSpan.FromSeconds(2);

    private readonly Func<int, PageLane?> _connect;
    private readonly Action _onOpened;
    private readonly BlockingCollection<int> _wanted = [];
    private readonly ConcurrentQueue<(int Number, PageLane Lane)> _opened = new();
    private readonly CancellationTokenSource _stop = new();
    private readonly Thread _thread;

    /// <param name="connect">Opens the lane with this number; null when there can be no such lane.</param>
    /// <param name="onOpened">Called by this object's thread when <see cref="TryTake"/> has something.</param>
    public LaneConnector(Func<int, PageLane?> connect, Action onOpened)
    {
        (_connect, _onOpened) = (connect, onOpened);
        _thread = new Thread(Run) { IsBackground = true, Name = "lane connector" };
        _thread.Start();
    }

    /// <summary>Why the last attempt failed; null when it did not.</summary>
    public string? LastError { get; private set; }

    /// <summary>Wants a lane; it comes out of <see cref="TryTake"/> some time.</summary>
    public void Want(int number) => _wanted.Add(number);

    /// <summary>A lane that was opened.</summary>
    public bool TryTake(out int number, out PageLane lane)
    {
        bool any = _opened.TryDequeue(out (int, PageLane) next);
        (number, lane) = next;
        return any;
    }

    /// <summary>Ends it, and the lanes that nobody took.</summary>
    public void Dispose()
    {
        if (!_thread.IsAlive)
            return;
        _stop.Cancel();
        _thread.Join();
        while (TryTake(out _, out PageLane lane))
            lane.Dispose();
        _wanted.Dispose();
        _stop.Dispose();
    }

    private void Run()
    {
        try
        {
            foreach (int number in _wanted.GetConsumingEnumerable(_stop.Token))
                Open(number);
        }
        catch (OperationCanceledException)
        {
            // The end.
        }
    }

    private void Open(int number)
    {
        for (TimeSpan pause = FirstPause; ; pause = pause * 2 < LongestPause ? pause * 2 : LongestPause)
        {
            try
            {
                if (_connect(number) is not { } lane)
                    return;
                LastError = null;
                _opened.Enqueue((number, lane));
                _onOpened();
                return;
            }
            catch (BadInputException e)
            {
                LastError = e.Message;
                if (number != 0)
                    return;
            }
            if (_stop.Token.WaitHandle.WaitOne(pause))
                return;
        }
    }
}
