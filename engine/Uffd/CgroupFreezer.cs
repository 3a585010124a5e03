using Testbed.Core;

namespace Testbed.Uffd;

/// <summary>
/// Tells whether the cgroup freezer (docker pause, systemctl freeze) holds a process. Its threads then run nothing,
/// neither their own code nor a call made on their behalf, until somebody thaws the group.
/// </summary>
internal static class CgroupFreezer
{
    private readonly record struct Mount(bool IsUnified, string Root, string Point);

    /// <summary>Says what holds a thread of the process, and how to let it go.</summary>
    /// <returns>Null when no thread is frozen, or the process is gone.</returns>
    public static string? WhyFrozen(int pid)
    {
        IReadOnlyList<int> threads = ProcessInfo.ThreadIds(pid);
        // Threads may be in different groups, but rarely are: each group is looked at once.
        HashSet<string> groups =
            [.. threads.Select(tid => ProcessInfo.ReadText($"/proc/{pid}/task/{tid}/cgroup") ?? "")];
        List<Mount> mounts = ReadMounts();
        foreach (string line in groups.SelectMany(text => text.Split('\n')))
        {
            if (line.Split(':', 3) is not [_, string controllers, string path])
                continue;
            bool unified = controllers.Length == 0;
            if (!unified && !controllers.Split(',').Contains("freezer"))
                continue;
            foreach (Mount mount in mounts.Where(mount => mount.IsUnified == unified))
            {
                if ((unified ? WhyFrozenUnified(mount, path) : WhyFrozenVersion1(mount, path)) is { } why)
                    return why;
            }
        }
        // The group's files may be out of sight, as they are in a container.
        return threads.Any(tid => IsHeld(pid, tid)) ? "is frozen by its cgroup; thaw it first" : null;
    }

    private static string? WhyFrozenUnified(Mount mount, string path)
    {
        if (DirectoryOf(mount, path) is not { } group)
            return null;
        string? above = group;
        for (; above is not null && above.Length >= mount.Point.Length; above = Path.GetDirectoryName(above))
        {
            if (ProcessInfo.ReadText(above + "/cgroup.freeze")?.Trim() == "1")
                return $"is frozen by the cgroup {above}; thaw it first (write 0 to its cgroup.freeze)";
        }
        // An ancestor above what is mounted here.
        return ProcessInfo.ReadText(group + "/cgroup.events")?.Split('\n').Contains("frozen 1") == true
            ? $"is frozen by an ancestor of the cgroup {group}; thaw that first"
            : null;
    }

    // A group of version 1 shows the state of its ancestors, too.
    private static string? WhyFrozenVersion1(Mount mount, string path)
    {
        if (DirectoryOf(mount, path) is not { } group)
            return null;
        return ProcessInfo.ReadText(group + "/freezer.state")?.Trim() is "FROZEN" or "FREEZING"
            ? $"is frozen by the cgroup {group}; thaw it first (write THAWED to its freezer.state)"
            : null;
    }

    private static string? DirectoryOf(Mount mount, string path)
    {
        string root = mount.Root == "/" ? "" : mount.Root;
        if (!path.StartsWith(root, StringComparison.Ordinal))
            return null;
        return (mount.Point + path[root.Length..]).TrimEnd('/');
    }

    private static List<Mount> ReadMounts()
    {
        List<Mount> mounts = [];
        foreach (string line in (ProcessInfo.ReadText("/proc/self/mountinfo") ?? "").Split('\n'))
        {
            // 41 31 0:38 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw
            string[] halves = line.Split(" - ", 2);
            if (halves.Length < 2 || halves[0].Split(' ') is not [_, _, _, string root, string point, ..])
                continue;
            string[] kind = halves[1].Split(' ');
            if (kind[0] == "cgroup2" || (kind[0] == "cgroup" && kind[^1].Split(',').Contains("freezer")))
                mounts.Add(new Mount(kind[0] == "cgroup2", root, point));
        }
        return mounts;
    }

    /// <summary>
    /// Whether a thread sleeps in the freezer, by where it is in the kernel. Of version 1 this finds only threads that
    /// were running.
    /// </summary>
    private static bool IsHeld(int pid, int tid)
    {
        string? where = ProcessInfo.ReadText($"/proc/{pid}/task/{tid}/wchan");
        // Compilers inline do_freezer_trap into get_signal, where a thread sleeps (S) for no other reason: a stopped
        // one is T or t.
        return where is "do_freezer_trap" or "__refrigerator"
            || (where == "get_signal" && ProcessInfo.ThreadState(pid, tid) == 'S');
    }
}
