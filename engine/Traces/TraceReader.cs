using System.IO.Hashing;
using Google.Protobuf;
using Testbed.Core;
using ZstdSharp;

namespace Testbed.Traces;

/// <summary>
/// Reads a trace block by block. A file that was cut off gives all its whole blocks, and then says why it is not
/// complete; a file that was damaged, or is none, ends in a <see cref="BadInputException"/> that names the place.
/// </summary>
public sealed class TraceReader : IDisposable
{
    private readonly Stream _stream;
    private readonly string _name;
    private readonly Decompressor _decompressor = new();
    private readonly FaultCodec _faultCodec = new();
    private readonly EventCodec _eventCodec = new();
    private readonly List<TraceThread> _threads;
    private byte[] _stored = [];
    private byte[] _raw = [];
    private FaultRecord[] _faults = [];
    private ServiceEvent[] _events = [];
    private int _faultCount;
    private int _eventCount;
    private long _faultTotal;
    private long _eventTotal;
    private long _unpacked;
    private long _described;
    private uint _blocks;

    private TraceReader(Stream stream, string name)
    {
        _stream = stream;
        _name = name;
        Span<byte> prefix = stackalloc byte[FilePrefix.Size];
        int length = ReadUpTo(prefix);
        Guarded(0, prefix[..length], static (_, bytes) => FilePrefix.Check(bytes));
        if (!ReadFrame(out Frame frame, out int rawLength) || frame.Kind != BlockKind.Header)
            throw new BadInputException($"{name}: the header is missing: {IncompleteReason ?? $"the first block is of kind {(int)frame.Kind}"}");
        Header = new TraceHeader { Workload = "", Image = new MemoryImage([], []) };
        Guarded(FilePrefix.Size, _raw.AsSpan(0, rawLength), static (me, bytes) => me.Header = HeaderCodec.DecodeHeader(bytes));
        _threads = [.. Header.Threads];
    }

