using System.Net;
using System.Net.Sockets;
using Testbed.Core;
using Testbed.PageXfer.Images;
using Testbed.PageXfer.Protocol;

namespace Testbed.PageXfer.Xfer;

/// <summary>A connection to a receiving page server, over which the memory of one or more processes is sent, one after the other.</summary>
public sealed class RemotePageServer : IDisposable
{
    internal BlockingPeer Peer { get; }

    /// <summary>Connects, over TLS when there are credentials for it.</summary>
    /// <exception cref="BadInputException">Nobody listens there, or no TLS connection comes about.</exception>
    public RemotePageServer(EndPoint server, TlsCredentials? tls = null)
    {
        Socket socket = PageServerSocket.Connect(server);
        try
        {
            Peer = new BlockingPeer(socket, tls?.Connect(socket, server));
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    /// <summary>Whether the server has parent images of this pagemap.</summary>
    /// <exception cref="BadInputException">The connection was lost.</exception>
    public bool HasParent(PagemapId id)
    {
        Peer.Queue(PageServerMessage.About(PageServerCommand.Parent, id));
        return ReadInt32() != 0;
    }

    /// <summary>Says that all is sent, and waits until the server has it under its final names.</summary>
    /// <exception cref="BadInputException">The connection was lost, or the server says that it failed.</exception>
    public void Close()
    {
        Peer.Queue(PageServerMessage.Plain(PageServerCommand.Close));
        int status = ReadInt32();
        if (status != 0)
            throw new BadInputException($"page server {Peer.Name}: answered {status} to CLOSE; expected 0");
        Peer.Shutdown();
        Dispose();
    }

    /// <summary>Ends the connection. Without <see cref="Close"/> the server drops what it got.</summary>
    public void Dispose() => Peer.Dispose();

    private int ReadInt32()
    {
        Peer.Flush();
        Span<byte> answer = stackalloc byte[4];
        Peer.ReadExactly(answer);
        return System.Buffers.Binary.BinaryPrimitives.ReadInt32LittleEndian(answer);
    }
}

/// <summary>Sends the memory of one process to a page server: OPEN2, then ADD_F and pages.</summary>
public sealed class RemotePageSink : IPageSink
{
    private readonly RemotePageServer _server;
    private readonly PagemapId _id;
    private readonly SinkOrder _order;
    private readonly bool _closesServer;

    /// <summary>Begins a pagemap on a connection of its own; <see cref="Complete"/> closes it.</summary>
    /// <exception cref="BadInputException">Nobody listens there, or the connection was lost.</exception>
    public RemotePageSink(EndPoint server, PagemapId id, TlsCredentials? tls = null) : this(new RemotePageServer(server, tls), id) => _closesServer = true;

    /// <summary>Begins a pagemap on a connection that is shared: the server keeps it when <see cref="RemotePageServer.Close"/> was called.</summary>
    /// <exception cref="BadInputException">The connection was lost.</exception>
    public RemotePageSink(RemotePageServer server, PagemapId id)
    {
        _server = server;
        _id = id;
        _order = new SinkOrder($"page server {server.Peer.Name}, {id.FileName}");
        server.Peer.Queue(PageServerMessage.About(PageServerCommand.Open2, id));
        server.Peer.Flush();
        Span<byte> hasParent = stackalloc byte[1];
        server.Peer.ReadExactly(hasParent);
        HasParent = hasParent[0] != 0;
    }

    /// <inheritdoc/>
    public bool HasParent { get; }

    /// <inheritdoc/>
    public void WritePagemap(PageRange range, PagemapFlags flags)
    {
        _order.Announce(range, flags);
        _server.Peer.Queue(PageServerMessage.Add(_id, range, flags));
    }

    /// <inheritdoc/>
    public void WritePages(ReadOnlySpan<byte> bytes)
    {
        _order.Content(bytes.Length);
        _server.Peer.Queue(bytes);
    }

    /// <inheritdoc/>
    public void Complete()
    {
        _order.CheckNothingOwed();
        if (_closesServer)
            _server.Close();
        else
            _server.Peer.Flush();
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_closesServer)
            _server.Dispose();
    }
}

/// <summary>How clients connect.</summary>
internal static class PageServerSocket
{
    /// <summary>Connects to the first address of the server that answers.</summary>
    public static Socket Connect(EndPoint server)
    {
        SocketException? refused = null;
        try
        {
            foreach (IPEndPoint address in AddressesOf(server))
            {
                var socket = new Socket(address.AddressFamily, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
                KeepAlive.LimitConnect(socket);
                try
                {
                    socket.Connect(address);
                    return socket;
                }
                catch (SocketException e)
                {
                    socket.Dispose();
                    refused = e;
                }
            }
        }
        catch (SocketException e)
        {
            refused = e;
        }
        throw new BadInputException($"page server {server}: cannot connect ({refused?.SocketErrorCode}); expected a page server there", refused!);
    }

    private static IEnumerable<IPEndPoint> AddressesOf(EndPoint server) => server is DnsEndPoint named
        ? Dns.GetHostAddresses(named.Host).Select(address => new IPEndPoint(address, named.Port))
        : [(IPEndPoint)server];
}
