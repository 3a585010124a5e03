using System.Net;
using System.Net.Sockets;
using Testbed.Core;
using Testbed.PageXfer.Protocol;
using Testbed.PageXfer.Xfer;

namespace Testbed.PageXfer.Server;

/// <summary>What a page server is to do.</summary>
public sealed record PageServerOptions
{
    /// <summary>Where to listen.</summary>
    public IPAddress Address { get; init; } = IPAddress.Loopback;

    /// <summary>The port; 0: any free one.</summary>
    public int Port { get; init; }

    /// <summary>What GET is served from; null: GET is refused. The server does not dispose it.</summary>
    public IPageSource? Source { get; init; }

    /// <summary>Told, from any thread, that pages of <see cref="Source"/> cannot be read; the connection that asked for them ends. Null: nobody is.</summary>
    public Action<string>? OnSourceFailure { get; init; }

    /// <summary>Where images are received; null: OPEN and ADD are refused.</summary>
    public string? ReceiveDirectory { get; init; }

    /// <summary>The link that replies to GET go through, all connections together.</summary>
    public LinkParameters Link { get; init; } = LinkParameters.Unshaped;

    /// <summary>Take TLS connections, and no others; not over a shaped link. The server does not dispose it.</summary>
    public TlsCredentials? Tls { get; init; }

    /// <summary>More connections at once than this are turned away.</summary>
    public int MaxConnections { get; init; } = 64;

    /// <summary>
    /// A peer that says nothing for so long in the middle of a message, or of content that it announced, is given up; between messages
    /// it may rest for ever. Over TLS it is waited for without a limit.
    /// </summary>
    public Duration Patience { get; init; } = BlockingPeer.UsualPatience;

    /// <summary>
    /// An inherited socket to serve instead of listening: connections come to it, or it is one itself. It is the
    /// server's from then on.
    /// </summary>
    public Socket? Inherited { get; init; }

    /// <summary>Told of each connection, from any thread, when it has ended and no longer counts.</summary>
    public Action<ConnectionEnd> OnConnectionEnd { get; init; } = static _ => { };

    /// <summary>
    /// Told, from any thread, when nobody is left of those who fetched pages, and none of them said CLOSE since there
    /// was nobody before.
    /// </summary>
    public Action OnAbandoned { get; init; } = static () => { };

    /// <summary>Gets each log line, from any thread.</summary>
    public Action<string> Log { get; init; } = static _ => { };
}

/// <summary>
/// A server of CRIU's page-server protocol, in both directions: it receives the memory of processes into images, and
/// serves pages from images. Each connection has a thread of its own that waits in its socket: a hop to a pool thread would
/// cost more than a page takes. Nothing that a peer sends ends the server: one log line, and that connection is closed.
/// </summary>
public sealed class PageServer : IDisposable
{
    // As CRIU does: numbers from here on do not meet those that the dumping side gives its own pages files.
    internal const uint FirstReceivedPagesId = 0x10001;

    // Null where nobody can connect but who has this object, and when the one connection was inherited.
    private readonly Socket? _listener;
    private readonly Thread? _acceptor;
    private readonly List<PageServerConnection> _connections = [];
    private readonly LinkShaper? _shaper;
    private volatile int _connectionCount;
    private long _requests;
    private long _pages;
    private volatile bool _stopping;

    // Since no connection was open that had fetched pages.
    private bool _fetched, _closed;

    /// <summary>What it was told to do.</summary>
    public PageServerOptions Options { get; }

    /// <summary>Listens, and accepts connections from now on.</summary>
    /// <exception cref="BadInputException">The address cannot be listened on, or TLS would let anybody in.</exception>
    public PageServer(PageServerOptions options) : this(options, isPrivate: false) { }

    private PageServer(PageServerOptions options, bool isPrivate)
    {
        if (options.Tls is not null && !options.Link.IsUnshaped)
            throw new ArgumentException("a shaped link sends by itself, and knows no TLS", nameof(options));
        options.Tls?.RequireAuthority();
        Options = options;
        Source = options is { Source: { } source, OnSourceFailure: { } onFailure } ? new WatchedSource(source, onFailure) : options.Source;
        if (!options.Link.IsUnshaped)
            _shaper = new LinkShaper(options.Link, options.MaxConnections);
        if (isPrivate)
            return;
        if (options.Inherited is { } connected && !IsListening(connected))
        {
            EndPoint = connected.LocalEndPoint as IPEndPoint ?? EndPoint;
            try
            {
                _ = Begin(connected);
            }
            catch (SocketException e)
            {
                throw new BadInputException(
                    $"page server: the inherited socket cannot be used ({e.SocketErrorCode}); expected a connection, or one that listens", e);
            }
            return;
        }
        try
        {
            _listener = options.Inherited ?? Listen(options);
        }
        catch
        {
            _shaper?.Dispose();
            throw;
        }
        EndPoint = _listener.LocalEndPoint as IPEndPoint ?? EndPoint;
        _acceptor = new Thread(Accept) { Name = "page-server", IsBackground = true };
        _acceptor.Start();
    }

