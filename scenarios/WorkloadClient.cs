using System.Net;
using System.Net.Sockets;
using System.Text;

namespace Testbed.Scenarios;

/// <summary>What an answer was.</summary>
public enum ReplyKind
{
    /// <summary>A value, or that all went well.</summary>
    Value,

    /// <summary>No such key.</summary>
    Missing,

    /// <summary>The program refused.</summary>
    Error,
}

/// <summary>An answer; the body is valid until the next one is received.</summary>
public readonly ref struct Reply(ReplyKind kind, ReadOnlySpan<byte> body)
{
    /// <summary>What it was.</summary>
    public ReplyKind Kind { get; } = kind;

    /// <summary>The value, or the message.</summary>
    public ReadOnlySpan<byte> Body { get; } = body;

    /// <summary>The body as text.</summary>
    public override string ToString() => Encoding.UTF8.GetString(Body);
}

/// <summary>
/// A blocking connection to a workload. Requests may be pipelined: add several, flush, receive as many answers.
/// One thread at a time.
/// </summary>
public abstract class WorkloadClient : IDisposable
{
    private readonly Socket? _socket;
    private readonly CancellationTokenRegistration _closing;
    private byte[] _input = new byte[64 * 1024];
    private int _start, _end;

    internal ByteBuffer Output { get; } = new();

    /// <summary>A connection that outlasts the step that uses it: disposing it does nothing, <see cref="Close"/> ends it.</summary>
    internal bool IsKept { get; set; }

    /// <summary>For what is no connection.</summary>
    private protected WorkloadClient() { }

    /// <summary>Connects. Reads and writes that take longer than <paramref name="timeout"/> fail.</summary>
    /// <param name="endpoint">Where the program listens.</param>
    /// <param name="timeout">The longest that a read or a write may take.</param>
    /// <param name="cancel">Closes the connection, which ends whatever waits for it.</param>
    /// <exception cref="SocketException">Nobody listens there, or not in time.</exception>
    /// <exception cref="OperationCanceledException">Cancelled while connecting.</exception>
    protected WorkloadClient(EndPoint endpoint, TimeSpan timeout, CancellationToken cancel)
    {
        bool tcp = endpoint is IPEndPoint;
        _socket = new Socket(endpoint.AddressFamily, SocketType.Stream, tcp ? ProtocolType.Tcp : ProtocolType.Unspecified)
        {
            ReceiveTimeout = (int)timeout.TotalMilliseconds,
            SendTimeout = (int)timeout.TotalMilliseconds,
        };
        try
        {
            if (tcp)
                _socket.NoDelay = true;
            // Before it connects, for that may take long too. (An asynchronous connect would make all later reads slower.)
            _closing = cancel.Register(static socket => ((Socket)socket!).Dispose(), _socket);
            _socket.Connect(endpoint);
        }
        catch
        {
            _closing.Dispose();
            _socket.Dispose();
            cancel.ThrowIfCancellationRequested();
            throw;
        }
    }

    /// <summary>A client that speaks <paramref name="protocol"/>.</summary>
    /// <param name="protocol">What the program understands.</param>
    /// <param name="endpoint">Where it listens.</param>
    /// <param name="timeout">The longest that a read or a write may take.</param>
    /// <param name="cancel">Closes the connection, which ends whatever waits for it.</param>
    /// <exception cref="SocketException">Nobody listens there, or not in time.</exception>
    /// <exception cref="OperationCanceledException">Cancelled while connecting.</exception>
    public static WorkloadClient Connect(Protocol protocol, EndPoint endpoint, TimeSpan timeout, CancellationToken cancel = default) => protocol switch
    {
        Protocol.Resp => new RespClient(endpoint, timeout, cancel),
        Protocol.Memcached => new MemcachedClient(endpoint, timeout, cancel),
        Protocol.Postgres => new PostgresClient(endpoint, timeout, cancel),
        _ => new LineClient(endpoint, timeout, cancel),
    };

    /// <summary>Adds a request, as a workload file writes it, to those that go out with the next <see cref="Flush"/>.</summary>
    public abstract void Add(ReadOnlySpan<byte> request);

    /// <summary>Sends what was added.</summary>
    public virtual void Flush()
    {
        ReadOnlySpan<byte> left = Output.Written;
        while (!left.IsEmpty)
            left = left[_socket!.Send(left)..];
        Output.Clear();
    }

    /// <summary>Waits for the next answer.</summary>
    /// <exception cref="IOException">The connection ended, or what came is not the protocol.</exception>
    /// <exception cref="SocketException">No answer in time.</exception>
    public abstract Reply Receive();

    /// <summary>One request, one answer.</summary>
    public Reply Ask(ReadOnlySpan<byte> request)
    {
        Add(request);
        Flush();
        return Receive();
    }

    /// <summary>One request, one answer.</summary>
    public Reply Ask(string request) => Ask(Encoding.UTF8.GetBytes(request));

    /// <summary>The next line, without its end (LF or CR LF). Valid until the next read.</summary>
    protected ReadOnlySpan<byte> ReadLine()
    {
        int scanned = 0;
        while (true)
        {
            int newline = _input.AsSpan(_start + scanned, _end - _start - scanned).IndexOf((byte)'\n');
            if (newline >= 0)
            {
                ReadOnlySpan<byte> line = _input.AsSpan(_start, scanned + newline);
                _start += scanned + newline + 1;
                return line.EndsWith("\r"u8) ? line[..^1] : line;
            }
            scanned = _end - _start;
            FillInput();
        }
    }

    /// <summary>The next <paramref name="count"/> bytes. Valid until the next read.</summary>
    protected ReadOnlySpan<byte> ReadBytes(int count)
    {
        while (_end - _start < count)
            FillInput();
        _start += count;
        return _input.AsSpan(_start - count, count);
    }

    private void FillInput()
    {
        if (_start > 0)
        {
            _input.AsSpan(_start, _end - _start).CopyTo(_input);
            (_start, _end) = (0, _end - _start);
        }
        if (_end == _input.Length)
            Array.Resize(ref _input, _input.Length * 2);
        int count = _socket!.Receive(_input, _end, _input.Length - _end, SocketFlags.None);
        if (count == 0)
            throw new IOException("the program closed the connection");
        _end += count;
    }

    /// <summary>Closes the connection, which also ends a <see cref="Receive"/> on another thread.</summary>
    public void Dispose()
    {
        if (!IsKept)
            Close();
        GC.SuppressFinalize(this);
    }

    /// <summary>As <see cref="Dispose"/>, also when the connection is a kept one.</summary>
    internal void Close()
    {
        _closing.Dispose();
        _socket?.Dispose();
    }
}
