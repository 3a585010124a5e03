using System.Runtime.InteropServices;
using Testbed.Core;
using Testbed.Uffd.Interop;

namespace Testbed.Uffd;

/// <summary>What a message from the kernel is about.</summary>
public enum UffdEvent : byte
{
    /// <summary>A thread touched a missing page and waits.</summary>
    PageFault = Native.UffdH.UFFD_EVENT_PAGEFAULT,

    /// <summary>The process forked; the child's memory has a descriptor of its own.</summary>
    Fork = Native.UffdH.UFFD_EVENT_FORK,

    /// <summary>mremap moved an area.</summary>
    Remap = Native.UffdH.UFFD_EVENT_REMAP,

    /// <summary>madvise(MADV_DONTNEED and the like) is about to drop pages.</summary>
    Remove = Native.UffdH.UFFD_EVENT_REMOVE,

    /// <summary>munmap is about to drop an area.</summary>
    Unmap = Native.UffdH.UFFD_EVENT_UNMAP,
}

/// <summary>
/// One message read from a userfaultfd, laid out as the kernel writes it (struct uffd_msg, 32 bytes). Which properties
/// hold a value depends on <see cref="Event"/>.
/// </summary>
[StructLayout(LayoutKind.Explicit, Size = 32)]
[KernelStruct("struct uffd_msg", "linux/userfaultfd.h")]
public readonly struct UffdMessage
{
    [FieldOffset(0), KernelField("event")] private readonly byte _event;
    [FieldOffset(8), KernelField("arg.pagefault.flags")] private readonly ulong _flags;
    [FieldOffset(16), KernelField("arg.pagefault.address")] private readonly ulong _address;
    [FieldOffset(24), KernelField("arg.pagefault.feat.ptid")] private readonly uint _thread;
    [FieldOffset(8), KernelField("arg.fork.ufd")] private readonly uint _fork;
    [FieldOffset(8), KernelField("arg.remap.from")] private readonly ulong _from;
    [FieldOffset(16), KernelField("arg.remap.to")] private readonly ulong _to;
    [FieldOffset(24), KernelField("arg.remap.len")] private readonly ulong _length;
    [FieldOffset(8), KernelField("arg.remove.start")] private readonly ulong _start;
    [FieldOffset(16), KernelField("arg.remove.end")] private readonly ulong _end;

    /// <summary>A message of our own making, in the kernel's words: pages were dropped that it tells nobody
    /// about.</summary>
    internal static UffdMessage Removed(PageRange range) => new((byte)UffdEvent.Remove, range.Start.Address, range.End.Address);

    /// <summary>A note of our own, which no kernel sends, for the journal.</summary>
    internal UffdMessage(byte kind, ulong first, ulong second)
    {
        this = default;
        (_event, _start, _end) = (kind, first, second);
    }

    /// <summary>The numbers of a note.</summary>
    internal (ulong First, ulong Second) Numbers => (_start, _end);

    /// <summary>What the message is about.</summary>
    public UffdEvent Event => (UffdEvent)_event;

    /// <summary>PageFault: the page.</summary>
    public PageNumber Page => PageNumber.Of(_address);

    /// <summary>PageFault: the address; only the page is exact unless EXACT_ADDRESS was asked for.</summary>
    public ulong Address => _address;

    /// <summary>PageFault: whether it was a store. A load may come first and the store then needs no second fault.</summary>
    public Access Access => (_flags & Native.UffdH.UFFD_PAGEFAULT_FLAG_WRITE) != 0 ? Access.Write : Access.Read;

    /// <summary>PageFault: whether the page is present but write-protected.</summary>
    public bool IsWriteProtect => (_flags & Native.UffdH.UFFD_PAGEFAULT_FLAG_WP) != 0;

    /// <summary>PageFault: whether the page is in the page cache and only not mapped.</summary>
    public bool IsMinor => (_flags & Native.UffdH.UFFD_PAGEFAULT_FLAG_MINOR) != 0;

    /// <summary>PageFault: the thread, by its id in the pid namespace of the target; 0 without THREAD_ID.</summary>
    public int Thread => (int)_thread;

    /// <summary>Fork: the descriptor of the child's memory, now open in this process. Who reads the message owns it.</summary>
    public int ForkedFd => (int)_fork;

    /// <summary>Remap: where the area was, with its length when it was moved.</summary>
    public PageRange From => new(PageNumber.Of(_from), (long)(_length >> PageNumber.Shift));

    /// <summary>Remap: where the area is now.</summary>
    public PageRange To => new(PageNumber.Of(_to), (long)(_length >> PageNumber.Shift));

    /// <summary>Remove and Unmap: the pages that go.</summary>
    public PageRange Range => PageRange.Between(PageNumber.Of(_start), PageNumber.Of(_end));
}
