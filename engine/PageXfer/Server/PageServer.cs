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
    /// Told when a session is over, from any thread: true when it ended with CLOSE, false when images were being received and are
    /// dropped. A connection that only fetched pages, or said nothing, and went away is no session.
    /// </summary>
    public Action<bool> OnSessionEnd { get; init; } = static _ => { };

    /// <summary>
    /// Told, from any thread, when nobody is left who fetched pages: the last connection ended, and without CLOSE.
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

    private readonly Socket _listener;
    private readonly Thread _acceptor;
    private readonly List<PageServerConnection> _connections = [];
    private readonly LinkShaper? _shaper;
    private volatile int _connectionCount;
    private long _requests;
    private long _pages;
    private volatile bool _stopping;

    /// <summary>What it was told to do.</summary>
    public PageServerOptions Options { get; }

    /// <summary>Listens, and accepts connections from now on.</summary>
    /// <exception cref="BadInputException">The address cannot be listened on, or TLS would let anybody in.</exception>
    public PageServer(PageServerOptions options)
    {
        if (options.Tls is not null && !options.Link.IsUnshaped)
            throw new ArgumentException("a shaped link sends by itself, and knows no TLS", nameof(options));
        options.Tls?.RequireAuthority();
        Options = options;
        _listener = new Socket(options.Address.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
        try
        {
            _listener.SetSocketOption(SocketOptionLevel.Socket, SocketOptionName.ReuseAddress, true);
            _listener.Bind(new IPEndPoint(options.Address, options.Port));
            _listener.Listen(128);
        }
        catch (SocketException e)
        {
            _listener.Dispose();
            throw new BadInputException($"page server: cannot listen on {options.Address} port {options.Port} ({e.SocketErrorCode})", e);
        }
        EndPoint = (IPEndPoint)_listener.LocalEndPoint!;
        if (!options.Link.IsUnshaped)
            _shaper = new LinkShaper(options.Link, options.MaxConnections);
        _acceptor = new Thread(Accept) { Name = "page-server", IsBackground = true };
        _acceptor.Start();
    }

    /// <summary>Where it listens.</summary>
    public IPEndPoint EndPoint { get; }

    /// <summary>Connections that are open now.</summary>
    public int Connections => _connectionCount;

    /// <summary>GET messages answered so far.</summary>
    public long Requests => Interlocked.Read(ref _requests);

    /// <summary>Pages sent so far.</summary>
    public long PagesSent => Interlocked.Read(ref _pages);

    /// <summary>Closes all connections and stops.</summary>
    public void Dispose()
    {
        _stopping = true;
        _listener.Dispose();
        _acceptor.Join();
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

    internal void Ended(PageServerConnection connection)
    {
        int left;
        lock (_connections)
        {
            _connections.Remove(connection);
            left = _connectionCount = _connections.Count;
        }
        if (left == 0 && connection.HasFetched && !_stopping)
            Options.OnAbandoned();
    }

    private void Accept()
    {
        while (!_stopping)
        {
            try
            {
                Begin(_listener.Accept());
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

    private void Begin(Socket socket)
    {
        lock (_connections)
        {
            if (_connections.Count >= Options.MaxConnections)
            {
                Log($"{socket.RemoteEndPoint}: turned away; {Options.MaxConnections} connections are open already");
                socket.Dispose();
                return;
            }
            try
            {
                var connection = new PageServerConnection(this, socket, _shaper);
                _connections.Add(connection);
                _connectionCount = _connections.Count;
                connection.Start();
            }
            catch (SocketException)
            {
                socket.Dispose();
                throw;
            }
        }
    }
}
