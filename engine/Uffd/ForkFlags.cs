using System.Buffers;
using System.Buffers.Text;
using Testbed.Core;
using Testbed.Uffd.Interop;

namespace Testbed.Uffd;

/// <summary>
/// What fork makes of the areas of a process, read from /proc/PID/smaps. Only there does the kernel tell which areas it
/// wipes in a child
/// (MADV_WIPEONFORK, and MAP_DROPPABLE, which includes it).
/// </summary>
internal sealed class ForkFlags
{
    private static readonly SearchValues<byte> LineEnd = SearchValues.Create((byte)'\n');

    /// <summary>The areas that a child gets empty, sorted by address.</summary>
    public List<PageRange> Wiped { get; } = [];

    /// <summary>Whether any area is registered with a userfaultfd.</summary>
    public bool IsRegistered { get; private set; }

    /// <summary>Reads the flags of a process; null when it is gone or may not be inspected.</summary>
    public static unsafe ForkFlags? TryRead(int pid)
    {
        int fd = Native.Open($"/proc/{pid}/smaps", Native.Fcntl.O_RDONLY | Native.Fcntl.O_CLOEXEC);
        if (fd < 0)
            return null;
        byte[] buffer = ArrayPool<byte>.Shared.Rent(256 * 1024);
        var flags = new ForkFlags();
        PageRange area = default;
        int length = 0;
        bool any = false;
        try
        {
            while (true)
            {
                nint got;
                fixed (byte* p = buffer)
                    got = Native.Read(fd, p + length, buffer.Length - length);
                if (got <= 0)
                    return any && got == 0 ? flags : null;
                any = true;
                length += (int)got;
                int used = flags.Take(buffer.AsSpan(0, length), ref area);
                buffer.AsSpan(used, length - used).CopyTo(buffer);
                length -= used;
            }
        }
        finally
        {
            _ = Native.Close(fd);
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    /// <summary>Takes whole lines.</summary>
    /// <returns>How many bytes were whole lines.</returns>
    private int Take(ReadOnlySpan<byte> text, ref PageRange area)
    {
        int used = 0;
        while (text[used..].IndexOfAny(LineEnd) is var end and >= 0)
        {
            ReadOnlySpan<byte> line = text.Slice(used, end);
            used += end + 1;
            // A header begins with a lower-case hexadecimal address, everything else with an upper-case letter.
            if (line.Length > 0 && line[0] is (>= (byte)'0' and <= (byte)'9') or (>= (byte)'a' and <= (byte)'f'))
                area = Header(line);
            else if (line.StartsWith("VmFlags:"u8))
                Note(line[8..], area);
        }
        return used;
    }

    private void Note(ReadOnlySpan<byte> flags, PageRange area)
    {
        IsRegistered |= flags.IndexOf(" um"u8) >= 0;
        if (flags.IndexOf(" wf"u8) < 0)
            return;
        if (Wiped.Count > 0 && Wiped[^1].End == area.Start)
            Wiped[^1] = Wiped[^1] with { Count = Wiped[^1].Count + area.Count };
        else
            Wiped.Add(area);
    }

    private static PageRange Header(ReadOnlySpan<byte> line)
    {
        _ = Utf8Parser.TryParse(line, out ulong start, out int digits, 'x');
        _ = Utf8Parser.TryParse(line[(digits + 1)..], out ulong end, out _, 'x');
        return PageRange.Between(PageNumber.Of(start), PageNumber.Of(end));
    }
}
