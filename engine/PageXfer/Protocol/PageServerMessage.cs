using System.Buffers.Binary;
using Testbed.Core;
using Testbed.PageXfer.Images;

namespace Testbed.PageXfer.Protocol;

/// <summary>What a message asks for: the low 16 bits of its first word. CRIU's numbers.</summary>
public enum PageServerCommand : ushort
{
    /// <summary>Present pages follow (before ADD_F came).</summary>
    Add = 1,

    /// <summary>Pages are in the parent images (before ADD_F came).</summary>
    Hole = 2,

    /// <summary>Begin a pagemap; no answer.</summary>
    Open = 3,

    /// <summary>Begin a pagemap; the answer is one byte: whether it has a parent.</summary>
    Open2 = 4,

    /// <summary>Is there a parent? The answer is an int32.</summary>
    Parent = 5,

    /// <summary>A range with its flags; its pages follow when it is Present. Also the head of a reply to Get.</summary>
    AddF = 6,

    /// <summary>Send pages of a process.</summary>
    Get = 7,

    /// <summary>All is sent. The answer is an int32, 0; then the server waits for the end of the stream.</summary>
    Close = 0x1023,

    /// <summary>As Close, when the socket may be held open by others.</summary>
    ForceClose = 0x1024,
}

/// <summary>
/// The one message of the page-server protocol, struct page_server_iov as of CRIU 4.2: 32 bytes, little endian:
/// u32 flags &lt;&lt; 16 | command, 4 bytes padding of any content, u64 nr_pages, u64 vaddr, u64 dst_id.
/// </summary>
/// <param name="Command">What it asks for.</param>
/// <param name="Flags">For AddF where the pages are.</param>
/// <param name="Pages">nr_pages.</param>
/// <param name="Address">vaddr, in bytes.</param>
/// <param name="Target">dst_id: for Get and its reply the pid, otherwise the id &lt;&lt; 8 | type.</param>
public readonly record struct PageServerMessage(
    PageServerCommand Command, PagemapFlags Flags, ulong Pages, ulong Address, ulong Target)
{
    /// <summary>Bytes of a message.</summary>
    public const int Size = 32;

    // More pages than there are in a 57-bit address space are a lie, and would overflow as bytes.
    private const ulong MaxPages = 1ul << (57 - PageNumber.Shift);

    /// <summary>Asks for pages of a process.</summary>
    public static PageServerMessage Get(uint pid, PageRange range) =>
        new(PageServerCommand.Get, PagemapFlags.None, (ulong)range.Count, range.Start.Address, pid);

    /// <summary>The head of the reply to a Get.</summary>
    public static PageServerMessage Reply(uint pid, PageRange range) =>
        new(PageServerCommand.AddF, PagemapFlags.Present, (ulong)range.Count, range.Start.Address, pid);

    /// <summary>Announces a range to a receiving server.</summary>
    public static PageServerMessage Add(PagemapId id, PageRange range, PagemapFlags flags) =>
        new(PageServerCommand.AddF, flags, (ulong)range.Count, range.Start.Address, Encode(id));

    /// <summary>A message about a whole pagemap: Open2, Parent.</summary>
    public static PageServerMessage About(PageServerCommand command, PagemapId id) =>
        new(command, PagemapFlags.None, 0, 0, Encode(id));

    /// <summary>A message that needs no more than its command: Close, ForceClose.</summary>
    public static PageServerMessage Plain(PageServerCommand command) => new(command, PagemapFlags.None, 0, 0, 0);

    /// <summary>Reads 32 bytes. Any content is a message; whether it makes sense is for the receiver to say.</summary>
    public static PageServerMessage Read(ReadOnlySpan<byte> bytes)
    {
        uint word = BinaryPrimitives.ReadUInt32LittleEndian(bytes);
        return new PageServerMessage(
            (PageServerCommand)(word & 0xffff),
            (PagemapFlags)(word >> 16),
            BinaryPrimitives.ReadUInt64LittleEndian(bytes[8..]),
            BinaryPrimitives.ReadUInt64LittleEndian(bytes[16..]),
            BinaryPrimitives.ReadUInt64LittleEndian(bytes[24..]));
    }

    /// <summary>Writes 32 bytes.</summary>
    public void Write(Span<byte> bytes)
    {
        BinaryPrimitives.WriteUInt32LittleEndian(bytes, (uint)Flags << 16 | (ushort)Command);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes[4..], 0);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes[8..], Pages);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes[16..], Address);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes[24..], Target);
    }

    /// <summary>The range that it is about.</summary>
    /// <exception cref="BadInputException">Not of whole pages, empty, or beyond any address space.</exception>
    public PageRange ToRange()
    {
        ulong first = Address >> PageNumber.Shift;
        if (Address % PageNumber.Size != 0 || Pages == 0 || first >= MaxPages || Pages > MaxPages - first)
            throw new BadInputException($"page-server message {Name}: vaddr 0x{Address:x}, nr_pages {Pages}; expected whole pages, at least one, below 2^57");
        return new PageRange(new PageNumber(first), (long)Pages);
    }

    /// <summary>The pagemap that it is about, not for Get.</summary>
    /// <exception cref="BadInputException">An unknown type.</exception>
    public PagemapId ToPagemap()
    {
        // The higher numbers are what CRIU 1.0 to 3.2 sent for the two types.
        PagemapKind kind = (Target & 0xff) switch
        {
            1 or 10 or 11 or 16 or 17 => PagemapKind.Task,
            2 or 27 or 28 or 29 or 32 or 33 or 34 => PagemapKind.Shmem,
            ulong type => throw new BadInputException($"page-server message {Name}: dst_id has type {type}; expected 1 (task) or 2 (shmem)"),
        };
        return new PagemapId(kind, Target >> 8);
    }

    /// <summary>The process that a Get is about.</summary>
    /// <exception cref="BadInputException">No pid.</exception>
    public uint ToPid() => Target <= int.MaxValue
        ? (uint)Target
        : throw new BadInputException($"page-server message {Name}: dst_id is {Target}; expected a pid");

    /// <summary>The command's name, or its number.</summary>
    public string Name => Enum.IsDefined(Command) ? Command.ToString() : $"{(ushort)Command}";

    /// <summary>Its fields, for a person.</summary>
    public override string ToString() => $"{Name} flags {(uint)Flags} pages {Pages} at 0x{Address:x} for {Target}";

    private static ulong Encode(PagemapId id) => id.Id << 8 | (byte)id.Kind;
}
