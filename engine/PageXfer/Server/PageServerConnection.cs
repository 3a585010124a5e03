using System.Net.Sockets;
using Microsoft.Win32.SafeHandles;
using Testbed.Core;
using Testbed.PageXfer.Images;
using Testbed.PageXfer.Protocol;
using Testbed.PageXfer.Xfer;

namespace Testbed.PageXfer.Server;

/// <summary>One connection of a page server, and its thread.</summary>
internal sealed class PageServerConnection : IDisposable
{
    // Below, a copy costs less than the further system call that sending from the file takes. Measured over loopback, at 64
    // pages a request: 6.8 instead of 3.0 GB/s, with less than half the processor time; at 8 equal; at 4 1.8 instead of 2.9.
    private const int SendFilePages = 8;

    // A part of a long reply, some 50 us. Between two parts, back from the kernel, the processor goes to who was woken meanwhile, if it is his turn.
    private const int PartPages = 63;

    private const int BatchBytes = 64 * 1024;

    private readonly PageServer _server;
    private readonly Socket _socket;
    private readonly string _name;
    private readonly Thread _thread;
    private readonly ReceivingSession? _receiving;
    private readonly LinkShaper.Lane? _lane;
    private bool _closed;

    // Read by who counts clients.
    private volatile bool _hasFetched;

    /// <summary>Whether it got pages and did not say that all is in.</summary>
    public bool HasFetched { get => _hasFetched; private set => _hasFetched = value; }

    public PageServerConnection(PageServer server, Socket socket, LinkShaper? shaper)
    {
        _server = server;
        (_socket, _name) = (socket, PeerName.Of(socket));
        if (server.Options.ReceiveDirectory is { } directory)
            _receiving = new ReceivingSession(directory);
        if (shaper is not null && server.Source is { } source)
            _lane = shaper.Open(socket, source, Log);
        _thread = new Thread(Run) { Name = $"page-server {_name}", IsBackground = true };
    }

    public void Start() => _thread.Start();

    /// <summary>Breaks the connection and waits for its thread, which cleans up.</summary>
    public void Dispose()
    {
        LocalSockets.Unblock(_socket);
        _socket.Dispose();
        _thread.Join();
    }

    private void Run()
    {
        BlockingPeer? peer = null;
        bool refused = false;
        try
        {
            peer = new BlockingPeer(_socket, _server.Options.Tls?.Accept(_socket)) { Patience = _server.Options.Patience };
            Serve(peer);
        }
        catch (BadInputException e)
        {
            refused = peer is { IsLost: false };
            Log(e.Message);
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException or IOException or UnauthorizedAccessException)
        {
            Log(e.Message);
        }
        finally
        {
            bool dropped = _receiving is { IsEmpty: false };
            _lane?.Dispose();
            _receiving?.Dispose();
            // Last, for who sees the connection end may look into the log.
            peer?.Dispose();
            _socket.Dispose();
            _server.Ended(this, _closed ? ConnectionEnd.Closed
                : dropped ? ConnectionEnd.Dropped
                : refused ? ConnectionEnd.Refused
                : ConnectionEnd.Left);
        }
    }

    private void Log(string line) =>
        _server.Log(line.StartsWith(_name, StringComparison.Ordinal) ? line : $"{_name}: {line}");

    private void Serve(BlockingPeer peer)
    {
        while (peer.TryReadMessage(out PageServerMessage message))
        {
            if (message.Command is PageServerCommand.Close or PageServerCommand.ForceClose)
            {
                Close(peer, message.Command == PageServerCommand.ForceClose);
                return;
            }
            if (message.Command == PageServerCommand.Get)
                Get(peer, message);
            else
                Receive(peer, message);
        }
        if (_receiving is { IsEmpty: false })
            throw new BadInputException("the stream ends without CLOSE; the images received so far are dropped");
    }

