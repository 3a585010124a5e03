using System.Net.Sockets;
using Testbed.Core;
using Testbed.PageXfer.Images;
using Testbed.PageXfer.Protocol;
using Testbed.PageXfer.Xfer;

namespace Testbed.PageXfer.Server;

/// <summary>One connection of a page server, and its thread.</summary>
internal sealed class PageServerConnection : IDisposable
{
    private readonly PageServer _server;
    private readonly Socket _socket;
    private readonly string _name;
    private readonly Thread _thread;
    private readonly ReceivingSession? _receiving;
    private readonly LinkShaper.Lane? _lane;
    private int _bulk;
    private bool _closed;

    public PageServerConnection(PageServer server, Socket socket, LinkShaper? shaper)
    {
        _server = server;
        (_socket, _name) = (socket, PeerName.Of(socket));
        if (server.Options.ReceiveDirectory is { } directory)
            _receiving = new ReceivingSession(directory);
        if (shaper is not null && server.Options.Source is { } source)
            _lane = shaper.Open(socket, source, Log);
        _thread = new Thread(Run) { Name = $"page-server {_name}", IsBackground = true };
    }

    public void Start() => _thread.Start();

    /// <summary>Breaks the connection and waits for its thread, which cleans up.</summary>
    public void Dispose()
    {
        _socket.Dispose();
        _thread.Join();
    }

    private void Run()
    {
        BlockingPeer? peer = null;
        try
        {
            peer = new BlockingPeer(_socket, _server.Options.Tls?.Accept(_socket));
            Serve(peer);
        }
        catch (BadInputException e)
        {
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
            _server.Ended(this);
            if (_closed || dropped)
                _server.Options.OnSessionEnd(_closed);
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
                Close(peer);
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
        if (_server.Options.Source is not { } source)
            throw new BadInputException("GET, but this server has no images to serve; expected a receiving session");
        uint pid = message.ToPid();
        PageRange range = message.ToRange();
        long pages = source.Available(pid, range);
        if (pages == 0)
            throw new BadInputException($"GET for page {range.Start} of process {pid}, which is not in the images");
        range = range with { Count = pages };
        _server.Count(pages);
        StepBackForBulk(pages);
        if (_lane is not null)
        {
            _lane.Enqueue(pid, range);
            return;
        }
        peer.Queue(PageServerMessage.Reply(pid, range));
        // Head and first pages leave together; room for the head is why a part is a page short of the buffer.
        const int PartPages = BlockingPeer.MaxReserve / PageNumber.Size - 1;
        while (!range.IsEmpty)
        {
            var part = range with { Count = Math.Min(range.Count, PartPages) };
            source.ReadPages(pid, part, peer.Reserve((int)part.Bytes));
            peer.Flush();
            range = PageRange.Between(part.End, range.End);
        }
    }

    /// <summary>A lane that asks for many pages again and again, and never for a single one, is a bulk lane.</summary>
    private void StepBackForBulk(long pages)
    {
        const int ManyPages = 8, OftenEnough = 4;
        if (_bulk == OftenEnough)
            return;
        _bulk = pages < ManyPages ? 0 : _bulk + 1;
        if (_bulk == OftenEnough)
            BulkThread.StepBack();
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

    private void Close(BlockingPeer peer)
    {
        _receiving?.Complete();
        _lane?.AwaitEmpty();
        peer.Queue(BitConverter.GetBytes(0));
        peer.Flush();
        // Whoever closes first keeps the port in TIME_WAIT: let that be the client.
        _closed = true;
        peer.Shutdown();
        if (!peer.AtEnd())
            throw new BadInputException("data after CLOSE; expected the end of the stream");
    }
}
