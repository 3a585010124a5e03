using Testbed.PageXfer.Server;

namespace Testbed.Cli;

/// <summary>
/// When a page server ends, and how. A session ends with a client's CLOSE, or with its asking for what is not here.
/// Over how many connections it goes is the client's affair: our daemon opens several and says CLOSE over one of
/// them.
/// </summary>
/// <param name="limit">The number of sessions after which the server ends; 0: it goes on.</param>
/// <param name="isReceiving">Images are received: a connection that ends without CLOSE is a failed session.</param>
/// <param name="isFrozen">Processes stand still for it: they are not held up for a client that is gone.</param>
/// <param name="log">Gets a line for each end.</param>
internal sealed class ServedSessions(int limit, bool isReceiving, bool isFrozen, Action<string> log) : IDisposable
{
    private static readonly TimeSpan LookAgain = TimeSpan.FromMilliseconds(10);

    // Of a client's connections beside the one that said CLOSE, while processes stand still.
    private static readonly TimeSpan FrozenPatience = TimeSpan.FromSeconds(5);

    private readonly SemaphoreSlim _ended = new(0);
    private volatile bool _failed, _abandoned;

    /// <summary>Whether a session did not end well.</summary>
    public bool Failed => _failed;

    /// <summary>A connection has ended. From any thread.</summary>
    public void Ended(ConnectionEnd end)
    {
        switch (end)
        {
            case ConnectionEnd.Closed:
                log("session over");
                break;
            case ConnectionEnd.Refused:
                // Without a limit there is no one session that it would be the result of.
                _failed |= limit > 0 || isReceiving;
                log("session over: the client asked for what cannot be served");
                break;
            case ConnectionEnd.Left when !isReceiving:
                // Nothing was lost by it here, and it may come back.
                return;
            default:
                _failed = true;
                log("session broke off: the client is gone without CLOSE");
                break;
        }
        _ = _ended.Release();
    }

    /// <summary>The last client that had fetched pages is gone without a word. From any thread.</summary>
    public void Abandoned()
    {
        if (!isFrozen)
        {
            log("the client is gone and did not say that all is in; it may come back");
            return;
        }
        (_failed, _abandoned) = (true, true);
        log("the client is gone and did not say that all is in");
        _ = _ended.Release();
    }

    /// <summary>Waits until the server has done what it is there for, and nobody else fetches pages from it.</summary>
    /// <exception cref="OperationCanceledException">Cancelled before.</exception>
    public void Await(PageServer server, CancellationToken cancel)
    {
        for (int left = limit == 0 ? int.MaxValue : limit; left > 0 && !_abandoned && !server.IsOver; left--)
            Wait(server, cancel);
        long end = isFrozen ? Environment.TickCount64 + (long)FrozenPatience.TotalMilliseconds : long.MaxValue;
        while (!_abandoned && server.Clients > 0 && Environment.TickCount64 < end)
            Wait(cancel);
    }

    /// <inheritdoc/>
    public void Dispose() => _ended.Dispose();

    private void Wait(PageServer server, CancellationToken cancel)
    {
        // An inherited connection is the only one there will be, and may end without being a session.
        while (!_ended.Wait(server.Accepts ? Timeout.InfiniteTimeSpan : LookAgain, cancel))
        {
            if (server.IsOver)
                return;
        }
    }

    private static void Wait(CancellationToken cancel)
    {
        _ = cancel.WaitHandle.WaitOne(LookAgain);
        cancel.ThrowIfCancellationRequested();
    }
}
