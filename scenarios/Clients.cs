using System.Buffers.Text;
using System.Net;
using System.Text;

namespace Testbed.Scenarios;

/// <summary>
/// RESP, the redis serialization protocol, version 2. Arrays count as values; of their elements the bytes are joined by LF.
/// </summary>
public sealed class RespClient(EndPoint endpoint, TimeSpan timeout, CancellationToken cancel = default) : WorkloadClient(endpoint, timeout, cancel)
{
    /// <inheritdoc/>
    public override void Add(ReadOnlySpan<byte> request)
    {
        Output.Add("*"u8);
        Output.AddNumber(request.Count((byte)' ') + 1);
        foreach (Range word in request.Split((byte)' '))
        {
            ReadOnlySpan<byte> argument = request[word];
            Output.Add("\r\n$"u8);
            Output.AddNumber(argument.Length);
            Output.Add("\r\n"u8);
            Output.Add(argument);
        }
        Output.Add("\r\n"u8);
    }

    /// <inheritdoc/>
    public override Reply Receive()
    {
        ReadOnlySpan<byte> line = ReadLine();
        byte type = line.IsEmpty ? (byte)0 : line[0];
        ReadOnlySpan<byte> rest = line.IsEmpty ? line : line[1..];
        switch (type)
        {
            case (byte)'+' or (byte)':':
                return new Reply(ReplyKind.Value, rest);
            case (byte)'-':
                return new Reply(ReplyKind.Error, rest);
            case (byte)'$':
                int length = Number(rest);
                return length < 0 ? new Reply(ReplyKind.Missing, default) : new Reply(ReplyKind.Value, ReadBytes(length + 2)[..length]);
            case (byte)'*':
                return ReceiveArray(Number(rest));
            default:
                throw new IOException($"not RESP: \"{Encoding.UTF8.GetString(line)}\"");
        }
    }

    private Reply ReceiveArray(int count)
    {
        var all = new ByteBuffer();
        for (int i = 0; i < count; i++)
        {
            all.Add(Receive().Body);
            all.Add("\n"u8);
        }
        return new Reply(count < 0 ? ReplyKind.Missing : ReplyKind.Value, all.Written);
    }

    private static int Number(ReadOnlySpan<byte> text) =>
        Utf8Parser.TryParse(text, out int value, out int used) && used == text.Length ? value
            : throw new IOException($"not RESP: a length of \"{Encoding.UTF8.GetString(text)}\"");
}

/// <summary>The memcached text protocol: get of one key, and commands that are answered with one line.</summary>
public sealed class MemcachedClient(EndPoint endpoint, TimeSpan timeout, CancellationToken cancel = default) : WorkloadClient(endpoint, timeout, cancel)
{
    /// <inheritdoc/>
    public override void Add(ReadOnlySpan<byte> request)
    {
        Output.Add(request);
        Output.Add("\r\n"u8);
    }

    /// <inheritdoc/>
    public override Reply Receive()
    {
        ReadOnlySpan<byte> line = ReadLine();
        if (line.StartsWith("VALUE "u8))
        {
            ReadOnlySpan<byte> size = line[(line.LastIndexOf((byte)' ') + 1)..];
            if (!Utf8Parser.TryParse(size, out int length, out int used) || used != size.Length)
                throw new IOException($"not memcached: \"{Encoding.UTF8.GetString(line)}\"");
            const int tail = 7; // CR LF END CR LF
            ReadOnlySpan<byte> body = ReadBytes(length + tail);
            return body.EndsWith("\r\nEND\r\n"u8) ? new Reply(ReplyKind.Value, body[..length])
                : throw new IOException("not memcached: a value without END; expected a get of one key");
        }
        if (line.SequenceEqual("END"u8) || line.SequenceEqual("NOT_FOUND"u8))
            return new Reply(ReplyKind.Missing, default);
        bool error = line.StartsWith("ERROR"u8) || line.StartsWith("CLIENT_ERROR"u8) || line.StartsWith("SERVER_ERROR"u8);
        return new Reply(error ? ReplyKind.Error : ReplyKind.Value, line);
    }
}

/// <summary>One line asked, one line answered: for small programs of one's own.</summary>
public sealed class LineClient(EndPoint endpoint, TimeSpan timeout, CancellationToken cancel = default) : WorkloadClient(endpoint, timeout, cancel)
{
    /// <inheritdoc/>
    public override void Add(ReadOnlySpan<byte> request)
    {
        Output.Add(request);
        Output.Add("\n"u8);
    }

    /// <inheritdoc/>
    public override Reply Receive()
    {
        ReadOnlySpan<byte> line = ReadLine();
        ReplyKind kind = line.StartsWith("error"u8) ? ReplyKind.Error
            : line.SequenceEqual("missing"u8) ? ReplyKind.Missing : ReplyKind.Value;
        return new Reply(kind, line);
    }
}