    private void Get(BlockingPeer peer, in PageServerMessage message)
    {
        if (_server.Source is not { } source)
            throw new BadInputException("GET, but this server has no images to serve; expected a receiving session");
        uint pid = message.ToPid();
        PageRange range = message.ToRange();
        long available = source.Available(pid, range);
        if (available == 0)
            throw new BadInputException($"GET for page {range.Start} of process {pid}, which is not in the images");
        range = range with { Count = available };
        _server.Count(available);
        if (!HasFetched)
        {
            HasFetched = true;
            _server.Fetched();
        }
        if (_lane is not null)
        {
            _lane.Enqueue(pid, range);
            return;
        }
        peer.Queue(PageServerMessage.Reply(pid, range));
        while (!range.IsEmpty)
        {
            long pages = range.Count >= SendFilePages && peer.CanSendFile ? SendFromFile(peer, source, pid, range) : 0;
            if (pages == 0)
                pages = SendCopy(peer, source, pid, range);
            range = PageRange.Between(range.Start + pages, range.End);
        }
        // Replies to requests that came together leave together, but not so many that the first waits long.
        if (peer.Queued >= BatchBytes)
            peer.Flush();
    }

    private long SendFromFile(BlockingPeer peer, IPageSource source, uint pid, PageRange range)
    {
        long pages = Math.Min(Math.Min(range.Count, PartPages), source.Locate(pid, range.Start, out SafeFileHandle? file, out long offset));
        if (pages > 0)
            Send(peer, file!, offset, pages);
        return pages;
    }

    private void Send(BlockingPeer peer, SafeFileHandle file, long offset, long pages)
    {
        try
        {
            peer.SendFile(file, offset, pages << PageNumber.Shift);
        }
        catch (IOException e)
        {
            _server.Options.OnSourceFailure?.Invoke(e.Message);
            throw;
        }
    }

    private static long SendCopy(BlockingPeer peer, IPageSource source, uint pid, PageRange range)
    {
        var part = range with { Count = Math.Min(range.Count, PartPages) };
        source.ReadPages(pid, part, peer.Reserve((int)part.Bytes));
        return part.Count;
    }

    private void Receive(BlockingPeer peer, in PageServerMessage message)
    {
        if (_receiving is null)
            throw new BadInputException($"message {message.Name}; expected {PageServerCommand.Get} or {PageServerCommand.Close}, for this server only serves pages");
        switch (message.Command)
        {
            case PageServerCommand.Open:
                _receiving.Open(message.ToPagemap());
                break;
            case PageServerCommand.Open2:
                bool hasParent = _receiving.Open(message.ToPagemap());
                peer.Queue([(byte)(hasParent ? 1 : 0)]);
                peer.Flush();
                break;
            case PageServerCommand.Parent:
                peer.Queue(BitConverter.GetBytes(_receiving.HasParent(message.ToPagemap()) ? 1 : 0));
                peer.Flush();
                break;
            case PageServerCommand.AddF:
                _receiving.Add(peer, message, message.Flags);
                break;
            case PageServerCommand.Add:
                _receiving.Add(peer, message, PagemapFlags.Present);
                break;
            case PageServerCommand.Hole:
                _receiving.Add(peer, message, PagemapFlags.Parent);
                break;
            default:
                throw new BadInputException($"message {message.Name}; expected a command of the page-server protocol (1 to 7, 0x1023, 0x1024)");
        }
    }

    private void Close(BlockingPeer peer, bool isForced)
    {
        _receiving?.Complete();
        _lane?.AwaitEmpty();
        _server.Closed();
        peer.Queue(BitConverter.GetBytes(0));
        peer.Flush();
        // Whoever closes first keeps the port in TIME_WAIT: let that be the client.
        _closed = true;
        HasFetched = false;
        peer.Shutdown();
        // An inherited socket, for which FORCE_CLOSE was made, may stay open in somebody else's hands.
        if (!isForced && _server.Accepts && !peer.AtEnd())
            throw new BadInputException("data after CLOSE; expected the end of the stream");
    }
}
