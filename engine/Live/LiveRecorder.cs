using Testbed.Core;
using Testbed.Traces;
using Testbed.Uffd;

namespace Testbed.Live;

/// <summary>Watches a live run: counts for the result, and writes the trace. Children forked meanwhile have spaces from <paramref name="spaces"/> on.</summary>
internal sealed class LiveRecorder(
    int pid, IReadOnlyList<ThreadInfo> threads, long presentPages, TraceWriter? trace, bool traceEvents, int spaces = 1)
    : IServiceObserver, ILiveLog
{
    private readonly Dictionary<int, string> _names = threads.DistinctBy(t => t.NamespaceTid).ToDictionary(t => t.NamespaceTid, t => t.Name);
    private readonly Func<int, string> _nameOf = new ThreadNames(pid, threads.Any(t => t.Tid != t.NamespaceTid)).Find;
    private int _threads;
    private long _touched;
    private long _resident;
    private long _background;
    private long _end = long.MaxValue;

    public RunMetrics Metrics { get; } = new(presentPages);

    /// <summary>Pages of the target that some thread waited for. Read from other threads, for progress.</summary>
    public long Touched => Volatile.Read(ref _touched);

    /// <summary>Pages of the target that came in the background. Read from other threads.</summary>
    public long BackgroundPages => Volatile.Read(ref _background);

    /// <summary>
    /// The recording ends at this time: later touches, and what the drain moves, are neither in the trace nor in the numbers. A touch
    /// that waits at that time belongs to the recording. May be called from any thread.
    /// </summary>
    public void EndAt(Instant time) => Volatile.Write(ref _end, time.Nanoseconds);

    /// <summary>Pages that are in, drained ones too.</summary>
    public long Resident => Volatile.Read(ref _resident);

    public void OnRequested(Instant time, int space, PageRange range, Cause cause)
    {
        if (IsRecorded(time))
            Metrics.OnRequested(time, space, range, cause);
    }

    public void OnInstalled(in InstallRecord install)
    {
        if (IsRecorded(install.Time))
            Metrics.OnInstalled(install);
        if (install.Space >= spaces)
            return;
        if (install.Cause == Cause.Background)
            Volatile.Write(ref _background, _background + install.Range.Count);
        Volatile.Write(ref _resident, _resident + install.Range.Count);
    }

    /// <summary>Faults for pages that a prefetch had on the way.</summary>
    public long LatePrefetches { get; private set; }

    public void OnResolved(in FaultRecord fault)
    {
        if (!IsRecorded(fault.Woken))
            return;
        if (fault.Cause == Cause.Prefetch)
            LatePrefetches++;
        Metrics.OnResolved(fault);
        trace?.Append(fault);
        if (fault.Space < spaces && fault.Cause != Cause.Zero)
            Volatile.Write(ref _touched, _touched + 1);
    }

    public void OnEvent(in ServiceEvent e)
    {
        if (traceEvents)
            trace?.Append(e);
    }

    /// <summary>
    /// The names of the threads that were there at the stop are known. Reading one from /proc takes some 40 us, and all threads that
    /// wait behind would wait that long too: for the last of 3,000 threads that fault at once, 0.1 s.
    /// </summary>
    public int OnNewThread(int tid) => trace is null ? _threads++
        : _names.TryGetValue(tid, out string? name) ? trace.AddThread(tid, name)
        : trace.AddThread(tid, _nameOf);

    private bool IsRecorded(Instant time) => time.Nanoseconds <= Volatile.Read(ref _end);
}