    /// <summary>
    /// A server for this program's own use, without an address: what it serves is memory that was taken from a process, and a listener would
    /// show it to every user of the machine.
    /// </summary>
    public static PageServer CreatePrivate(PageServerOptions options) => new(options, isPrivate: true);

    /// <summary>Where it listens; no address for a private one, or for an inherited socket of another kind.</summary>
    public IPEndPoint EndPoint { get; } = new(IPAddress.None, 0);

    /// <summary>A connection to it that goes through no address: one end of a pair of sockets, of which it serves the other.</summary>
    /// <exception cref="BadInputException">It has ended, or there is no room for a connection.</exception>
    public Socket Connect()
    {
        (Socket one, Socket other) = LocalSockets.CreatePair();
        if (!_stopping && Begin(other))
            return one;
        one.Dispose();
        other.Dispose();
        throw new BadInputException("the page server takes no connection: it has ended, or has as many as it can have");
    }

    internal IPageSource? Source { get; }

    /// <summary>Whether connections may still come.</summary>
    public bool Accepts => _listener is not null;

    /// <summary>Whether its one connection, which was inherited, has ended.</summary>
    public bool IsOver => _listener is null && _connectionCount == 0;

    /// <summary>Connections that are open now and fetched pages, without having said CLOSE.</summary>
    public int Clients
    {
        get
        {
            lock (_connections)
                return _connections.Count(connection => connection.HasFetched);
        }
    }

    /// <summary>Connections that are open now.</summary>
    public int Connections => _connectionCount;

    /// <summary>GET messages answered so far.</summary>
    public long Requests => Interlocked.Read(ref _requests);

    /// <summary>Pages sent so far.</summary>
    public long PagesSent => Interlocked.Read(ref _pages);

    /// <summary>From now on the emulated link, if there is one, neither delays nor limits anything.</summary>
    public void LiftLink() => _shaper?.Lift();

    /// <summary>Closes all connections and stops.</summary>
    public void Dispose()
    {
        _stopping = true;
        _listener?.Dispose();
        _acceptor?.Join();
        PageServerConnection[] connections;
        lock (_connections)
            connections = [.. _connections];
        foreach (PageServerConnection connection in connections)
            connection.Dispose();
        _shaper?.Dispose();
    }

    internal void Count(long pages)
    {
        Interlocked.Increment(ref _requests);
        Interlocked.Add(ref _pages, pages);
    }

    internal void Log(string line)
    {
        if (!_stopping)
            Options.Log(line);
    }

    internal void Fetched()
    {
        lock (_connections)
            _fetched = true;
    }

    /// <summary>A client has said that all is in, over whichever of its connections.</summary>
    internal void Closed()
    {
        lock (_connections)
            _closed = true;
    }

    internal void Ended(PageServerConnection connection, ConnectionEnd end)
    {
        bool isAbandoned = false;
        lock (_connections)
        {
            _connections.Remove(connection);
            _connectionCount = _connections.Count;
            if (_connections.TrueForAll(other => !other.HasFetched))
            {
                isAbandoned = _fetched && !_closed && !_stopping;
                (_fetched, _closed) = (false, false);
            }
        }
        if (isAbandoned)
            Options.OnAbandoned();
        if (!_stopping)
            Options.OnConnectionEnd(end);
    }

    private static bool IsListening(Socket socket) =>
        (int)socket.GetSocketOption(SocketOptionLevel.Socket, SocketOptionName.AcceptConnection)! != 0;

    private static Socket Listen(PageServerOptions options)
    {
        Socket? listener = null;
        try
        {
            listener = new Socket(options.Address.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
            listener.SetSocketOption(SocketOptionLevel.Socket, SocketOptionName.ReuseAddress, true);
            // The any-address takes IPv4 clients, too.
            if (options.Address.AddressFamily == AddressFamily.InterNetworkV6)
                listener.DualMode = true;
            listener.Bind(new IPEndPoint(options.Address, options.Port));
            listener.Listen(128);
            return listener;
        }
        catch (SocketException e)
        {
            listener?.Dispose();
            throw new BadInputException($"page server: cannot listen on {options.Address} port {options.Port} ({e.SocketErrorCode})", e);
        }
    }

    private void Accept()
    {
        while (!_stopping)
        {
            try
            {
                _ = Begin(_listener!.Accept());
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException)
            {
                // A peer that gave up between SYN and accept is its own affair; so is a lack of descriptors for now.
                if (!_stopping)
                {
                    Log($"page server: cannot accept a connection ({e.Message})");
                    Thread.Sleep(10);
                }
            }
        }
    }

    private bool Begin(Socket socket)
    {
        lock (_connections)
        {
            if (_connections.Count >= Options.MaxConnections)
            {
                Log($"{PeerName.Of(socket)}: turned away; {Options.MaxConnections} connections are open already");
                socket.Dispose();
                return false;
            }
            try
            {
                var connection = new PageServerConnection(this, socket, _shaper);
                _connections.Add(connection);
                _connectionCount = _connections.Count;
                connection.Start();
                return true;
            }
            catch (SocketException)
            {
                socket.Dispose();
                throw;
            }
        }
    }
}
