using System.Diagnostics;
using Testbed.Core;
using Testbed.Uffd.Interop;
using static Testbed.Uffd.Interop.Native.Nr;

namespace Testbed.Uffd;

/// <summary>Whether something is there.</summary>
public enum CapabilityStatus
{
    /// <summary>It is there and was seen to work.</summary>
    Available,

    /// <summary>It works in part, or something slower takes its place.</summary>
    Limited,

    /// <summary>It is not there.</summary>
    Missing,
}

/// <summary>One thing that a host can do, or not.</summary>
/// <param name="Name">What it is.</param>
/// <param name="Status">Whether it is there.</param>
/// <param name="Detail">What was found, in one line.</param>
/// <param name="Remedy">What to do about it, in one line; empty when nothing is to be done.</param>
/// <param name="CaptureNeedsIt">Whether a capture in place is impossible without.</param>
public sealed record HostCapability(string Name, CapabilityStatus Status, string Detail, string Remedy, bool CaptureNeedsIt);

/// <summary>Finds out by trying what this host and this user can do.</summary>
public static class HostCapabilities
{
    private static readonly string[] FeatureNames =
    [
        "PAGEFAULT_FLAG_WP", "EVENT_FORK", "EVENT_REMAP", "EVENT_REMOVE", "MISSING_HUGETLBFS", "MISSING_SHMEM", "EVENT_UNMAP", "SIGBUS",
        "THREAD_ID", "MINOR_HUGETLBFS", "MINOR_SHMEM", "EXACT_ADDRESS", "WP_HUGETLBFS_SHMEM", "WP_UNPOPULATED", "POISON", "WP_ASYNC", "MOVE",
    ];

    /// <summary>Tries everything. A program (sleep) is started for the purpose, and ended.</summary>
    /// <param name="criu">Where CRIU is; null: nowhere.</param>
    /// <param name="criuSetUp">What to type to install CRIU.</param>
    /// <param name="pipeBytes">What fs.pipe-max-size has to be for CRIU's page server.</param>
    public static IReadOnlyList<HostCapability> Probe(string? criu, string criuSetUp, long pipeBytes) =>
    [
        Userfaultfd(out ulong features), Device(), Features(features), .. Tracing(), PagemapScan(), PipePages(), PipeSize(pipeBytes), Criu(criu, criuSetUp),
    ];

    /// <summary>Why this host cannot capture a process in place, in one line; null when it can.</summary>
    public static string? WhyNoCapture(IEnumerable<HostCapability> capabilities) =>
        capabilities.FirstOrDefault(c => c.CaptureNeedsIt && c.Status == CapabilityStatus.Missing) is { } missing
            ? $"{missing.Name}: {missing.Detail}; {missing.Remedy}"
            : null;

    private static HostCapability Userfaultfd(out ulong features)
    {
        const string Name = "userfaultfd";
        features = 0;
        int fd = (int)Native.Syscall(__NR_userfaultfd, Native.Fcntl.O_CLOEXEC | Native.Fcntl.O_NONBLOCK);
        if (fd < 0)
        {
            return new HostCapability(Name, CapabilityStatus.Missing, Native.Describe(Native.Errno), Native.Errno == Native.E.ENOSYS
                ? "use a kernel with CONFIG_USERFAULTFD" : "run as root, or: sysctl -w vm.unprivileged_userfaultfd=1", true);
        }
        using UserFaultFd uffd = new(fd);
        try
        {
            features = uffd.Api(UffdFeatures.None);
            return new HostCapability(Name, CapabilityStatus.Available, "the system call works, kernel faults included", "", true);
        }
        catch (BadInputException e)
        {
            return new HostCapability(Name, CapabilityStatus.Missing, e.Message, "use Linux 5.7 or newer", true);
        }
    }

