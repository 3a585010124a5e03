using System.Buffers.Binary;
using System.Net;
using System.Text;

namespace Testbed.Scenarios;

/// <summary>
/// PostgreSQL's protocol, version 3: simple queries as user and database postgres, without a password. A request may be several
/// statements; the answer is all rows, columns with tabs between, rows with LF.
/// </summary>
/// <remarks>https://www.postgresql.org/docs/15/protocol-message-formats.html</remarks>
public sealed class PostgresClient : WorkloadClient
{
    private const int ProtocolVersion = 3 << 16;
    private readonly ByteBuffer _rows = new();

    /// <summary>Connects and waits until the server is ready.</summary>
    public PostgresClient(EndPoint endpoint, TimeSpan timeout, CancellationToken cancel = default) : base(endpoint, timeout, cancel)
    {
        ReadOnlySpan<byte> parameters = "user\0postgres\0database\0postgres\0\0"u8;
        AddInt(8 + parameters.Length);
        AddInt(ProtocolVersion);
        Output.Add(parameters);
        Flush();
        Reply reply = Receive();
        if (reply.Kind == ReplyKind.Error)
            throw new IOException(reply.ToString());
    }

    /// <inheritdoc/>
    public override void Add(ReadOnlySpan<byte> request)
    {
        Output.Add("Q"u8);
        AddInt(4 + request.Length + 1);
        Output.Add(request);
        Output.Add("\0"u8);
    }

    /// <inheritdoc/>
    public override Reply Receive()
    {
        _rows.Clear();
        ReplyKind kind = ReplyKind.Value;
        while (true)
        {
            ReadOnlySpan<byte> head = ReadBytes(5);
            byte type = head[0];
            int length = BinaryPrimitives.ReadInt32BigEndian(head[1..]) - 4;
            if (length is < 0 or > 1 << 30)
                throw new IOException($"not PostgreSQL: a message of {length} bytes");
            ReadOnlySpan<byte> body = ReadBytes(length);
            switch (type)
            {
                case (byte)'D' when kind != ReplyKind.Error:
                    AddRow(body);
                    break;
                case (byte)'E':
                    kind = ReplyKind.Error;
                    _rows.Clear();
                    _rows.Add(Message(body));
                    // An error before the session begins is the last that comes.
                    if (IsFatal(body))
                        return new Reply(kind, _rows.Written);
                    break;
                case (byte)'R' when BinaryPrimitives.ReadInt32BigEndian(body) != 0:
                    throw new IOException("the server wants a password; expected trust");
                case (byte)'Z':
                    return new Reply(kind, _rows.Written);
            }
        }
    }

    private void AddRow(ReadOnlySpan<byte> body)
    {
        if (_rows.Length > 0)
            _rows.Add("\n"u8);
        int columns = BinaryPrimitives.ReadInt16BigEndian(body);
        body = body[2..];
        for (int i = 0; i < columns; i++)
        {
            int length = BinaryPrimitives.ReadInt32BigEndian(body);
            body = body[4..];
            if (i > 0)
                _rows.Add("\t"u8);
            if (length <= 0)
                continue;
            _rows.Add(body[..length]);
            body = body[length..];
        }
    }

    private static bool IsFatal(ReadOnlySpan<byte> fields) => Field(fields, 'V') is "FATAL" or "PANIC";

    private static byte[] Message(ReadOnlySpan<byte> fields) => Encoding.UTF8.GetBytes(Field(fields, 'M'));

    private static string Field(ReadOnlySpan<byte> fields, char which)
    {
        while (fields.Length > 1 && fields[0] != 0)
        {
            int end = fields.IndexOf((byte)0);
            if (fields[0] == which)
                return Encoding.UTF8.GetString(fields[1..end]);
            fields = fields[(end + 1)..];
        }
        return "";
    }

    private void AddInt(int value) => BinaryPrimitives.WriteInt32BigEndian(Output.Reserve(4), value);
}
