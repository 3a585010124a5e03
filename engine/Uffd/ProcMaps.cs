using System.Globalization;
using Testbed.Core;
using Testbed.PageXfer.Images;

namespace Testbed.Uffd;

/// <summary>One mapping of a process, from /proc/PID/smaps.</summary>
/// <param name="Range">Its pages.</param>
/// <param name="Protection">PROT_READ 1, PROT_WRITE 2, PROT_EXEC 4, or'ed.</param>
/// <param name="IsShared">Whether writes are seen by others.</param>
/// <param name="Offset">The byte in the file where it begins.</param>
/// <param name="Device">The file's device, major * 2^20 + minor; 0 for anonymous memory.</param>
/// <param name="Inode">The file's inode; 0 for anonymous memory.</param>
/// <param name="Name">The file, or a name in brackets, or empty.</param>
/// <param name="Flags">The two-letter flags of the line VmFlags, space separated, with a space at both ends.</param>
/// <param name="ResidentBytes">How much of it is present.</param>
/// <param name="SwappedBytes">How much of it is in swap.</param>
public sealed record Mapping(
    PageRange Range, int Protection, bool IsShared, long Offset, long Device, long Inode, string Name, string Flags,
    long ResidentBytes, long SwappedBytes)
{
    /// <summary>Private memory without a file.</summary>
    public bool IsPrivateAnonymous => !IsShared && Inode == 0 && Device == 0;

    /// <summary>Whether the line VmFlags has this flag.</summary>
    public bool Has(string flag) => Flags.Contains($" {flag} ", StringComparison.Ordinal);

    /// <summary>mlock'ed memory: MADV_DONTNEED leaves it alone.</summary>
    public bool IsLocked => Has("lo");

    /// <summary>Whether a userfaultfd has it, for missing pages.</summary>
    public bool IsUffdRegistered => Has("um");

    /// <summary>Whether it grows down, as stacks do.</summary>
    public bool GrowsDown => Has("gd");

    /// <summary>The same in the words of an image of the address space.</summary>
    public VmaEntry ToVma() => ProcessImages.NewArea(Range, Protection, !IsShared, Inode != 0, (ulong)Offset, Name);
}

/// <summary>Which areas of a process are taken.</summary>
public enum RegionSelection
{
    /// <summary>[heap] alone: what brk gave.</summary>
    Heap,

    /// <summary>[heap] and all private anonymous mappings, stacks of threads other than the first included (the usual choice).</summary>
    Anon,

    /// <summary>The same, and the stack of the first thread.</summary>
    All,
}

/// <summary>A mapping that belongs to the selection but is left alone, and why.</summary>
public readonly record struct SkippedMapping(Mapping Mapping, string Reason);

/// <summary>Reads and chooses mappings.</summary>
public static class ProcMaps
{
    /// <summary>All mappings of a process, by address.</summary>
    /// <exception cref="BadInputException">The process is gone, or may not be inspected.</exception>
    public static IReadOnlyList<Mapping> Read(int pid)
    {
        List<Mapping> mappings = [];
        try
        {
            // smaps, because only there are the flags of each mapping.
            using StreamReader reader = new($"/proc/{pid}/smaps");
            Parse(reader, mappings);
        }
        catch (UnauthorizedAccessException)
        {
            throw new BadInputException($"process {pid}: its memory map may not be read; run as its user or as root");
        }
        catch (IOException)
        {
            throw ProcessInfo.NoSuchProcess(pid);
        }
        return mappings;
    }

    internal static void Parse(TextReader reader, List<Mapping> mappings)
    {
        Mapping? current = null;
        while (reader.ReadLine() is { } line)
        {
            // A header begins with a lower-case hexadecimal address, everything else with an upper-case letter.
            if (line.Length > 0 && !char.IsAsciiLetterUpper(line[0]))
            {
                if (current is not null)
                    mappings.Add(current);
                current = ParseHeader(line);
            }
            else if (current is not null)
            {
                if (line.StartsWith("VmFlags:", StringComparison.Ordinal))
                    current = current with { Flags = " " + line[8..].Trim() + " " };
                else if (line.StartsWith("Rss:", StringComparison.Ordinal))
                    current = current with { ResidentBytes = Kilobytes(line) };
                else if (line.StartsWith("Private_Hugetlb:", StringComparison.Ordinal) || line.StartsWith("Shared_Hugetlb:", StringComparison.Ordinal))
                    // Rss leaves them out.
                    current = current with { ResidentBytes = current.ResidentBytes + Kilobytes(line) };
                else if (line.StartsWith("Swap:", StringComparison.Ordinal))
                    current = current with { SwappedBytes = Kilobytes(line) };
            }
        }
        if (current is not null)
            mappings.Add(current);
    }

