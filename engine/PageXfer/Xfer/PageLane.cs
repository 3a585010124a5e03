using System.Net;
using System.Net.Sockets;
using Testbed.Core;
using Testbed.PageXfer.Images;
using Testbed.PageXfer.Protocol;

namespace Testbed.PageXfer.Xfer;

/// <summary>Takes the pages that come over a lane.</summary>
public interface IPageReceiver
{
    /// <summary>
    /// Memory for the pages of a request that have not arrived yet, from the first of them on: whole pages, one at least.
    /// Called before each receive: until <see cref="Arrived"/> told of a page, its memory must stay the same.
    /// </summary>
    Span<byte> BufferFor(int tag, PageRange range);

    /// <summary>These pages of a request are in the memory that was given. May ask for further pages on the same lane.</summary>
    void Arrived(int tag, PageRange range);
}

/// <summary>
/// One connection to a serving page server, for an event loop of one thread: never waits (but in
/// <see cref="Close"/>), allocates nothing per request in steady state. Every failure is a <see cref="BadInputException"/>
/// after which the lane can only be disposed.
/// </summary>
public sealed class PageLane : IDisposable
{
    private readonly record struct Asked(int Tag, uint Pid, PageRange Range);

    private readonly byte[] _head = new byte[PageServerMessage.Size];
    private readonly string _name;
    private Asked[] _asked = new Asked[64];
    private int _first;
    private byte[] _unsent = new byte[64 * PageServerMessage.Size];
    private int _unsentStart;
    private int _unsentEnd;

    // The reply that is coming in: bytes of its head that are here; then the pages that have not been reported yet,
    // and how many bytes of them are here.
    private int _headBytes;
    private PageRange _rest;
    private int _partial;

    // Null on a plain connection, whose bytes go between socket and caller's memory without anything in between.
    private readonly TlsTransport? _tls;

    /// <summary>Over a connected socket, which the lane owns from now on.</summary>
    public PageLane(Socket socket) : this(socket, null) => socket.Blocking = false;

    private PageLane(Socket socket, TlsTransport? tls)
    {
        _name = $"page server {PeerName.Of(socket)}";
        KeepAlive.Watch(socket);
        Socket = socket;
        _tls = tls;
    }

