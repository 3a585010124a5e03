using System.Runtime.CompilerServices;
using Testbed.Core;

namespace Testbed.Traces;

/// <summary>
/// Builds the payload of a block of columns: a protobuf message of packed varint fields, written by hand because the
/// generated classes would allocate for every block.
/// </summary>
internal sealed class ColumnWriter
{
    private byte[] _column = new byte[1 << 16];
    private byte[] _payload = new byte[1 << 18];
    private int _columnLength;
    private int _payloadLength;

    public ReadOnlySpan<byte> Payload => _payload.AsSpan(0, _payloadLength);

    public void Clear() => _payloadLength = _columnLength = 0;

    /// <summary>Makes room for <paramref name="values"/> values, so that adding one needs no check.</summary>
    public void BeginColumn(int values)
    {
        _columnLength = 0;
        if (_column.Length < values * 10)
            _column = new byte[values * 10];
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Add(ulong value) => _columnLength = PutVarint(_column, _columnLength, value);

    /// <summary>protobuf's sint64: small numbers of either sign get small codes.</summary>
    public static ulong Zigzag(long value) => (ulong)(value << 1) ^ (ulong)(value >> 63);

    public void EndColumn(int field)
    {
        int wanted = _payloadLength + _columnLength + 20;
        if (_payload.Length < wanted)
            Array.Resize(ref _payload, Math.Max(wanted, _payload.Length * 2));
        _payloadLength = PutVarint(_payload, _payloadLength, (ulong)field << 3 | 2);
        _payloadLength = PutVarint(_payload, _payloadLength, (ulong)_columnLength);
        _column.AsSpan(0, _columnLength).CopyTo(_payload.AsSpan(_payloadLength));
        _payloadLength += _columnLength;
    }

    private static int PutVarint(byte[] to, int at, ulong value)
    {
        while (value >= 0x80)
        {
            to[at++] = (byte)(value | 0x80);
            value >>= 7;
        }
        to[at++] = (byte)value;
        return at;
    }
}

/// <summary>Reads varints off a span; anything malformed is bad input.</summary>
internal ref struct VarintReader(ReadOnlySpan<byte> bytes)
{
    private readonly ReadOnlySpan<byte> _bytes = bytes;
    private int _at;

    public readonly bool AtEnd => _at == _bytes.Length;

    public readonly int Left => _bytes.Length - _at;

    public ulong Next()
    {
        ulong value = 0;
        for (int shift = 0; shift < 70; shift += 7)
        {
            if (_at == _bytes.Length)
                throw new BadInputException("column ends inside a number");
            byte b = _bytes[_at++];
            value |= (ulong)(b & 0x7F) << shift;
            if (b < 0x80)
                return value;
        }
        throw new BadInputException("column has a number of more than 10 bytes");
    }

    public long NextSigned()
    {
        ulong raw = Next();
        return (long)(raw >> 1) ^ -(long)(raw & 1);
    }

    public ReadOnlySpan<byte> Take(ulong length)
    {
        if (length > (ulong)(_bytes.Length - _at))
            throw new BadInputException($"column of {length} bytes in a block with {_bytes.Length - _at} left");
        ReadOnlySpan<byte> taken = _bytes.Slice(_at, (int)length);
        _at += (int)length;
        return taken;
    }
}

/// <summary>Finds the columns of a block by field number. Fields that it does not know are skipped.</summary>
internal ref struct ColumnTable
{
    /// <summary>The highest field number in use, plus one.</summary>
    public const int Fields = 32;

    private readonly ReadOnlySpan<byte> _payload;
    private ColumnPlaces _places;

    public ColumnTable(ReadOnlySpan<byte> payload)
    {
        _payload = payload;
        var reader = new VarintReader(payload);
        while (!reader.AtEnd)
        {
            ulong tag = reader.Next();
            if ((tag & 7) != 2)
                throw new BadInputException($"field {tag >> 3} has wire type {tag & 7}; expected packed columns");
            ReadOnlySpan<byte> column = reader.Take(reader.Next());
            if (tag >> 3 < Fields)
                _places[(int)(tag >> 3)] = (payload.Length - reader.Left - column.Length, column.Length);
        }
    }

    /// <summary>The column's bytes; empty when the block does not have it.</summary>
    public readonly ReadOnlySpan<byte> this[int field] => _payload.Slice(_places[field].Start, _places[field].Length);

    public readonly VarintReader Reader(int field) => new(this[field]);

    /// <summary>How many numbers a column has: the bytes whose top bit is clear.</summary>
    public readonly int Count(int field)
    {
        int count = 0;
        foreach (byte b in this[field])
            count += b < 0x80 ? 1 : 0;
        return count;
    }

    [InlineArray(Fields)]
    private struct ColumnPlaces
    {
        private (int Start, int Length) _first;
    }
}
