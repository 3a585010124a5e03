using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using Microsoft.Win32.SafeHandles;
using Mono.Unix.Native;
using Testbed.Core;

namespace Testbed.PageXfer.Protocol;

/// <summary>
/// One end of a page-server connection, used by one thread that may wait. Allocates nothing per message. Over TLS a message is a
/// record of its own, and content is cut into whole records from the begin of its range on: the real CRIU takes what comes record by
/// record, and loses what follows in the same one.
/// </summary>
internal sealed class BlockingPeer : IDisposable
{
    private const int BufferSize = 256 * 1024;
    private const int TlsRecord = 16 * 1024;

    private readonly byte[] _in = new byte[BufferSize];
    private readonly byte[] _out = new byte[BufferSize];
    private int _inStart;
    private int _inEnd;
    private int _outEnd;
    private readonly SslStream? _tls;

    /// <summary>See <see cref="Patience"/>.</summary>
    public static Duration UsualPatience { get; } = Duration.FromSeconds(60);

    /// <summary>
    /// How long the peer may say nothing in the middle of a message, of content or of an answer. Without TLS only.
    /// </summary>
    public Duration Patience
    {
        init
        {
            if (_tls is null)
                Socket.ReceiveTimeout = (int)value.Milliseconds;
        }
    }

    public Socket Socket { get; }

    /// <summary>Who is at the other end, for messages.</summary>
    public string Name { get; }

    /// <summary>Over a connected socket, and if there is one the TLS connection that was made over it; both are the peer's from now on.</summary>
    public BlockingPeer(Socket socket, SslStream? tls = null)
    {
        KeepAlive.Watch(socket);
        Socket = socket;
        _tls = tls;
        Name = PeerName.Of(socket);
        Patience = UsualPatience;
    }

    /// <summary>
    /// Whether the connection was lost, or ended too early: what was thrown then is not about what the peer said.
    /// </summary>
    public bool IsLost { get; private set; }

    /// <summary>Reads a message, for which what is queued is sent first if it must be waited for; false when the stream ended before its first byte.</summary>
    public bool TryReadMessage(out PageServerMessage message)
    {
        message = default;
        while (_inEnd - _inStart < PageServerMessage.Size)
        {
            if (Fill(isOwed: _inEnd > _inStart))
                continue;
            if (_inEnd > _inStart)
                throw Gone($"{Name}: the stream ends after {_inEnd - _inStart} bytes of a message; expected {PageServerMessage.Size}");
            return false;
        }
        message = PageServerMessage.Read(_in.AsSpan(_inStart));
        _inStart += PageServerMessage.Size;
        return true;
    }

    /// <summary>Some bytes of content, at least one and at most <paramref name="limit"/>; valid until the next call.</summary>
    public ReadOnlySpan<byte> ReadSome(long limit)
    {
        if (_inEnd == _inStart && !Fill(isOwed: true))
            throw Gone($"{Name}: the stream ends where {limit} bytes were still expected");
        int count = (int)Math.Min(limit, _inEnd - _inStart);
        ReadOnlySpan<byte> bytes = _in.AsSpan(_inStart, count);
        _inStart += count;
        return bytes;
    }

    /// <summary>Exactly <paramref name="destination"/>.</summary>
    public void ReadExactly(Span<byte> destination)
    {
        while (destination.Length > 0)
        {
            ReadOnlySpan<byte> some = ReadSome(destination.Length);
            some.CopyTo(destination);
            destination = destination[some.Length..];
        }
    }

    /// <summary>Whether the stream has ended; waits until that, or something else, is known.</summary>
    public bool AtEnd()
    {
        try
        {
            return _inEnd == _inStart && !Fill(isOwed: true);
        }
        catch (BadInputException)
        {
            // A peer that does not close, or not nicely: this end is what closes then.
            return true;
        }
    }

    /// <summary>Queues a message.</summary>
    public void Queue(in PageServerMessage message)
    {
        if (_tls is not null)
            Flush();
        message.Write(Reserve(PageServerMessage.Size));
        if (_tls is not null)
            Flush();
    }

