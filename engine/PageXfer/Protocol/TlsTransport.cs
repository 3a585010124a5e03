using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Threading.Tasks.Sources;
using Testbed.Core;

namespace Testbed.PageXfer.Protocol;

/// <summary>
/// TLS over a socket that does not block, for an event loop of one thread. <see cref="SslStream"/> works on a pair of
/// buffers: what the socket gives is handed to the read that waits there, which goes on at once and on this thread; what
/// it wants to send waits for room in the socket. A message is sent as a record of its own, for CRIU takes what it
/// receives record by record.
/// </summary>
internal sealed class TlsTransport : IDisposable
{
    private readonly Socket _socket;
    private readonly Pipe _pipe;
    private readonly SslStream _stream;
    private readonly byte[] _plain = new byte[16 * 1024];
    private int _start;
    private int _end;
    private Task<int>? _reading;

    /// <summary>Shakes hands, for which it waits, over a socket that blocks; afterwards it does not.</summary>
    /// <exception cref="BadInputException">The peer does not speak TLS, or is not trusted.</exception>
    public TlsTransport(Socket socket, TlsCredentials credentials, EndPoint server)
    {
        _socket = socket;
        _pipe = new Pipe(socket);
        _stream = credentials.Connect(socket, server, _pipe);
        socket.Blocking = false;
        _pipe.Waits = false;
    }

    /// <summary>Whether records wait for room in the socket.</summary>
    public bool WantsWrite => _pipe.Unsent > 0;

    /// <summary>Takes all bytes, as one record, and sends as much as the socket takes.</summary>
    public SocketError Send(ReadOnlySpan<byte> bytes)
    {
        _stream.Write(bytes);
        return Flush();
    }

    /// <summary>Sends what waits.</summary>
    public SocketError Flush() => _pipe.TrySend();

    /// <summary>Some bytes: as for a socket that does not block.</summary>
    /// <exception cref="IOException">What came is not TLS, or was changed on the way.</exception>
    public int Receive(Span<byte> destination, out SocketError error)
    {
        error = SocketError.Success;
        while (_start == _end)
        {
            _reading ??= _stream.ReadAsync(_plain).AsTask();
            if (!_reading.IsCompleted)
            {
                if (!_pipe.TryFeed(out error))
                    return 0;
                continue;
            }
            (_start, _end) = (0, _reading.GetAwaiter().GetResult());
            _reading = null;
            if (_end == 0)
                return 0;
        }
        int count = Math.Min(destination.Length, _end - _start);
        _plain.AsSpan(_start, count).CopyTo(destination);
        _start += count;
        return count;
    }

    /// <summary>Tells the peer that nothing more comes: its end of the connection waits for that.</summary>
    public void Shutdown()
    {
        // Into the buffer, so that it never waits.
        _stream.ShutdownAsync().GetAwaiter().GetResult();
        _ = Flush();
    }

    public void Dispose() => _stream.Dispose();

    /// <summary>What <see cref="SslStream"/> takes for its connection.</summary>
    private sealed class Pipe(Socket socket) : Stream, IValueTaskSource<int>
    {
        // Two whole records.
        private readonly byte[] _received = new byte[40 * 1024];
        private byte[] _unsent = new byte[4 * 1024];
        private int _receivedStart;
        private int _receivedEnd;
        private int _unsentStart;
        private int _unsentEnd;
        private bool _ended;
        private Memory<byte> _wanted;
        private bool _isWanted;
        private ManualResetValueTaskSourceCore<int> _source;

        /// <summary>During the handshake reads wait for the socket, and writes go there at once.</summary>
        public bool Waits { get; set; } = true;

        public int Unsent => _unsentEnd - _unsentStart;

        public override bool CanRead => true;
        public override bool CanWrite => true;
        public override bool CanSeek => false;
        public override long Length => throw new NotSupportedException();
        public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

        /// <summary>Gives a waiting read what the socket has. False: nothing, or the connection was lost.</summary>
        public bool TryFeed(out SocketError error)
        {
            int got = socket.Receive(_received.AsSpan(_receivedEnd), SocketFlags.None, out error);
            if (error != SocketError.Success)
                return false;
            _receivedEnd += got;
            _ended = got == 0;
            if (_isWanted)
            {
                _isWanted = false;
                // Runs the reader on, which may ask for more from within.
                _source.SetResult(Take(_wanted.Span));
            }
            return true;
        }

        public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
        {
            // A read of no bytes asks whether there are some.
            if (_receivedStart < _receivedEnd || _ended)
                return ValueTask.FromResult(Take(buffer.Span));
            _source.Reset();
            (_wanted, _isWanted) = (buffer, true);
            return new ValueTask<int>(this, _source.Version);
        }

        public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

        public override int Read(Span<byte> buffer)
        {
            if (_receivedStart == _receivedEnd && !_ended && !TryFeed(out SocketError error))
                throw new IOException($"connection lost ({error})", new SocketException((int)error));
            return Take(buffer);
        }

        public override ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
        {
            Write(buffer.Span);
            return ValueTask.CompletedTask;
        }

        public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

        public override void Write(ReadOnlySpan<byte> buffer)
        {
            if (_unsentEnd + buffer.Length > _unsent.Length)
            {
                byte[] target = Unsent + buffer.Length > _unsent.Length ? new byte[Math.Max(_unsent.Length * 2, Unsent + buffer.Length)] : _unsent;
                _unsent.AsSpan(_unsentStart, Unsent).CopyTo(target);
                (_unsent, _unsentStart, _unsentEnd) = (target, 0, Unsent);
            }
            buffer.CopyTo(_unsent.AsSpan(_unsentEnd));
            _unsentEnd += buffer.Length;
            if (Waits && TrySend() is var error and not SocketError.Success)
                throw new IOException($"connection lost ({error})", new SocketException((int)error));
        }

        /// <summary>Sends as much as the socket takes.</summary>
        public SocketError TrySend()
        {
            while (Unsent > 0)
            {
                int sent = socket.Send(_unsent.AsSpan(_unsentStart, Unsent), SocketFlags.None, out SocketError error);
                if (error == SocketError.WouldBlock)
                    return SocketError.Success;
                if (error != SocketError.Success)
                    return error;
                _unsentStart += sent;
            }
            _unsentStart = _unsentEnd = 0;
            return SocketError.Success;
        }

        public override void Flush()
        {
        }

        public override Task FlushAsync(CancellationToken cancellationToken) => Task.CompletedTask;
        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();
        public override void SetLength(long value) => throw new NotSupportedException();

        int IValueTaskSource<int>.GetResult(short token) => _source.GetResult(token);

        ValueTaskSourceStatus IValueTaskSource<int>.GetStatus(short token) => _source.GetStatus(token);

        void IValueTaskSource<int>.OnCompleted(Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags) =>
            // Without its context and scheduler: on the thread that feeds.
            _source.OnCompleted(continuation, state, token, ValueTaskSourceOnCompletedFlags.None);

        private int Take(Span<byte> destination)
        {
            int count = Math.Min(destination.Length, _receivedEnd - _receivedStart);
            _received.AsSpan(_receivedStart, count).CopyTo(destination);
            _receivedStart += count;
            if (_receivedStart == _receivedEnd)
                _receivedStart = _receivedEnd = 0;
            return count;
        }
    }
}
