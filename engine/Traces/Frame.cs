using System.Buffers.Binary;
using System.IO.Hashing;
using Testbed.Core;

namespace Testbed.Traces;

/// <summary>What a block of a trace holds. Readers skip kinds that they do not know.</summary>
public enum BlockKind : byte
{
    /// <summary>Where the trace came from: the first block.</summary>
    Header = 1,

    /// <summary>Faults, column by column.</summary>
    Faults = 2,

    /// <summary>Events of the fault service, column by column.</summary>
    Events = 3,

    /// <summary>Threads that appeared while recording.</summary>
    Threads = 4,

    /// <summary>Totals: the last block of a complete trace.</summary>
    Footer = 5,
}

/// <summary>How the payload of a block is stored.</summary>
internal enum Codec : byte
{
    Stored = 0,
    Zstd = 1,
}

/// <summary>
/// The 28 bytes before the payload of a block. They have a checksum of their own, so that a length can be believed:
/// only then can a file that was cut off be told from one that was damaged.
/// </summary>
internal readonly record struct Frame(BlockKind Kind, Codec Codec, uint Sequence, int StoredLength, int RawLength, uint PayloadCrc)
{
    public const int Size = 28;
    public const uint Sync = 0x4254524C; // "LRTB"
    public const int MaxLength = 16 << 20;

    public void Write(Span<byte> to)
    {
        BinaryPrimitives.WriteUInt32LittleEndian(to, Sync);
        to[4] = (byte)Kind;
        to[5] = (byte)Codec;
        to[6] = to[7] = 0;
        BinaryPrimitives.WriteUInt32LittleEndian(to[8..], Sequence);
        BinaryPrimitives.WriteInt32LittleEndian(to[12..], StoredLength);
        BinaryPrimitives.WriteInt32LittleEndian(to[16..], RawLength);
        BinaryPrimitives.WriteUInt32LittleEndian(to[20..], PayloadCrc);
        BinaryPrimitives.WriteUInt32LittleEndian(to[24..], Crc32.HashToUInt32(to[..24]));
    }

    /// <exception cref="BadInputException">Not a frame, damaged, or with lengths that no writer produces.</exception>
    public static Frame Parse(ReadOnlySpan<byte> from)
    {
        if (BinaryPrimitives.ReadUInt32LittleEndian(from) != Sync)
            throw new BadInputException("no block marker; expected LRTB");
        if (BinaryPrimitives.ReadUInt32LittleEndian(from[24..]) != Crc32.HashToUInt32(from[..24]))
            throw new BadInputException("wrong checksum of the block's frame");
        var frame = new Frame((BlockKind)from[4], (Codec)from[5],
            BinaryPrimitives.ReadUInt32LittleEndian(from[8..]),
            BinaryPrimitives.ReadInt32LittleEndian(from[12..]),
            BinaryPrimitives.ReadInt32LittleEndian(from[16..]),
            BinaryPrimitives.ReadUInt32LittleEndian(from[20..]));
        if ((uint)frame.StoredLength > MaxLength || (uint)frame.RawLength > MaxLength)
            throw new BadInputException($"block of {(uint)frame.StoredLength} bytes, {(uint)frame.RawLength} unpacked; expected at most {MaxLength}");
        if (frame.Codec > Codec.Zstd)
            throw new BadInputException($"block stored with method {(int)frame.Codec}; expected 0 (as is) or 1 (zstd)");
        if (frame.Codec == Codec.Stored && frame.StoredLength != frame.RawLength)
            throw new BadInputException($"block stored as is has {frame.StoredLength} bytes but promises {frame.RawLength}");
        return frame;
    }
}

/// <summary>The 12 bytes that begin a file.</summary>
internal static class FilePrefix
{
    public const int Size = 12;
    public const uint Version = 1;

    /// <summary>Like PNG's: a byte with the top bit set, and line ends that a text-mode copy would change.</summary>
    public static ReadOnlySpan<byte> Magic => [0x89, (byte)'L', (byte)'R', (byte)'T', 0x0D, 0x0A, 0x1A, 0x0A];

    public static byte[] Bytes()
    {
        byte[] bytes = new byte[Size];
        Magic.CopyTo(bytes);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(8), Version);
        return bytes;
    }

    public static void Check(ReadOnlySpan<byte> bytes)
    {
        if (bytes.Length < Size || !bytes.StartsWith(Magic))
            throw new BadInputException("not a trace: expected a file that begins with the bytes 89 4C 52 54 0D 0A 1A 0A and a version");
        uint version = BinaryPrimitives.ReadUInt32LittleEndian(bytes[8..]);
        if (version > Version)
            throw new BadInputException($"trace format version {version} is newer than this program, which reads version {Version}");
        if (version == 0)
            throw new BadInputException($"trace format version 0 does not exist; expected {Version}");
    }
}