    /// <summary>Queues bytes, or sends them when they are many.</summary>
    public void Queue(ReadOnlySpan<byte> bytes)
    {
        if (_tls is null && bytes.Length >= BufferSize / 4)
        {
            Flush();
            Send(bytes);
            return;
        }
        while (bytes.Length > 0)
        {
            int part = Math.Min(bytes.Length, BufferSize - _outEnd);
            bytes[..part].CopyTo(_out.AsSpan(_outEnd));
            _outEnd += part;
            bytes = bytes[part..];
            if (_outEnd == BufferSize)
                Flush();
        }
    }

    /// <summary>Room for so many bytes in the queue, to be filled before the next call; at most <see cref="MaxReserve"/>.</summary>
    public Span<byte> Reserve(int count)
    {
        if (_outEnd + count > BufferSize)
            Flush();
        _outEnd += count;
        return _out.AsSpan(_outEnd - count, count);
    }

    public const int MaxReserve = BufferSize;

    /// <summary>Bytes in the queue.</summary>
    public int Queued => _outEnd;

    /// <summary>Sends what is queued.</summary>
    public void Flush()
    {
        Send(_out.AsSpan(0, _outEnd));
        _outEnd = 0;
    }

    /// <summary>Whether <see cref="SendFile"/> can be used: the bytes need not be seen here.</summary>
    public bool CanSendFile => _tls is null;

    /// <summary>Sends bytes of a file behind what is queued, from the kernel's cache of the file and without a copy.</summary>
    /// <exception cref="BadInputException">The connection was lost.</exception>
    /// <exception cref="IOException">The file cannot be read, or ends too early.</exception>
    public void SendFile(SafeFileHandle file, long offset, long count)
    {
        bool ofFile = false, ofSocket = false;
        try
        {
            file.DangerousAddRef(ref ofFile);
            Socket.SafeHandle.DangerousAddRef(ref ofSocket);
            int to = (int)Socket.SafeHandle.DangerousGetHandle(), from = (int)file.DangerousGetHandle();
            // The head waits for its pages: one segment, not two.
            for (int start = 0; start < _outEnd;)
                start += Sent(Syscall.send(to, start == 0 ? _out : _out[start..], (ulong)(_outEnd - start), MessageFlags.MSG_MORE | MessageFlags.MSG_NOSIGNAL));
            _outEnd = 0;
            while (count > 0)
            {
                long result = Syscall.sendfile(to, from, ref offset, (ulong)count);
                if (result == 0)
                    throw new EndOfStreamException($"the pages file ends at byte {offset}; it was cut short after it had been opened");
                count -= Sent(result);
            }
        }
        finally
        {
            if (ofFile)
                file.DangerousRelease();
            if (ofSocket)
                Socket.SafeHandle.DangerousRelease();
        }
    }

    /// <summary>What a system call sent; nothing when a signal interrupted it.</summary>
    private int Sent(long result)
    {
        if (result >= 0)
            return (int)result;
        Errno error = Stdlib.GetLastError();
        if (error == Errno.EIO)
            throw new IOException("the pages file cannot be read (EIO)");
        return error == Errno.EINTR ? 0 : throw Gone($"{Name}: connection lost while sending ({error})");
    }

    /// <summary>Over TLS, tells the peer that nothing more comes, for which its side waits.</summary>
    public void Shutdown()
    {
        try
        {
            _tls?.ShutdownAsync().GetAwaiter().GetResult();
        }
        catch (IOException)
        {
            // It has gone already.
        }
    }

    public void Dispose()
    {
        Socket.Dispose();
        _tls?.Dispose();
    }

    private void Send(ReadOnlySpan<byte> bytes)
    {
        if (_tls is not null)
        {
            SendRecords(bytes);
            return;
        }
        while (bytes.Length > 0)
        {
            int sent = Socket.Send(bytes, SocketFlags.None, out SocketError error);
            if (error == SocketError.WouldBlock)
                Socket.Poll(-1, SelectMode.SelectWrite);
            else if (error != SocketError.Success)
                throw Gone($"{Name}: connection lost while sending ({error})");
            bytes = bytes[sent..];
        }
    }

    private BadInputException Stalled()
    {
        // A CRIU that is older sends messages of this size, and waits for the answer.
        string hint = _inEnd - _inStart == 24 ? "; it may be a CRIU before 4.2, whose messages are of another size" : "";
        return Gone($"{Name}: says nothing for {Socket.ReceiveTimeout / 1000.0} s in the middle of a message or of its content; given up{hint}");
    }