    private static long Kilobytes(string line) =>
        long.Parse(line.AsSpan(line.IndexOf(':', StringComparison.Ordinal) + 1).Trim().TrimEnd(" kB"), CultureInfo.InvariantCulture) * 1024;

    private static Mapping ParseHeader(string line)
    {
        // 7f3c00000000-7f3c00021000 rw-p 00000000 00:00 0    [anon: name]
        string[] fields = line.Split(' ', 6, StringSplitOptions.RemoveEmptyEntries);
        string[] ends = fields[0].Split('-');
        string[] device = fields[3].Split(':');
        string modes = fields[1];
        return new Mapping(
            PageRange.Between(PageNumber.Of(Hex(ends[0])), PageNumber.Of(Hex(ends[1]))),
            (modes[0] == 'r' ? 1 : 0) | (modes[1] == 'w' ? 2 : 0) | (modes[2] == 'x' ? 4 : 0),
            modes[3] != 'p',
            (long)Hex(fields[2]),
            ((long)Hex(device[0]) << 20) | (long)Hex(device[1]),
            long.Parse(fields[4]),
            fields.Length > 5 ? fields[5].TrimStart() : "",
            " ", 0, 0);
    }

    private static ulong Hex(string text) => ulong.Parse(text, NumberStyles.HexNumber);

    /// <summary>The mappings to capture. Those that must stay are named in <paramref name="skipped"/>.</summary>
    public static IReadOnlyList<Mapping> Select(IReadOnlyList<Mapping> mappings, RegionSelection selection, ICollection<SkippedMapping> skipped)
    {
        List<Mapping> chosen = [];
        foreach (Mapping mapping in mappings)
        {
            if (!mapping.IsPrivateAnonymous || !IsSelected(mapping, selection))
                continue;
            if (WhyNot(mapping) is { } reason)
                skipped.Add(new SkippedMapping(mapping, reason));
            else if (mapping.ResidentBytes + mapping.SwappedBytes > 0 || mapping.Protection != 0)
                chosen.Add(mapping);
            // What is left is address space held back without access: there is nothing in it to restore.
        }
        return chosen;
    }

    private static bool IsSelected(Mapping mapping, RegionSelection selection) => mapping.Name switch
    {
        "[heap]" => true,
        "[stack]" => selection == RegionSelection.All,
        "" => selection != RegionSelection.Heap,
        // [anon:name] is an ordinary mapping that the program gave a name; [vvar], [vdso] and the like are the kernel's.
        _ => selection != RegionSelection.Heap && mapping.Name.StartsWith("[anon:", StringComparison.Ordinal),
    };

    private static bool HasUserFaultFd(Mapping mapping) => mapping.Has("um") || mapping.Has("uw") || mapping.Has("ui");

    /// <summary>Whether one of the mappings that are left alone is so because another userfaultfd has it.</summary>
    internal static bool IsTakenByAnother(IEnumerable<SkippedMapping> skipped) =>
        skipped.Any(s => HasUserFaultFd(s.Mapping));

    private static string? WhyNot(Mapping mapping) => mapping switch
    {
        _ when mapping.Has("io") || mapping.Has("pf") => "device memory",
        _ when mapping.Has("ht") => "huge pages of hugetlbfs",
        _ when HasUserFaultFd(mapping) => "another userfaultfd has it (another recorder's, or the program's own)",
        _ when mapping.Has("ss") => "shadow stack",
        _ when mapping.Has("sl") => "sealed against change",
        _ when mapping.Has("dp") => "droppable",
        _ => null,
    };
}