    /// <summary>Connects to a page server, over TLS when there are credentials for it; waits for that.</summary>
    /// <exception cref="BadInputException">Nobody listens there, or no TLS connection comes about.</exception>
    public static PageLane Connect(EndPoint server, TlsCredentials? tls = null)
    {
        Socket socket = PageServerSocket.Connect(server);
        try
        {
            return tls is null ? new PageLane(socket) : new PageLane(socket, new TlsTransport(socket, tls, server));
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    /// <summary>
    /// Over a connected socket, and over TLS when there are credentials for it; the lane owns the socket from now on.
    /// </summary>
    /// <exception cref="BadInputException">No TLS connection comes about.</exception>
    public static PageLane Over(Socket socket, TlsCredentials? tls)
    {
        try
        {
            // A certificate cannot be for the address of a socket that has none.
            EndPoint server = socket.RemoteEndPoint as IPEndPoint ?? new IPEndPoint(IPAddress.None, 0);
            return tls is null ? new PageLane(socket) : new PageLane(socket, new TlsTransport(socket, tls, server));
        }
        catch (Exception e) when (e is SocketException or InvalidOperationException)
        {
            socket.Dispose();
            throw new BadInputException($"page server: the socket cannot be used ({e.Message}); expected a connection", e);
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    /// <summary>To be polled: for reading while <see cref="Outstanding"/> is not 0, for writing while <see cref="WantsWrite"/>.</summary>
    public Socket Socket { get; }

    /// <summary>Requests whose last page has not arrived.</summary>
    public int Outstanding { get; private set; }

    /// <summary>Whether requests wait for room in the socket: call <see cref="Flush"/> when it is writable.</summary>
    public bool WantsWrite => _tls is null ? _unsentEnd > _unsentStart : _tls.WantsWrite;

    /// <summary>A part of a reply is reported when its buffer is full, or so many bytes are here and no more are yet.</summary>
    public int ReportBytes { get; set; } = 64 * 1024;

    /// <summary><see cref="Receive"/> returns after about so many bytes, so that faults are looked at in between.</summary>
    public int ReceiveBudget { get; set; } = 256 * 1024;

    /// <summary>Asks for pages, by dump address. <paramref name="tag"/> comes back with them; it may be used again after the last one arrived.</summary>
    /// <exception cref="BadInputException">The connection was lost.</exception>
    public void Request(int tag, uint pid, PageRange range)
    {
        if (range.IsEmpty)
            throw new ArgumentException($"pages {range}: expected at least one", nameof(range));
        if (Outstanding == _asked.Length)
            Grow();
        _asked[(_first + Outstanding++) & (_asked.Length - 1)] = new Asked(tag, pid, range);
        Span<byte> bytes = stackalloc byte[PageServerMessage.Size];
        PageServerMessage.Get(pid, range).Write(bytes);
        Send(bytes);
    }

    /// <summary>Sends what waited for room in the socket.</summary>
    /// <exception cref="BadInputException">The connection was lost.</exception>
    public void Flush()
    {
        if (_tls is not null)
        {
            CheckSent(_tls.Flush());
            return;
        }
        _unsentStart += TrySend(_unsent.AsSpan(_unsentStart, _unsentEnd - _unsentStart));
        if (_unsentStart == _unsentEnd)
            _unsentStart = _unsentEnd = 0;
    }

    /// <summary>Takes what has come. Returns whether it stopped for its budget, so that more may be there.</summary>
    /// <exception cref="BadInputException">The connection was lost, or what came is no answer to the oldest request.</exception>
    public bool Receive(IPageReceiver receiver)
    {
        int budget = ReceiveBudget;
        while (Outstanding > 0)
        {
            if (budget <= 0)
                return true;
            int got = _headBytes < PageServerMessage.Size ? ReceiveHead() : ReceivePages(receiver);
            if (got == 0)
                return false;
            budget -= got;
        }
        return false;
    }

    /// <summary>
    /// The CLOSE handshake: waits for the replies that are still coming, drops them, and tells the server that all is in.
    /// </summary>
    /// <exception cref="BadInputException">The connection was lost, the server said that it failed, or it did not
    /// answer within <paramref name="patience"/>.</exception>
    public void Close(Duration patience)
    {
        long deadline = Environment.TickCount64 + (long)patience.Milliseconds;
        Span<byte> bytes = stackalloc byte[PageServerMessage.Size];
        PageServerMessage.Plain(PageServerCommand.Close).Write(bytes);
        Drop(deadline);
        Send(bytes);
        while (WantsWrite)
        {
            Await(deadline, SelectMode.SelectWrite);
            Flush();
        }
        for (int got = 0; got < sizeof(int);)
        {
            Await(deadline, SelectMode.SelectRead);
            got += TryReceive(bytes[got..sizeof(int)]);
        }
        int status = BitConverter.ToInt32(bytes);
        if (status != 0)
            throw new BadInputException($"{_name}: answered {status} to CLOSE; expected 0");
        if (_tls is not null)
            EndTls(_tls, deadline);
        Dispose();
    }

    /// <summary>
    /// Ends the connection without CLOSE, for the client says that over another one: waits for the replies that are
    /// still coming, and drops them.
    /// </summary>
    /// <exception cref="BadInputException">The connection was lost, or they did not come within <paramref
    /// name="patience"/>.</exception>
    public void Leave(Duration patience)
    {
        try
        {
            Drop(Environment.TickCount64 + (long)patience.Milliseconds);
        }
        finally
        {
            Dispose();
        }
    }

    /// <summary>To be called when the socket is readable with nothing asked for. Takes what TLS itself has to say.</summary>
    /// <exception cref="BadInputException">The server hung up, or speaks out of turn.</exception>
    public void CheckIdle()
    {
        Span<byte> one = stackalloc byte[1];
        if (TryReceive(one) != 0)
            throw new BadInputException($"{_name}: sent data that nobody asked for");
    }

    /// <summary>Waits for pages and drops them: a proof that somebody serves here. With nothing else asked for.</summary>
    /// <exception cref="BadInputException">The connection was lost, or the pages did not come within <paramref name="patience"/>.</exception>
    public void Fetch(uint pid, PageRange range, Duration patience)
    {
        long deadline = Environment.TickCount64 + (long)patience.Milliseconds;
        var drop = new Dropped();
        Request(0, pid, range);
        while (Outstanding > 0)
        {
            Await(deadline, WantsWrite ? SelectMode.SelectWrite : SelectMode.SelectRead);
            Flush();
            Receive(drop);
        }
    }

    /// <summary>Ends the connection without a word.</summary>
    public void Dispose()
    {
        Socket.Dispose();
        _tls?.Dispose();
    }

    private void Drop(long deadline)
    {
        var drop = new Dropped();
        while (Outstanding > 0 || WantsWrite)
        {
            Await(deadline, WantsWrite ? SelectMode.SelectWrite : SelectMode.SelectRead);
            Flush();
            Receive(drop);
        }
    }

    /// <summary>Waits for the server's farewell too: unread, it would turn our end of the connection into a reset.</summary>
    private void EndTls(TlsTransport tls, long deadline)
    {
        tls.Shutdown();
        Span<byte> nothing = stackalloc byte[1];
        try
        {
            while (tls.Receive(nothing, out SocketError error) == 0 && error == SocketError.WouldBlock)
                Await(deadline, SelectMode.SelectRead);
        }
        catch (IOException)
        {
            // It went without one.
        }
    }

    private int ReceiveHead()
    {
        int got = TryReceive(_head.AsSpan(_headBytes));
        _headBytes += got;
        if (_headBytes == PageServerMessage.Size)
            BeginReply(PageServerMessage.Read(_head));
        return got;
    }

    private void BeginReply(in PageServerMessage reply)
    {
        ref readonly Asked asked = ref _asked[_first];
        if (reply.Command != PageServerCommand.AddF || reply.Flags != PagemapFlags.Present)
            throw new BadInputException($"{_name}: reply is {reply.Name} with flags {(uint)reply.Flags}; expected {PageServerCommand.AddF} with {(uint)PagemapFlags.Present}");
        if (reply.Address != asked.Range.Start.Address || reply.Target != asked.Pid)
            throw new BadInputException($"{_name}: reply is for 0x{reply.Address:x} of process {reply.Target}; expected {asked.Range.Start} of process {asked.Pid}, the oldest request");
        if (reply.Pages == 0 || reply.Pages > (ulong)asked.Range.Count)
            throw new BadInputException($"{_name}: reply for {asked.Range.Start} has {reply.Pages} pages; expected 1 to {asked.Range.Count}");
        _rest = asked.Range with { Count = (long)reply.Pages };
        _partial = 0;
    }

    private int ReceivePages(IPageReceiver receiver)
    {
        int tag = _asked[_first].Tag;
        Span<byte> buffer = receiver.BufferFor(tag, _rest);
        if (buffer.Length > _rest.Bytes)
            buffer = buffer[..(int)_rest.Bytes];
        if (buffer.Length == 0 || buffer.Length % PageNumber.Size != 0 || buffer.Length <= _partial)
            throw new InvalidOperationException($"buffer for {_rest} has {buffer.Length} bytes; expected whole pages, and more than the {_partial} bytes that are in it");
        int room = buffer.Length - _partial;
        int got = TryReceive(buffer[_partial..]);
        _partial += got;
        if (got == room || (_partial >= ReportBytes && got < room))
            Report(receiver, tag);
        return got;
    }

    private void Report(IPageReceiver receiver, int tag)
    {
        int pages = _partial >> PageNumber.Shift;
        if (pages == 0)
            return;
        PageRange arrived = _rest with { Count = pages };
        _rest = new PageRange(arrived.End, _rest.Count - pages);
        _partial -= pages << PageNumber.Shift;
        // The receiver may ask for more from within Arrived: have the books in order before.
        if (_rest.IsEmpty)
            EndReply();
        receiver.Arrived(tag, arrived);
    }

    private void EndReply()
    {
        Asked asked = _asked[_first];
        _first = (_first + 1) & (_asked.Length - 1);
        Outstanding--;
        _headBytes = 0;
        // A server may give fewer pages than it was asked for.
        PageRange missing = PageRange.Between(_rest.Start, asked.Range.End);
        if (!missing.IsEmpty)
            Request(asked.Tag, asked.Pid, missing);
    }

    private void Send(ReadOnlySpan<byte> bytes)
    {
        if (_tls is not null)
        {
            CheckSent(_tls.Send(bytes));
            return;
        }
        int sent = WantsWrite ? 0 : TrySend(bytes);
        if (sent == bytes.Length)
            return;
        bytes = bytes[sent..];
        if (_unsentEnd + bytes.Length > _unsent.Length)
        {
            byte[] target = _unsentEnd - _unsentStart > _unsent.Length / 2 ? new byte[_unsent.Length * 2] : _unsent;
            _unsent.AsSpan(_unsentStart, _unsentEnd - _unsentStart).CopyTo(target);
            (_unsent, _unsentStart, _unsentEnd) = (target, 0, _unsentEnd - _unsentStart);
        }
        bytes.CopyTo(_unsent.AsSpan(_unsentEnd));
        _unsentEnd += bytes.Length;
    }

    private int TrySend(ReadOnlySpan<byte> bytes)
    {
        if (bytes.Length == 0)
            return 0;
        int sent = Socket.Send(bytes, SocketFlags.None, out SocketError error);
        CheckSent(error);
        return error == SocketError.Success ? sent : 0;
    }

    private void CheckSent(SocketError error)
    {
        if (error is not (SocketError.Success or SocketError.WouldBlock))
            throw new BadInputException($"{_name}: connection lost ({error}) with {Outstanding} requests open");
    }

    private int TryReceive(Span<byte> destination)
    {
        int got = _tls is null ? Socket.Receive(destination, SocketFlags.None, out SocketError error) : ReceiveTls(destination, out error);
        if (error == SocketError.WouldBlock)
            return 0;
        if (error != SocketError.Success || got == 0)
            throw new BadInputException($"{_name}: connection {(error == SocketError.Success ? "closed" : $"lost ({error})")} with {Outstanding} requests open");
        return got;
    }

    private int ReceiveTls(Span<byte> destination, out SocketError error)
    {
        try
        {
            return _tls!.Receive(destination, out error);
        }
        catch (IOException e)
        {
            throw new BadInputException($"{_name}: connection lost ({(e.InnerException ?? e).Message.TrimEnd('.')}) with {Outstanding} requests open", e);
        }
    }

    private void Await(long deadline, SelectMode mode)
    {
        long left = deadline - Environment.TickCount64;
        if (left <= 0 || !Socket.Poll(TimeSpan.FromMilliseconds(left), mode))
            throw new BadInputException($"{_name}: no answer in time, {Outstanding} requests open");
    }

    private void Grow()
    {
        var larger = new Asked[_asked.Length * 2];
        for (int i = 0; i < Outstanding; i++)
            larger[i] = _asked[(_first + i) & (_asked.Length - 1)];
        (_asked, _first) = (larger, 0);
    }

    private sealed class Dropped : IPageReceiver
    {
        private readonly byte[] _memory = new byte[64 * 1024];

        public Span<byte> BufferFor(int tag, PageRange range) => _memory;

        public void Arrived(int tag, PageRange range)
        {
        }
    }
}