    /// <summary>Opens a file and reads its header.</summary>
    /// <exception cref="BadInputException">No such file, not a trace, a newer version, or no whole header.</exception>
    public static TraceReader Open(string path)
    {
        FileStream? file = null;
        try
        {
            file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite, 1 << 16, FileOptions.SequentialScan);
            return new TraceReader(file, path);
        }
        catch (BadInputException)
        {
            file?.Dispose();
            throw;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            file?.Dispose();
            throw new BadInputException($"{path}: cannot read this trace: {e.Message}", e);
        }
    }

    /// <summary>Reads from <paramref name="stream"/>, which is closed at the end; <paramref name="name"/> stands in messages.</summary>
    /// <exception cref="BadInputException">Not a trace, a newer version, or no whole header.</exception>
    public static TraceReader Open(Stream stream, string name) => new(stream, name);

    /// <summary>Where the trace came from, and its memory.</summary>
    public TraceHeader Header { get; private set; }

    /// <summary>The threads known so far, by index.</summary>
    public IReadOnlyList<TraceThread> Threads => _threads;

    /// <summary>What kind of block was read last.</summary>
    public BlockKind Kind { get; private set; } = BlockKind.Header;

    /// <summary>The faults of the block just read, in the order of recording; empty for other kinds. Valid until the next read.</summary>
    public ReadOnlySpan<FaultRecord> Faults => _faults.AsSpan(0, _faultCount);

    /// <summary>The events of the block just read; empty for other kinds. Valid until the next read.</summary>
    public ReadOnlySpan<ServiceEvent> Events => _events.AsSpan(0, _eventCount);

    /// <summary>How the recording ended; null until the footer was read.</summary>
    public TraceEnd? End { get; private set; }

    /// <summary>Whether the whole trace was read, up to its footer.</summary>
    public bool IsComplete => End != null;

    /// <summary>Why there is no footer, in one line; null while that is not known, and when there is one.</summary>
    public string? IncompleteReason { get; private set; }

    /// <summary>Bytes read.</summary>
    public long Position { get; private set; }

    /// <summary>Blocks read, the header among them.</summary>
    public long Blocks => _blocks;

    /// <summary>Reads the next block. False at the end of the file, or of its whole part.</summary>
    /// <exception cref="BadInputException">The block is damaged; the message names its offset.</exception>
    public bool ReadBlock()
    {
        _faultCount = _eventCount = 0;
        long offset = Position;
        if (!ReadFrame(out Frame frame, out int rawLength))
            return false;
        Kind = frame.Kind;
        Guarded(offset, _raw.AsSpan(0, rawLength), static (me, bytes) => me.Decode(bytes));
        return true;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _decompressor.Dispose();
        _stream.Dispose();
    }

    private void Decode(ReadOnlySpan<byte> payload)
    {
        switch (Kind)
        {
            case BlockKind.Faults:
                _faultCount = _faultCodec.Decode(payload, _threads.Count, RecordsLeft, ref _faults);
                _faultTotal += _faultCount;
                break;
            case BlockKind.Events:
                _eventCount = _eventCodec.Decode(payload, _threads.Count, RecordsLeft, ref _events);
                _eventTotal += _eventCount;
                break;
            case BlockKind.Threads:
                HeaderCodec.DecodeThreads(payload, _threads);
                break;
            case BlockKind.Header:
                throw new BadInputException("a second header");
            case BlockKind.Footer:
                (TraceEnd end, TraceTotals promised) = HeaderCodec.DecodeFooter(payload);
                var seen = new TraceTotals(_faultTotal, _eventTotal, _threads.Count, _blocks - 1);
                if (promised != seen)
                    throw new BadInputException($"the footer promises {promised}, but the file has {seen}");
                End = end;
                break;
        }
    }

    /// <summary>Reads and unpacks a block into _raw. False when the file ends, whole or cut off.</summary>
    private bool ReadFrame(out Frame frame, out int rawLength)
    {
        long offset = Position;
        frame = default;
        rawLength = 0;
        Span<byte> head = stackalloc byte[Frame.Size];
        int got = ReadUpTo(head);
        if (got == 0 || IsZeroToTheEnd(head[..got], got))
        {
            if (End == null)
                IncompleteReason = $"cut off at byte {offset}, before its footer";
            return false;
        }
        if (End != null)
            throw Damaged(offset, "data behind the footer; expected the end of the file");
        if (got < Frame.Size)
        {
            IncompleteReason = $"cut off at byte {offset + got}, inside the frame of block {_blocks}";
            return false;
        }
        try
        {
            frame = Frame.Parse(head);
        }
        catch (BadInputException e)
        {
            throw Damaged(offset, e.Message, e);
        }
        if (frame.Sequence != _blocks)
            throw Damaged(offset, $"block number {frame.Sequence}; expected {_blocks}");
        return ReadPayload(offset, frame, out rawLength);
    }

    private bool ReadPayload(long offset, in Frame frame, out int rawLength)
    {
        rawLength = 0;
        // A length may be a lie: do not make room for more than a file can give.
        int room = _stream.CanSeek ? (int)Math.Clamp(_stream.Length - _stream.Position, 0, frame.StoredLength) : frame.StoredLength;
        if (_stored.Length < room)
            _stored = new byte[room];
        int got = ReadUpTo(_stored.AsSpan(0, room));
        if (got < frame.StoredLength)
        {
            IncompleteReason = $"cut off at byte {offset + Frame.Size + got}, inside block {_blocks}";
            return false;
        }
        ReadOnlySpan<byte> stored = _stored.AsSpan(0, got);
        if (Crc32.HashToUInt32(stored) != frame.PayloadCrc)
            throw Damaged(offset, "wrong checksum of the block's payload");
        Spend(offset, frame);
        Unpack(offset, frame, stored);
        rawLength = frame.RawLength;
        _blocks++;
        return true;
    }

    private long RecordsLeft => Budget.Records(Position) - _faultTotal - _eventTotal;

    /// <summary>Holds what a block says it unpacks to against the whole file so far, before there is room for it.</summary>
    private void Spend(long offset, in Frame frame)
    {
        _unpacked += frame.RawLength;
        if (_unpacked > Budget.Unpacked(Position))
            throw Damaged(offset, $"{_unpacked} bytes unpacked out of {Position}; expected at most {Budget.Unpacked(Position)}");
        if (frame.Kind is not (BlockKind.Header or BlockKind.Threads or BlockKind.Footer))
            return;
        _described += frame.RawLength;
        if (_described > Budget.Description(Position))
            throw Damaged(offset, $"{_described} bytes of names and page ranges out of {Position}; expected at most {Budget.Description(Position)}");
    }

    private void Unpack(long offset, in Frame frame, ReadOnlySpan<byte> stored)
    {
        if (frame.Codec == Codec.Zstd && SizeOf(stored) != (ulong)frame.RawLength)
            throw Damaged(offset, $"the packed payload does not give the {frame.RawLength} bytes promised");
        if (_raw.Length < frame.RawLength)
            _raw = new byte[Math.Max(frame.RawLength, 1 << 16)];
        if (frame.Codec == Codec.Stored)
        {
            stored.CopyTo(_raw);
            return;
        }
        try
        {
            int length = _decompressor.Unwrap(stored, _raw.AsSpan(0, frame.RawLength));
            if (length != frame.RawLength)
                throw Damaged(offset, $"the packed payload gives {length} bytes; expected {frame.RawLength}");
        }
        catch (ZstdException e)
        {
            throw Damaged(offset, $"the payload cannot be unpacked: {e.Message}", e);
        }
    }

    private static ulong SizeOf(ReadOnlySpan<byte> stored)
    {
        try
        {
            return Decompressor.GetDecompressedSize(stored);
        }
        catch (ZstdException)
        {
            return ulong.MaxValue;
        }
    }

    private delegate void Step(TraceReader reader, ReadOnlySpan<byte> bytes);

    /// <summary>Whatever the parsers object to becomes one line that names the file and the place.</summary>
    private void Guarded(long offset, ReadOnlySpan<byte> bytes, Step step)
    {
        try
        {
            step(this, bytes);
        }
        catch (BadInputException e) when (offset == 0)
        {
            throw new BadInputException($"{_name}: {e.Message}", e);
        }
        catch (Exception e) when (e is BadInputException or InvalidProtocolBufferException)
        {
            throw Damaged(offset, $"{Kind} block: {e.Message}", e);
        }
    }

    private BadInputException Damaged(long offset, string what, Exception? inner = null)
    {
        string message = $"{_name}: damaged at byte {offset} (block {_blocks}): {what}";
        return inner == null ? new BadInputException(message) : new BadInputException(message, inner);
    }

    /// <summary>After a power failure a file can end in zeros that were never written: that is a cut, not damage.</summary>
    private bool IsZeroToTheEnd(ReadOnlySpan<byte> head, int got)
    {
        if (head.ContainsAnyExcept((byte)0) || !_stream.CanSeek)
            return false;
        long back = _stream.Position;
        Span<byte> rest = stackalloc byte[512];
        bool zero = true;
        while (zero && (got = _stream.Read(rest)) > 0)
            zero = !rest[..got].ContainsAnyExcept((byte)0);
        _stream.Position = back;
        return zero;
    }

    private int ReadUpTo(Span<byte> to)
    {
        try
        {
            int got = _stream.ReadAtLeast(to, to.Length, throwOnEndOfStream: false);
            Position += got;
            return got;
        }
        catch (IOException e)
        {
            throw new BadInputException($"{_name}: cannot read at byte {Position}: {e.Message}", e);
        }
    }
}
