using System.Buffers.Binary;
using Google.Protobuf;
using Testbed.Core;

namespace Testbed.PageXfer.Images;

/// <summary>
/// Reads and writes one image file: magic words, then records of a u32 length and a protobuf each (little endian).
/// Unknown fields of a record stay in the message and are written again.
/// </summary>
public static class ImageFile
{
    // A process may have 65,530 areas by default, of some 50 bytes each; a million of them fits.
    private const uint MaxRecord = 64 << 20;

    // Two bytes say an empty message, which takes 50 times as much here. CRIU writes all fields of an area: 16 bytes are the least for one.
    private const int MessagesBase = 1 << 16, BytesPerMessage = 16;

    /// <summary>The magic words with which an image of the kind <paramref name="magic"/> begins.</summary>
    public static IReadOnlyList<uint> Head(uint magic) => magic switch
    {
        ImageMagic.Inventory => [magic],
        ImageMagic.Stats or ImageMagic.IrmapCache => [ImageMagic.Service, magic],
        _ => [ImageMagic.Common, magic],
    };

    /// <summary>Reads an image that has exactly one record.</summary>
    /// <exception cref="BadInputException">The file is missing, not of this kind, cut short or malformed.</exception>
    public static T ReadOne<T>(string path, uint magic, MessageParser<T> parser) where T : IMessage<T>
    {
        using Records records = Open(path, magic);
        if (!records.TryRead(parser, out T record))
            throw new BadInputException($"{path}: no record; expected one {typeof(T).Name}");
        if (!records.AtEnd)
            throw new BadInputException($"{path}: more than one record; expected one {typeof(T).Name}");
        return record;
    }

    /// <summary>Reads an image of any number of records of one kind.</summary>
    /// <exception cref="BadInputException">The file is missing, not of this kind, cut short or malformed.</exception>
    public static List<T> ReadAll<T>(string path, uint magic, MessageParser<T> parser) where T : IMessage<T>
    {
        using Records records = Open(path, magic);
        var all = new List<T>();
        while (records.TryRead(parser, out T record))
            all.Add(record);
        return all;
    }

    /// <summary>Writes an image under a temporary name and renames it when it is whole.</summary>
    public static void Write(string path, uint magic, params ReadOnlySpan<IMessage> records)
    {
        string temporary = path + ".tmp";
        using (FileStream stream = File.Create(temporary))
        {
            WriteHead(stream, magic);
            foreach (IMessage record in records)
                WriteRecord(stream, record);
        }
        File.Move(temporary, path, overwrite: true);
    }

    /// <summary>Writes the magic words.</summary>
    public static void WriteHead(Stream stream, uint magic)
    {
        Span<byte> word = stackalloc byte[4];
        foreach (uint value in Head(magic))
        {
            BinaryPrimitives.WriteUInt32LittleEndian(word, value);
            stream.Write(word);
        }
    }

    /// <summary>Writes one record.</summary>
    public static void WriteRecord(Stream stream, IMessage record)
    {
        if (!record.IsInitialized())
            throw new InvalidOperationException($"{record.Descriptor.Name}: a required field was not set");
        Span<byte> length = stackalloc byte[4];
        BinaryPrimitives.WriteInt32LittleEndian(length, record.CalculateSize());
        stream.Write(length);
        record.WriteTo(stream);
    }

    /// <summary>Opens an image and checks its magic words.</summary>
    /// <exception cref="BadInputException">The file is missing or not of this kind.</exception>
    internal static Records Open(string path, uint magic)
    {
        FileStream stream;
        try
        {
            stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read, 1 << 16);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new BadInputException($"{path}: cannot be opened ({e.Message}); expected an image file", e);
        }
        var records = new Records(stream, path);
        try
        {
            records.CheckHead(magic);
        }
        catch
        {
            records.Dispose();
            throw;
        }
        return records;
    }

    /// <summary>The records of an open image, one after the other.</summary>
    internal sealed class Records(FileStream stream, string path) : IDisposable
    {
        private byte[] _buffer = new byte[256];

        public bool AtEnd => stream.Position == stream.Length;

        public void CheckHead(uint magic)
        {
            Span<byte> word = stackalloc byte[4];
            foreach (uint expected in Head(magic))
            {
                if (stream.ReadAtLeast(word, 4, throwOnEndOfStream: false) < 4)
                    throw new BadInputException($"{path}: ends within the magic; expected 0x{expected:x8}");
                uint found = BinaryPrimitives.ReadUInt32LittleEndian(word);
                if (found != expected)
                    throw new BadInputException($"{path}: magic is 0x{found:x8}; expected 0x{expected:x8}");
            }
        }

        public bool TryRead<T>(MessageParser<T> parser, out T record) where T : IMessage<T>
        {
            record = default!;
            long at = stream.Position;
            Span<byte> word = stackalloc byte[4];
            int got = stream.ReadAtLeast(word, 4, throwOnEndOfStream: false);
            if (got == 0)
                return false;
            uint length = got == 4 ? BinaryPrimitives.ReadUInt32LittleEndian(word) : 0;
            long left = stream.Length - stream.Position;
            if (got < 4 || length > left)
                throw new BadInputException($"{path}: record at byte {at} is cut short; expected 4 bytes of length and {length} of content, {left} are left");
            if (length > MaxRecord)
                throw new BadInputException($"{path}: record at byte {at} has {length} bytes; expected at most {MaxRecord}");
            if (_buffer.Length < length)
                _buffer = new byte[length];
            stream.ReadExactly(_buffer, 0, (int)length);
            try
            {
                if (CountMessages(_buffer.AsSpan(0, (int)length)) is var count && count > MessagesBase + (length / BytesPerMessage))
                    throw new BadInputException($"{path}: record at byte {at} has {count} fields in {length} bytes; expected at most {MessagesBase} and one in {BytesPerMessage} bytes");
                record = parser.ParseFrom(_buffer, 0, (int)length);
            }
            catch (InvalidProtocolBufferException e)
            {
                throw new BadInputException($"{path}: record at byte {at} is not a {typeof(T).Name} ({e.Message})", e);
            }
            if (!record.IsInitialized())
                throw new BadInputException($"{path}: record at byte {at} lacks a required field of {typeof(T).Name}");
            return true;
        }

        public void Dispose() => stream.Dispose();

        /// <summary>Fields of the outermost message that have a length, and become objects; up to the first that is malformed, which the parser will tell.</summary>
        private static int CountMessages(ReadOnlySpan<byte> record)
        {
            int count = 0;
            while (TryVarint(ref record, out ulong tag))
            {
                ulong skip = (tag & 7) switch { 1 => 8, 5 => 4, _ => 0 };
                if ((tag & 7) is 0 && !TryVarint(ref record, out _))
                    break;
                if ((tag & 7) is 2)
                {
                    count++;
                    if (!TryVarint(ref record, out skip))
                        break;
                }
                if (skip > (ulong)record.Length)
                    break;
                record = record[(int)skip..];
            }
            return count;
        }

        private static bool TryVarint(ref ReadOnlySpan<byte> from, out ulong value)
        {
            value = 0;
            for (int i = 0; i < Math.Min(10, from.Length); i++)
            {
                value |= (ulong)(from[i] & 0x7f) << (7 * i);
                if (from[i] < 0x80)
                {
                    from = from[(i + 1)..];
                    return true;
                }
            }
            return false;
        }
    }
}