    private void SendRecords(ReadOnlySpan<byte> bytes)
    {
        try
        {
            for (; bytes.Length > 0; bytes = bytes[Math.Min(bytes.Length, TlsRecord)..])
                _tls!.Write(bytes[..Math.Min(bytes.Length, TlsRecord)]);
        }
        catch (IOException e)
        {
            throw Lost(e);
        }
    }

    private bool FillFromTls()
    {
        try
        {
            int got = _tls!.Read(_in.AsSpan(_inEnd));
            _inEnd += got;
            return got > 0;
        }
        catch (IOException e)
        {
            throw Lost(e);
        }
    }

    private BadInputException Lost(Exception e) => Gone($"{Name}: connection lost ({(e.InnerException ?? e).Message.TrimEnd('.')})", e);

    private BadInputException Gone(string message, Exception? cause = null)
    {
        IsLost = true;
        return cause is null ? new BadInputException(message) : new BadInputException(message, cause);
    }

    private bool Fill(bool isOwed)
    {
        // Whoever waits for more must have said all: replies to requests that came together leave together.
        Flush();
        if (_inStart == _inEnd)
            _inStart = _inEnd = 0;
        else if (_inEnd == BufferSize)
        {
            _in.AsSpan(_inStart, _inEnd - _inStart).CopyTo(_in);
            (_inStart, _inEnd) = (0, _inEnd - _inStart);
        }
        if (_tls is not null)
            return FillFromTls();
        while (true)
        {
            int got = Socket.Receive(_in.AsSpan(_inEnd), SocketFlags.None, out SocketError error);
            if (error == SocketError.Success)
            {
                _inEnd += got;
                return got > 0;
            }
            if (error == SocketError.TimedOut)
            {
                if (isOwed)
                    throw Stalled();
                continue;
            }
            // The socket of a shaped connection does not block, for the sake of the thread that sends on it.
            if (error != SocketError.WouldBlock)
                throw Gone($"{Name}: connection lost ({error})");
            Socket.Poll(-1, SelectMode.SelectRead);
        }
    }
}

/// <summary>How messages call who is at the other end of a socket.</summary>
internal static class PeerName
{
    public static string Of(Socket socket) => LocalSockets.IsLocal(socket) ? "in this process" : socket.RemoteEndPoint switch
    {
        // As it is known elsewhere, of a socket that takes both kinds.
        IPEndPoint { Address.IsIPv4MappedToIPv6: true } ip => $"{ip.Address.MapToIPv4()}:{ip.Port}",
        IPEndPoint ip => $"{ip}",
        _ => "peer",
    };
}

/// <summary>How a peer's host that vanished without a word is noticed: otherwise a process would stay frozen, or wait, for ever.</summary>
internal static class KeepAlive
{
    private const int Tcp = 6, UserTimeout = 18, LongestRetry = 44;
    private const int SecondsOfSilence = 60, Probes = 6, SecondsBetween = 10;

    // A host that cannot be reached does not answer: of a connection that is not there yet nothing can be lost.
    private const int SecondsToConnect = 5;

    /// <summary>Makes a connection tell of a lost peer, and send what it is given at once.</summary>
    public static void Watch(Socket socket)
    {
        // An inherited one, or one end of a pair, may be of another kind.
        if (socket.AddressFamily is not (AddressFamily.InterNetwork or AddressFamily.InterNetworkV6))
            return;
        socket.NoDelay = true;
        socket.SetSocketOption(SocketOptionLevel.Socket, SocketOptionName.KeepAlive, true);
        socket.SetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveTime, SecondsOfSilence);
        socket.SetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveInterval, SecondsBetween);
        socket.SetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveRetryCount, Probes);
        // Of data that is on the way, too: the kernel alone would try for a quarter of an hour.
        Set(socket, UserTimeout, SecondsOfSilence + Probes * SecondsBetween);
        try
        {
            // It tries again after twice the time each time: when a link is back, that would be as long again as it was gone.
            Set(socket, LongestRetry, 1);
        }
        catch (SocketException)
        {
            // Linux before 6.15.
        }
    }

    /// <summary>Before it connects.</summary>
    public static void LimitConnect(Socket socket) => Set(socket, UserTimeout, SecondsToConnect);

    private static void Set(Socket socket, int option, int seconds) => socket.SetRawSocketOption(Tcp, option, BitConverter.GetBytes(seconds * 1000));
}
