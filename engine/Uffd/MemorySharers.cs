using Testbed.Uffd.Interop;

namespace Testbed.Uffd;

/// <summary>
/// Finds processes that have the same memory as another one without being threads of it: children of clone with
/// CLONE_VM, and those of vfork and posix_spawn until they call exec. Stopping a process does not stop them. Only a
/// running task that has the memory can add one, so a search while all that are known stand still is final.
/// </summary>
internal static class MemorySharers
{
    /// <summary>The first process that has the memory of a thread of <paramref name="pid"/>, or null.</summary>
    /// <param name="pid">The process.</param>
    /// <param name="tid">One of its threads that has not ended.</param>
    /// <param name="expected">Processes that may have it.</param>
    public static int? Find(int pid, int tid, IReadOnlySet<int> expected)
    {
        foreach (string path in Directory.EnumerateDirectories("/proc"))
        {
            if (!int.TryParse(Path.GetFileName(path), out int other) || other == pid || expected.Contains(other))
                continue;
            if (Share(tid, other))
                return other;
            // A first thread that has ended has no memory any more; the others have.
            if (ProcessInfo.ThreadState(other, other) == 'Z'
                && ProcessInfo.ThreadIds(other).Any(thread => thread != other && Share(tid, thread)))
                return other;
        }
        return null;
    }

    private static bool Share(int tid, int other)
    {
        long result = Native.Syscall(Native.Nr.__NR_kcmp, tid, other, Native.Kcmp.KCMP_VM);
        if (result >= 0 || Native.Errno is not (Native.E.EPERM or Native.E.ENOSYS))
            return result == 0;
        // A process of another user, or a kernel without kcmp. Then the numbers of its memory tell: the same memory has
        // the same.
        return MemoryNumbers(tid) is { Length: > 0 } numbers && MemoryNumbers(other) == numbers;
    }

    private static string MemoryNumbers(int tid) =>
        string.Join('\n', (ProcessInfo.ReadText($"/proc/{tid}/status") ?? "").Split('\n').Where(IsMemoryNumber));

    private static bool IsMemoryNumber(string line) =>
        line.StartsWith("Vm", StringComparison.Ordinal) || line.StartsWith("Rss", StringComparison.Ordinal);
}
