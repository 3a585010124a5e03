using System.IO.Hashing;
using Testbed.Core;
using ZstdSharp;

namespace Testbed.Traces;

/// <summary>Packs payloads, frames them and writes each block with one write, so that a crash leaves whole blocks and at most one torn one.</summary>
internal sealed class BlockSink(Stream stream) : IDisposable
{
    // Level 3 packs a block in about a millisecond; higher levels gain little on what is mostly noise of clocks.
    private readonly Compressor _compressor = new(3);
    private byte[] _block = new byte[1 << 18];

    /// <summary>Blocks written so far.</summary>
    public uint Blocks { get; private set; }

    public long Bytes { get; private set; }

    public static void CheckLength(BlockKind kind, int length)
    {
        if (length > Frame.MaxLength)
            throw new BadInputException($"trace: block {kind} of {length} bytes; the format holds at most {Frame.MaxLength} (is the memory map that fragmented?)");
    }

    public void WritePrefix()
    {
        stream.Write(FilePrefix.Bytes());
        Bytes = FilePrefix.Size;
    }

    public void Write(BlockKind kind, ReadOnlySpan<byte> payload)
    {
        CheckLength(kind, payload.Length);
        int bound = Frame.Size + Compressor.GetCompressBound(payload.Length);
        if (_block.Length < bound)
            _block = new byte[bound];
        Span<byte> stored = _block.AsSpan(Frame.Size);
        int length = _compressor.Wrap(payload, stored);
        Codec codec = Codec.Zstd;
        if (length >= payload.Length)
        {
            payload.CopyTo(stored);
            (length, codec) = (payload.Length, Codec.Stored);
        }
        new Frame(kind, codec, Blocks, length, payload.Length, Crc32.HashToUInt32(stored[..length])).Write(_block);
        stream.Write(_block, 0, Frame.Size + length);
        Bytes += Frame.Size + length;
        Blocks++;
    }

    public void FlushToDisk()
    {
        if (stream is FileStream file)
            file.Flush(flushToDisk: true);
        else
            stream.Flush();
    }

    public void Dispose()
    {
        _compressor.Dispose();
        stream.Dispose();
    }
}
