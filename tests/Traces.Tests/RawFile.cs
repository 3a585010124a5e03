using System.Buffers.Binary;
using System.IO.Hashing;
using ZstdSharp;

namespace Testbed.Traces.Tests;

/// <summary>Takes files apart and puts them together, below the reader and the writer.</summary>
internal static class RawFile
{
    public static IEnumerable<(int Start, int End, BlockKind Kind)> Blocks(byte[] file)
    {
        for (int at = FilePrefix.Size; at < file.Length;)
        {
            int end = at + Frame.Size + BinaryPrimitives.ReadInt32LittleEndian(file.AsSpan(at + 12));
            yield return (at, end, (BlockKind)file[at + 4]);
            at = end;
        }
    }

    public static byte[] Unpacked(ReadOnlySpan<byte> block)
    {
        Frame frame = Frame.Parse(block);
        using var decompressor = new Decompressor();
        return frame.Codec == Codec.Stored ? block[Frame.Size..].ToArray() : decompressor.Unwrap(block[Frame.Size..]).ToArray();
    }

    public static byte[] Framed(BlockKind kind, uint sequence, byte[] payload)
    {
        byte[] block = new byte[Frame.Size + payload.Length];
        new Frame(kind, Codec.Stored, sequence, payload.Length, payload.Length, Crc32.HashToUInt32(payload)).Write(block);
        payload.CopyTo(block, Frame.Size);
        return block;
    }

    public static List<string> Payloads(byte[] file) =>
        [.. Blocks(file).Select(b => $"{b.Kind} {Convert.ToHexString(Unpacked(file.AsSpan(b.Start, b.End - b.Start)))}")];
}