    private static HostCapability Device()
    {
        const string Path = "/dev/userfaultfd";
        int fd = Native.Open(Path, Native.Fcntl.O_RDWR | Native.Fcntl.O_CLOEXEC);
        if (fd < 0)
        {
            return new HostCapability(Path, CapabilityStatus.Limited, Native.Describe(Native.Errno),
                "to capture unprivileged processes, use Linux 6.1 or newer as root, or: sysctl -w vm.unprivileged_userfaultfd=1", false);
        }
        _ = Native.Close(fd);
        return new HostCapability(Path, CapabilityStatus.Available, "may be opened: unprivileged processes can be captured too", "", false);
    }

    private static HostCapability Features(ulong features)
    {
        const string Name = "userfaultfd features";
        ulong missing = (ulong)UffdFeatures.Process & ~features;
        return missing == 0
            ? new HostCapability(Name, CapabilityStatus.Available, NamesOf(features), "", true)
            : new HostCapability(Name, CapabilityStatus.Missing, $"without {NamesOf(missing)}", "use Linux 4.14 or newer with userfaultfd", true);
    }

    private static string NamesOf(ulong features) =>
        string.Join(' ', Enumerable.Range(0, 64).Where(bit => (features >> bit & 1) != 0).Select(bit => bit < FeatureNames.Length ? FeatureNames[bit] : $"bit{bit}"));

    /// <summary>A program of our own is stopped, read and let go, as a target would be.</summary>
    private static IEnumerable<HostCapability> Tracing()
    {
        const string Permit = "run as root, or allow CAP_SYS_PTRACE in this container";
        using LaunchedProgram program = LaunchedProgram.Start("sleep", ["60"]);
        try
        {
            yield return Try("ptrace", Permit, () =>
            {
                using TracedProcess stopped = TracedProcess.Seize(program.Pid);
                long pid = stopped.Inject(ProcMaps.Read(program.Pid), calls => calls.Call(__NR_getpid));
                return pid > 0 ? "a process was stopped, made a system call for us, and went on" : throw new BadInputException(Native.Describe((int)-pid));
            });
            yield return Try("pidfd_getfd", Permit + "; Linux 5.6 or newer", () =>
            {
                using PidFd target = new(program.Pid);
                int fd = target.Get(2);
                if (fd < 0)
                    throw new BadInputException(Native.Describe(-fd));
                _ = Native.Close(fd);
                return "a descriptor of another process was taken";
            });
            yield return Try("process_vm_readv", Permit, () => ReadOtherProcess(program.Pid));
        }
        finally
        {
            program.Kill();
            program.WaitForExit(TimeSpan.FromSeconds(5));
        }
    }

    private static unsafe string ReadOtherProcess(int pid)
    {
        ulong address = ProcMaps.Read(pid).First(m => (m.Protection & 1) != 0).Range.Start.Address, word;
        Native.IoVec local = new() { iov_base = (ulong)&word, iov_len = sizeof(ulong) }, remote = new() { iov_base = address, iov_len = sizeof(ulong) };
        if (Native.ProcessVmReadv(pid, &local, 1, &remote, 1, 0) != sizeof(ulong))
            throw new BadInputException(Native.Describe(Native.Errno));
        return "memory of another process was read";
    }

    private static HostCapability Try(string name, string remedy, Func<string> attempt)
    {
        try
        {
            return new HostCapability(name, CapabilityStatus.Available, attempt(), "", true);
        }
        catch (Exception e) when (e is BadInputException or TargetGoneException or InvalidOperationException)
        {
            return new HostCapability(name, CapabilityStatus.Missing, e.Message, remedy, true);
        }
    }

    private static HostCapability PagemapScan()
    {
        const string Name = "PAGEMAP_SCAN";
        int fd = Native.Open("/proc/self/pagemap", Native.Fcntl.O_RDONLY | Native.Fcntl.O_CLOEXEC);
        if (fd < 0)
            return new HostCapability(Name, CapabilityStatus.Missing, $"/proc/self/pagemap: {Native.Describe(Native.Errno)}", "use a kernel with CONFIG_PROC_PAGE_MONITOR", true);
        bool known = Pagemap.IsScanKnown(fd);
        _ = Native.Close(fd);
        return known
            ? new HostCapability(Name, CapabilityStatus.Available, "present pages and zero pages are told apart by the kernel", "", true)
            : new HostCapability(Name, CapabilityStatus.Limited, "unknown here; /proc/PID/pagemap is read instead", "nothing needs it; Linux 6.7 or newer has it", true);
    }

