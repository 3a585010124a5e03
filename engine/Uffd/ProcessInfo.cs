using System.Globalization;
using System.Text;
using Testbed.Core;

namespace Testbed.Uffd;

/// <summary>One thread of a process.</summary>
/// <param name="Tid">Its id here.</param>
/// <param name="NamespaceTid">Its id in its own pid namespace: what fault messages name it by.</param>
/// <param name="Name">Its name, as in /proc/PID/task/TID/comm.</param>
public readonly record struct ThreadInfo(int Tid, int NamespaceTid, string Name);

/// <summary>What /proc tells about a process, as of one moment.</summary>
public sealed record ProcessInfo
{
    /// <summary>The process.</summary>
    public required int Pid { get; init; }

    /// <summary>Its parent.</summary>
    public required int ParentPid { get; init; }

    /// <summary>Its name, at most 15 bytes.</summary>
    public required string Name { get; init; }

    /// <summary>One letter: R running, S sleeping, D waiting for a device, T stopped, t traced, Z zombie, X dead, I idle kernel thread.</summary>
    public required char State { get; init; }

    /// <summary>The real user id.</summary>
    public required int Uid { get; init; }

    /// <summary>The process that traces it, or 0.</summary>
    public required int TracerPid { get; init; }

    /// <summary>Memory pinned for devices or io_uring, in bytes; it cannot be evicted.</summary>
    public required long PinnedBytes { get; init; }

    /// <summary>Resident memory, in bytes.</summary>
    public required long ResidentBytes { get; init; }

    /// <summary>Whether it has memory of its own; kernel threads and zombies have none.</summary>
    public required bool HasMemory { get; init; }

    /// <summary>The command line, argument by argument; empty for a kernel thread.</summary>
    public required IReadOnlyList<string> CommandLine { get; init; }

    /// <summary>The program, or empty when it cannot be read.</summary>
    public required string Executable { get; init; }

    /// <summary>When it started, in clock ticks since boot: with the pid, it names one process for ever.</summary>
    public required long StartTime { get; init; }

    /// <summary>Reads /proc for one process.</summary>
    /// <exception cref="BadInputException">There is no such process.</exception>
    public static ProcessInfo Read(int pid)
    {
        Dictionary<string, string> status = ReadStatus($"/proc/{pid}/status") ?? throw NoSuchProcess(pid);
        string root = $"/proc/{pid}";
        return new ProcessInfo
        {
            Pid = pid,
            ParentPid = (int)Number(status, "PPid"),
            Name = status.GetValueOrDefault("Name", ""),
            State = status.GetValueOrDefault("State", "?")[0],
            Uid = (int)Number(status, "Uid"),
            TracerPid = ProcessOf((int)Number(status, "TracerPid")),
            PinnedBytes = Number(status, "VmPin") * 1024,
            ResidentBytes = Number(status, "VmRSS") * 1024,
            HasMemory = status.ContainsKey("VmSize"),
            CommandLine = (ReadText(root + "/cmdline") ?? "").TrimEnd('\0').Split('\0', StringSplitOptions.RemoveEmptyEntries),
            Executable = LinkTarget(root + "/exe"),
            StartTime = StartTimeOf(pid) ?? throw NoSuchProcess(pid),
        };
    }

    /// <summary>The threads at this moment, by tid; empty when the process is gone.</summary>
    public static IReadOnlyList<ThreadInfo> ReadThreads(int pid)
    {
        List<ThreadInfo> threads = [];
        foreach (int tid in ThreadIds(pid))
        {
            if (ReadStatus($"/proc/{pid}/task/{tid}/status") is not { } status)
                continue;
            string inner = status.GetValueOrDefault("NSpid", "").Split('\t', ' ')[^1];
            threads.Add(new ThreadInfo(tid, int.TryParse(inner, out int n) ? n : tid, status.GetValueOrDefault("Name", "")));
        }
        return threads;
    }

    /// <summary>The ids of the threads at this moment, ascending; empty when the process is gone.</summary>
    public static IReadOnlyList<int> ThreadIds(int pid)
    {
        try
        {
            return [.. Directory.EnumerateDirectories($"/proc/{pid}/task").Select(path => int.Parse(Path.GetFileName(path))).Order()];
        }
        catch (IOException)
        {
            return [];
        }
    }

    /// <summary>The processes that a thread forked and that still are its children; none when it is gone.</summary>
    internal static IEnumerable<int> Children(int pid, int tid) =>
        (ReadText($"/proc/{pid}/task/{tid}/children") ?? "").Split(' ', StringSplitOptions.RemoveEmptyEntries).Select(int.Parse);

    /// <summary>The state letter of one thread, or null when it is gone.</summary>
    internal static char? ThreadState(int pid, int tid) =>
        ReadText($"/proc/{pid}/task/{tid}/stat") is { } stat && stat.LastIndexOf(')') is var i and > 0 ? stat[i + 2] : null;

