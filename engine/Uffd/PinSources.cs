using Testbed.Core;

namespace Testbed.Uffd;

/// <summary>
/// Ways by which the kernel or a device may still write to a stopped process's memory by physical address. Pages are
/// moved away in a
/// manner that a pinned page resists; this is for the pages that cannot be moved.
/// </summary>
internal static class PinSources
{
    /// <summary>Names under /dev that pin no memory of their users, or only while a thread is inside a system
    /// call.</summary>
    private static readonly string[] Harmless =
    [
        "null", "zero", "full", "random", "urandom", "tty", "pts/", "ptmx", "console", "kmsg", "log", "shm/", "mqueue/", "fuse", "net/tun",
        "userfaultfd", "rtc", "hpet", "watchdog", "loop", "sd", "sr", "nvme", "vd", "xvd", "dm-", "mapper/", "md", "zram", "nbd", "mmcblk", "ram",
    ];

    /// <summary>The first one that a process has, in words; null when there is none that shows.</summary>
    public static string? Find(int pid, IEnumerable<Mapping> mappings)
    {
        // The ring of io_setup is a mapping of this name, and there is no descriptor.
        if (mappings.Any(m => m.Name.StartsWith("/[aio]", StringComparison.Ordinal)))
            return "asynchronous I/O (io_setup)";
        try
        {
            foreach (string fd in Directory.EnumerateFileSystemEntries($"/proc/{pid}/fd"))
            {
                if (NameOf(fd) is { } name && Describe(name) is { } source)
                    return source;
            }
            return null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return "descriptors that cannot be read";
        }
    }

    private static string? NameOf(string fd)
    {
        try
        {
            return new FileInfo(fd).LinkTarget;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    private static string? Describe(string name)
    {
        const string Devices = "/dev/";
        if (name.Contains("[io_uring]", StringComparison.Ordinal))
            return "an io_uring";
        bool isDevice = name.StartsWith(Devices, StringComparison.Ordinal)
            && !Harmless.Any(harmless => name.AsSpan(Devices.Length).StartsWith(harmless, StringComparison.Ordinal));
        return isDevice ? $"a device ({name})" : null;
    }
}
