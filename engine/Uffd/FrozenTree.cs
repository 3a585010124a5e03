using System.Runtime.InteropServices;
using Testbed.Core;
using Testbed.PageXfer.Images;
using Testbed.PageXfer.Xfer;

namespace Testbed.Uffd;

/// <summary>
/// A process and its descendants, of which every thread stands still, as a source of pages: what a page server sends comes straight from
/// their memory. They are named as in images, by the pid that each has in its own pid namespace. Disposed, they run on as
/// before; when this program dies, the kernel sees to that. Pages may be read from several threads at once.
/// </summary>
public sealed class FrozenTree : IPageSource, IDisposable
{
    private sealed record Frozen(TracedProcess Stop, TargetMemory Memory, ProcessIdentity Identity, List<PageRange> Lazy);

    private readonly Dictionary<uint, Frozen> _processes = [];
    private readonly int _root;

    private FrozenTree(int root) => _root = root;

    /// <summary>The processes, parents before children, as images name them.</summary>
    public IReadOnlyCollection<uint> Processes => _processes.Keys;

    /// <summary>
    /// Freezes a process and its descendants. A parent that stands still cannot fork, so going down from it misses
    /// none. Memory that a process outside of the tree has, too, is refused: its pages would change while they are
    /// served.
    /// </summary>
    /// <exception cref="BadInputException">One of them cannot be frozen, and why not; all run on as before.</exception>
    public static FrozenTree Freeze(int pid)
    {
        SharingClock clock = new();
        while (true)
        {
            var tree = new FrozenTree(pid);
            try
            {
                tree.Add(pid, parent: 0);
                if (tree.FindSharer() is not var (process, sharer))
                    return tree;
                clock.EnsureTimeLeft(process, sharer);
            }
            catch (TargetGoneException)
            {
                tree.Dispose();
                throw ProcessInfo.NoSuchProcess(pid);
            }
            catch
            {
                tree.Dispose();
                throw;
            }
            tree.Dispose();
            clock.Pause();
        }
    }

    private (int Process, int Sharer)? FindSharer()
    {
        HashSet<int> own = [.. _processes.Values.Select(process => process.Stop.Pid)];
        foreach (Frozen process in _processes.Values)
        {
            if (process.Stop.FindSharer(own) is { } sharer)
                return (process.Stop.Pid, sharer);
        }
        return null;
    }

    private void Add(int pid, uint parent)
    {
        TracedProcess stop = TracedProcess.Seize(pid);
        try
        {
            IReadOnlyList<ThreadInfo> threads = ProcessInfo.ReadThreads(pid);
            uint inner = (uint)threads.FirstOrDefault(thread => thread.Tid == pid).NamespaceTid;
            if (inner == 0)
                throw new TargetGoneException($"process {pid} ended");
            var identity = new ProcessIdentity(
                inner, inner, inner, [.. threads.Select(thread => (uint)thread.NamespaceTid)], parent, ProcessInfo.Read(pid).Name);
            if (_processes.ContainsKey(inner))
                throw new BadInputException($"process {pid}: has pid {inner} in its namespace, as another one of the tree of {_root}; expected a tree in one pid namespace");
            _processes.Add(inner, new Frozen(stop, new TargetMemory(pid), identity, []));
        }
        catch
        {
            stop.Dispose();
            throw;
        }
        uint self = _processes.Last().Key;
        foreach (int child in ProcessInfo.ThreadIds(pid).SelectMany(tid => ProcessInfo.Children(pid, tid)))
        {
            // A zombie has no memory.
            if (ProcessInfo.ThreadState(child, child) is null or 'Z' or 'X')
                continue;
            try
            {
                Add(child, self);
            }
            catch (Exception e) when (e is BadInputException or TargetGoneException && ProcessInfo.IsDying(child))
            {
                // Nor has one that is about to be one.
            }
        }
    }

    /// <summary>
    /// Serves what images call lazy: those that <c>criu dump --lazy-pages</c> left behind, for example, with the processes stopped.
    /// </summary>
    /// <exception cref="BadInputException">The images have a process that is not in the tree.</exception>
    public void Serve(PagesDirectory images)
    {
        foreach (uint pid in images.Processes)
        {
            List<PageRange> lazy = images.Pages(pid).RangesWith(PagemapFlags.Lazy);
            if (lazy.Count > 0)
                Of(pid).Lazy.AddRange(lazy);
        }
    }

    /// <summary>
    /// Writes images of the tree whose pagemaps call all private anonymous memory lazy, and hold none of its pages; serves these. They tell a
    /// lazy-pages daemon what to fetch; a restore by CRIU takes CRIU's own.
    /// </summary>
    /// <exception cref="BadInputException">They cannot be written, or a process is gone.</exception>
    public void WriteImages(string directory)
    {
        var tree = new List<(ProcessIdentity, MmEntry)>();
        foreach (Frozen process in _processes.Values)
        {
            IReadOnlyList<Mapping> mappings = ProcMaps.Read(process.Stop.Pid);
            using var pagemap = new Pagemap(process.Stop.Pid);
            using var sink = new LocalPageSink(directory, PagemapId.Task(process.Identity.Pid));
            foreach (Mapping mapping in ProcMaps.Select(mappings, RegionSelection.All, []))
                pagemap.Scan(mapping.Range, process.Lazy);
            foreach (PageRange range in process.Lazy)
                sink.WritePagemap(range, PagemapFlags.Lazy);
            sink.Complete();
            tree.Add((process.Identity, ProcessImages.NewLayout(mappings.Select(mapping => mapping.ToVma()))));
        }
        ProcessImages.Write(directory, tree);
    }

    /// <inheritdoc/>
    public long Available(uint pid, PageRange range)
    {
        ReadOnlySpan<PageRange> lazy = CollectionsMarshal.AsSpan(Of(pid).Lazy);
        int low = 0, high = lazy.Length;
        while (low < high)
        {
            int middle = (low + high) >>> 1;
            if (lazy[middle].End <= range.Start)
                low = middle + 1;
            else
                high = middle;
        }
        PageNumber at = range.Start;
        for (; low < lazy.Length && at < range.End && lazy[low].Contains(at); low++)
            at = lazy[low].End;
        return Math.Min(at - range.Start, Math.Max(0, range.Count));
    }

    /// <inheritdoc/>
    public void ReadPages(uint pid, PageRange range, Span<byte> destination)
    {
        TargetMemory memory = Of(pid).Memory;
        destination = destination[..(int)range.Bytes];
        for (ulong address = range.Start.Address; destination.Length > 0;)
        {
            int got = memory.Read(address, destination);
            if (got == 0)
                throw new BadInputException($"page {PageNumber.Of(address)} of process {pid} cannot be read; expected a frozen process that is still there");
            address += (ulong)got;
            destination = destination[got..];
        }
    }

    /// <summary>Lets all run on, as they did before.</summary>
    public void Dispose()
    {
        // Children first, so that none meets a parent that cannot answer yet.
        foreach (Frozen process in _processes.Values.Reverse())
        {
            process.Stop.Dispose();
            process.Memory.Dispose();
        }
        _processes.Clear();
    }

    private Frozen Of(uint pid) => _processes.TryGetValue(pid, out Frozen? process)
        ? process
        : throw new BadInputException($"no process {pid} in the tree of {_root}; expected one of {string.Join(", ", _processes.Keys)}");
}