    /// <summary>Whether one thread is gone, has ended, or is on its way: it was killed, or called exit.</summary>
    internal static bool IsThreadDying(int pid, int tid)
    {
        const long Exiting = 0x4, Signaled = 0x400; // PF_EXITING, PF_SIGNALED in include/linux/sched.h
        string? stat = ReadText($"/proc/{pid}/task/{tid}/stat");
        if (stat is null || stat.LastIndexOf(')') is not (var close and > 0))
            return true;
        string[] fields = stat[(close + 2)..].Split(' ');
        return fields[0] is "Z" or "X"
            || (long.Parse(fields[6]) & (Exiting | Signaled)) != 0
            || IsKillPending(pid, tid);
    }

    private static bool IsKillPending(int pid, int tid)
    {
        const ulong Kill = 1ul << (Interop.Native.Signal.SIGKILL - 1);
        return ReadStatus($"/proc/{pid}/task/{tid}/status") is { } status
            && ((Pending(status, "SigPnd") | Pending(status, "ShdPnd")) & Kill) != 0;
    }

    private static ulong Pending(Dictionary<string, string> status, string name) =>
        ulong.TryParse(status.GetValueOrDefault(name), NumberStyles.HexNumber, null, out ulong signals) ? signals : 0;

    /// <summary>
    /// Whether all threads of the process are dying. A large one takes its time to give its memory back.
    /// </summary>
    internal static bool IsDying(int pid) => ThreadIds(pid).All(tid => IsThreadDying(pid, tid));

    /// <summary>
    /// How often a thread gave up the processor or lost it: as long as that grows, it gets somewhere.
    /// </summary>
    internal static long Switches(int pid, int tid) => ReadStatus($"/proc/{pid}/task/{tid}/status") is { } status
        ? Number(status, "voluntary_ctxt_switches") + Number(status, "nonvoluntary_ctxt_switches")
        : 0;

    /// <summary>Whether seccomp checks the system calls of one thread: threads may differ.</summary>
    internal static bool HasThreadSeccomp(int pid, int tid) =>
        ReadStatus($"/proc/{pid}/task/{tid}/status") is { } status && Number(status, "Seccomp") != 0;

    /// <summary>The process that traces one thread, or 0.</summary>
    internal static int TracerOf(int pid, int tid) =>
        ReadStatus($"/proc/{pid}/task/{tid}/status") is { } status ? ProcessOf((int)Number(status, "TracerPid")) : 0;

    /// <summary>Whether the process of this pid and start time still has its threads; a zombie has none.</summary>
    public static bool IsRunning(int pid, long startTime) =>
        StartTimeOf(pid) == startTime && ThreadIds(pid).Any(tid => ThreadState(pid, tid) is not (null or 'Z' or 'X'));

    /// <summary>The start time of a process, or null when it is gone.</summary>
    internal static long? StartTimeOf(int pid) => StatField(pid, 22);

    /// <summary>
    /// Whether a thread is one of the kernel's that lives in the process (of io_uring, of vhost): it never returns to user mode, so it calls
    /// nothing for us.
    /// </summary>
    internal static bool IsKernelWorker(int pid, int tid)
    {
        const long IoWorker = 0x10, UserWorker = 0x4000; // PF_IO_WORKER and PF_USER_WORKER of include/linux/sched.h
        string? stat = ReadText($"/proc/{pid}/task/{tid}/stat");
        return stat is not null && stat.LastIndexOf(')') is var close and > 0
            && (long.Parse(stat[(close + 2)..].Split(' ')[6]) & (IoWorker | UserWorker)) != 0;
    }

    /// <summary>Whether a stack pointer is near the beginning of the stack that the kernel made for a process.</summary>
    internal static bool IsOnFirstStack(int pid, ulong stackPointer)
    {
        const ulong StackBytesMax = 64 << 20;
        ulong start = (ulong)(StatField(pid, 28) ?? 0);
        return stackPointer < start && start - stackPointer < StackBytesMax;
    }

    /// <summary>The parent of a process, or null when it is gone.</summary>
    internal static long? ReadParent(int pid) => StatField(pid, 4);

    private static long? StatField(int pid, int number)
    {
        // The name in parentheses may hold anything, so fields are counted from its end: what follows it is field 3.
        string? stat = ReadText($"/proc/{pid}/stat");
        if (stat is null || stat.LastIndexOf(')') is not (var close and > 0))
            return null;
        return long.Parse(stat[(close + 2)..].Split(' ')[number - 3]);
    }

