using System.Diagnostics;
using Testbed.Core;

namespace Testbed.Uffd;

/// <summary>
/// Finds out what fork wiped in a child. A message about a fork has the child's userfaultfd and nothing else; which
/// areas the kernel left empty
/// in it (MADV_WIPEONFORK) stands in the child's own smaps alone. The kernel sends the message when it has copied the
/// memory, and lets
/// the parent go on when the message has been read: only then does the child appear in /proc, usually within 100 us.
/// Until its areas are
/// known the child is not served, so nothing of its parent's can get into it.
/// </summary>
public sealed class ForkInspector
{
    // A parent on a busy machine may not get its processor back for a while. Afterwards the parent's own flags must do.
    private static readonly TimeSpan Patience = TimeSpan.FromMilliseconds(200);

    // With more threads it costs less to look at all processes than at each thread's list of children.
    private const int FewThreads = 32;

    // No children that we look for, with their start times, for pids come back: those of the time before, those that
    // were found, and programs that
    // were started by exec.
    private readonly Dictionary<int, long> _known = [];

    /// <summary>What was found out about one child.</summary>
    /// <param name="View">What /proc shows of it.</param>
    /// <param name="Wiped">What is empty in it although the parent had content there, sorted by address.</param>
    public readonly record struct Child(ProcessView View, IReadOnlyList<PageRange> Wiped);

    /// <summary>Takes note of a process that is served: it is no child that is looked for.</summary>
    public void Know(ProcessView process) => Note(process.Pid);

    /// <summary>Takes note of the children that a process has before it is served.</summary>
    public void KnowChildren(ProcessView parent)
    {
        foreach (int child in Children(parent.Pid))
            Note(child);
    }

    /// <summary>Finds out about children, all of the same parent, whose messages were read together.</summary>
    /// <param name="parent">The parent. What is known of it is brought up to date.</param>
    /// <param name="children">Their userfaultfds.</param>
    /// <returns>One result for each, in the same order. Which of several it is is not known: each gets what any of them
    /// wants wiped.</returns>
    public IReadOnlyList<Child> Inspect(ProcessView parent, IReadOnlyList<UserFaultFd> children)
    {
        List<(int Pid, ForkFlags Flags)> found = Find(parent, children);
        List<PageRange> wiped = PageRanges.Normalize(found.SelectMany(child => child.Flags.Wiped));
        // A child may have changed its own flags since, before we looked (MADV_KEEPONFORK). What its parent had before
        // the fork and still has, it had
        // at the fork. A child that was not found is as its parent is now.
        bool isComplete = found.Count >= children.Count;
        List<PageRange> before = isComplete ? PageRanges.Subtract(parent.WipedOnFork, wiped) : [.. parent.WipedOnFork];
        if (!isComplete || before.Count > 0)
        {
            ForkFlags? now = parent.ReadFlags();
            List<PageRange> more = now is null ? before : isComplete ? PageRanges.Intersect(before, now.Wiped) : now.Wiped;
            wiped = PageRanges.Normalize(wiped.Concat(more));
        }
        parent.WipedOnFork = wiped;
        bool isOne = children.Count == 1 && found.Count == 1;
        return
        [
            .. children.Select(_ =>
                new Child(ProcessView.Open(isOne ? found[0].Pid : 0, isOne ? found[0].Flags.Wiped : wiped), wiped)),
        ];
    }

    private List<(int Pid, ForkFlags Flags)> Find(ProcessView parent, IReadOnlyList<UserFaultFd> children)
    {
        List<(int, ForkFlags)> found = [];
        if (parent.Pid == 0)
            return found;
        long start = Stopwatch.GetTimestamp();
        // Reparented meanwhile (a daemon's double fork), or made a child of another one (CLONE_PARENT): then it is
        // nobody's child that we know.
        bool wide = ProcessInfo.ThreadIds(parent.Pid).Count > FewThreads;
        for (int round = 0; found.Count < children.Count; round++)
        {
            foreach (int pid in wide ? Newcomers(parent.StartTime) : Children(parent.Pid).Where(pid => !_known.ContainsKey(pid)))
            {
                // A child of vfork has its parent's memory until it calls exec, and no message is about it.
                if (parent.SharesMemoryWith(pid) || ForkFlags.TryRead(pid) is not { } flags)
                    continue;
                Note(pid);
                if (flags.IsRegistered)
                    found.Add((pid, flags));
            }
            if (found.Count >= children.Count || !children.Any(child => child.IsAddressSpaceAlive())
                || Stopwatch.GetElapsedTime(start) > Patience)
                break;
            const int Eager = 20;
            if (round < Eager)
                Thread.Yield();
            else
                Thread.Sleep(1);
            wide |= round >= 2 * Eager;
        }
        return found;
    }

    private void Note(int pid)
    {
        if (pid != 0 && ProcessInfo.StartTimeOf(pid) is { } startTime)
            _known[pid] = startTime;
    }

    private static IEnumerable<int> Children(int pid) => ProcessInfo.ThreadIds(pid).SelectMany(tid => ProcessInfo.Children(pid, tid));

    /// <summary>All processes that are not older than this one.</summary>
    private IEnumerable<int> Newcomers(long startTime)
    {
        foreach (string path in Directory.EnumerateDirectories("/proc"))
        {
            if (int.TryParse(Path.GetFileName(path), out int pid)
                && ProcessInfo.StartTimeOf(pid) is { } started && started >= startTime
                && !(_known.TryGetValue(pid, out long known) && known == started))
                yield return pid;
        }
    }
}
