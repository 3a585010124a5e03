using Testbed.Core;
using Testbed.Uffd.Interop;
using static Testbed.Uffd.Interop.Native.Nr;

namespace Testbed.Uffd;

/// <summary>
/// What /proc shows of a process that is served: what a userfaultfd does not tell, which areas a fork wipes and where
/// the program put guard
/// pages. It stays with the address space that the process had when it was opened: after exec it shows nothing.
/// </summary>
public sealed class ProcessView : IDisposable
{
    private readonly Pagemap? _pagemap;

    private ProcessView(int pid, long startTime, Pagemap? pagemap, IEnumerable<PageRange> wiped) =>
        (Pid, StartTime, _pagemap, WipedOnFork) = (pid, startTime, pagemap, [.. PageRanges.Normalize(wiped)]);

    /// <summary>The process, as this program numbers it; 0 when it is not known.</summary>
    public int Pid { get; }

    /// <summary>See <see cref="ProcessInfo.StartTime"/>; 0 when it is not known.</summary>
    public long StartTime { get; }

    /// <summary>The areas that a fork wipes in the child, as they were known last, by present address and
    /// sorted.</summary>
    public IReadOnlyList<PageRange> WipedOnFork { get; internal set; }

    /// <summary>Opens the view of a process.</summary>
    /// <param name="pid">The process; 0 when it is not known which one it is.</param>
    /// <param name="wiped">The areas that a fork wipes; null: they are read.</param>
    public static ProcessView Open(int pid, IEnumerable<PageRange>? wiped = null)
    {
        long startTime = pid == 0 ? 0 : ProcessInfo.StartTimeOf(pid) ?? 0;
        Pagemap? pagemap = null;
        try
        {
            pagemap = startTime == 0 ? null : new Pagemap(pid);
        }
        catch (Exception e) when (e is BadInputException or TargetGoneException)
        {
            // Not to be inspected: guards cannot be looked for.
        }
        return new ProcessView(startTime == 0 ? 0 : pid, startTime, pagemap, wiped ?? ForkFlags.TryRead(pid)?.Wiped ?? []);
    }

    /// <summary>Whether guard pages can be looked for.</summary>
    public bool SeesGuards => _pagemap is { KnowsGuards: true };

    /// <inheritdoc cref="Pagemap.ScanGuards"/>
    internal int ScanGuards(PageRange range, Span<PageRange> guards, out PageNumber scanned)
    {
        scanned = range.End;
        return _pagemap?.ScanGuards(range, guards, out scanned) ?? 0;
    }

    /// <summary>The areas that a fork wipes, as the kernel has them now; null when it cannot be asked.</summary>
    internal ForkFlags? ReadFlags() => Pid != 0 && ProcessInfo.StartTimeOf(Pid) == StartTime ? ForkFlags.TryRead(Pid) : null;

    /// <summary>Whether another process has the same memory, as a child of vfork has.</summary>
    internal bool SharesMemoryWith(int pid) => Pid != 0 && Native.Syscall(__NR_kcmp, Pid, pid, Native.Kcmp.KCMP_VM) == 0;

    /// <inheritdoc/>
    public void Dispose() => _pagemap?.Dispose();
}