    /// <summary>
    /// Whether it can be captured in place at all, as far as /proc tells; the refusals that only an attempt shows come later.
    /// </summary>
    /// <exception cref="BadInputException">It cannot, and why not.</exception>
    public void EnsureCapturable()
    {
        string who = $"process {Pid} ({Name})";
        if (State == 'Z' && ThreadIds(Pid).Any(tid => ThreadState(Pid, tid) is not (null or 'Z' or 'X')))
            throw new BadInputException($"{who}: its first thread has ended (pthread_exit) while others run, and /proc shows its memory no more; a process with its first thread is expected");
        if (State is 'Z' or 'X')
            throw new BadInputException($"{who}: has exited and is a zombie; a running process is expected");
        if (!HasMemory && IsDying(Pid))
            throw new BadInputException($"{who}: is exiting; a running process is expected");
        if (!HasMemory)
            throw new BadInputException($"{who}: is a kernel thread without memory of its own; a user process is expected");
        if (Pid == Environment.ProcessId)
            throw new BadInputException($"{who}: is this program itself; another process is expected");
        if (CgroupFreezer.WhyFrozen(Pid) is { } frozen)
            throw new BadInputException($"{who}: {frozen}");
        if (TracerPid != 0)
            throw new BadInputException($"{who}: is already traced by process {TracerPid} ({NameOf(TracerPid)}); detach that tracer first");
        if (!Is64Bit(who))
            throw new BadInputException($"{who}: is a 32-bit program; a 64-bit x86 process is expected");
        if (PinnedBytes > 0)
            throw new BadInputException($"{who}: has {PinnedBytes >> 10} KiB of pinned memory (VmPin), which cannot be evicted; a process without is expected");
    }

    private bool Is64Bit(string who)
    {
        try
        {
            using FileStream file = File.OpenRead($"/proc/{Pid}/exe");
            Span<byte> ident = stackalloc byte[5];
            return file.ReadAtLeast(ident, 5, false) < 5 || ident[4] != 1;
        }
        catch (UnauthorizedAccessException)
        {
            throw new BadInputException($"{who}: may not be inspected; {WhyNotPermitted()}");
        }
        catch (IOException)
        {
            // The program file is gone or out of reach. The threads' registers tell later.
            return true;
        }
    }

    /// <summary>What stands against tracing it, once the kernel said that it is not permitted.</summary>
    internal string WhyNotPermitted()
    {
        const int CAP_SYS_PTRACE = 19;
        bool isRoot = Environment.IsPrivilegedProcess;
        string? scope = ReadText("/proc/sys/kernel/yama/ptrace_scope")?.Trim();
        if (scope == "3")
            return "kernel.yama.ptrace_scope is 3, which forbids all tracing until the next boot";
        if (!isRoot && Uid != 0 && scope is "1" or "2")
            return $"it belongs to user {Uid}, and kernel.yama.ptrace_scope is {scope}: run as root";
        if (!isRoot)
            return $"it belongs to user {Uid} and may have more rights than this program: run as that user or as root";
        return HostCapabilities.HasCapability(CAP_SYS_PTRACE)
            ? "the kernel refuses it even to root with CAP_SYS_PTRACE: "
                + "a security module protects the process, or it belongs to an outer user namespace or container"
            : "this program runs as root, but without CAP_SYS_PTRACE, which is expected "
                + "(in a container: --cap-add SYS_PTRACE)";
    }

    internal static BadInputException NoSuchProcess(int pid) => new($"process {pid}: no such process; the pid of a running one is expected");

    /// <summary>The process of a thread: what traces is a thread.</summary>
    private static int ProcessOf(int tid) =>
        tid != 0 && ReadStatus($"/proc/{tid}/status") is { } status ? (int)Number(status, "Tgid") : tid;

    internal static string NameOf(int pid) => ReadText($"/proc/{pid}/comm")?.Trim() ?? "?";

    private static Dictionary<string, string>? ReadStatus(string path)
    {
        if (ReadText(path) is not { } text)
            return null;
        Dictionary<string, string> fields = [];
        foreach (string line in text.Split('\n'))
        {
            int colon = line.IndexOf(':', StringComparison.Ordinal);
            if (colon > 0)
                fields[line[..colon]] = line[(colon + 1)..].Trim();
        }
        return fields;
    }

    private static long Number(Dictionary<string, string> fields, string name) =>
        fields.TryGetValue(name, out string? value) && long.TryParse(value.Split('\t', ' ')[0], out long n) ? n : 0;

    /// <summary>A whole file of /proc, or null when its process is gone. (A process may go between open and read, too.)</summary>
    internal static string? ReadText(string path)
    {
        try
        {
            return File.ReadAllText(path, Encoding.UTF8);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    private static string LinkTarget(string path)
    {
        try
        {
            return File.ResolveLinkTarget(path, false)?.FullName ?? "";
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return "";
        }
    }
}