    private static HostCapability PipePages()
    {
        const string Name = "fs.pipe-user-pages-soft", Path = "/proc/sys/fs/pipe-user-pages-soft";
        if (ReadNumber(Path) is not { } pages)
            return new HostCapability(Name, CapabilityStatus.Limited, $"{Path} cannot be read", "mount /proc", false);
        bool unlimited = pages == 0 || HasCapability(CapSysResource);
        return new HostCapability(Name, unlimited ? CapabilityStatus.Available : CapabilityStatus.Limited,
            $"{pages} pages{(unlimited ? "" : ", and no CAP_SYS_RESOURCE: criu dump fails in tee with EPERM")}",
            unlimited ? "" : "for CRIU: sysctl -w fs.pipe-user-pages-soft=0; testbed migrate does so while it runs", false);
    }

    private static HostCapability PipeSize(long wanted)
    {
        const string Name = "fs.pipe-max-size";
        if (ReadNumber("/proc/sys/fs/pipe-max-size") is not { } bytes)
            return new HostCapability(Name, CapabilityStatus.Limited, "cannot be read", "mount /proc", false);
        return bytes >= wanted || HasCapability(CapSysResource)
            ? new HostCapability(Name, CapabilityStatus.Available, $"{bytes} bytes", "", false)
            : new HostCapability(Name, CapabilityStatus.Limited,
                $"{bytes} bytes, and no CAP_SYS_RESOURCE: CRIU's page server and its dump --lazy-pages fail (\"splice: Bad file descriptor\")",
                $"for CRIU: sysctl -w {Name}={wanted}; testbed migrate does so while it runs", false);
    }

    // Who has it is held to no limit on pipes.
    private const int CapSysResource = 24;

    private static long? ReadNumber(string path) => long.TryParse(ProcessInfo.ReadText(path)?.Trim(), out long n) ? n : null;

    internal static bool HasCapability(int number)
    {
        string? line = ProcessInfo.ReadText("/proc/self/status")?.Split('\n').FirstOrDefault(l => l.StartsWith("CapEff:", StringComparison.Ordinal));
        return line is not null && (Convert.ToUInt64(line[7..].Trim(), 16) >> number & 1) != 0;
    }

    private static HostCapability Criu(string? program, string setUp)
    {
        const string Name = "CRIU";
        string remedy = $"only live migration with CRIU needs it: {setUp}, or name one of 4.2 or newer in the variable TESTBED_CRIU";
        if (program is null)
            return new HostCapability(Name, CapabilityStatus.Missing, "criu is not installed", remedy, false);
        try
        {
            ProcessStartInfo start = new(program, ["--version"]) { RedirectStandardOutput = true, RedirectStandardError = true };
            using Process criu = Process.Start(start)!;
            string output = criu.StandardOutput.ReadToEnd();
            criu.WaitForExit();
            // Version: 4.2.1
            string text = output.Split('\n').FirstOrDefault(l => l.StartsWith("Version:", StringComparison.Ordinal))?[8..].Trim() ?? "";
            if (!Version.TryParse(text.Contains('.', StringComparison.Ordinal) ? text : text + ".0", out Version? version))
                return new HostCapability(Name, CapabilityStatus.Missing, $"{program} --version says nothing of a version", remedy, false);
            return version >= new Version(4, 2)
                ? new HostCapability(Name, CapabilityStatus.Available, $"{program} {text}", "", false)
                : new HostCapability(Name, CapabilityStatus.Limited, $"{program} {text}", "versions before 4.2 speak another page-server protocol and fail on kernels from 6.16 on: install 4.2 or newer", false);
        }
        catch (System.ComponentModel.Win32Exception)
        {
            return new HostCapability(Name, CapabilityStatus.Missing, $"{program} is not installed", remedy, false);
        }
    }
}
