using Testbed.Core;
using Testbed.Traces;
using Testbed.Uffd;

namespace Testbed.Live;

/// <summary>Watches a live run: counts for the result, and writes the trace. Children forked meanwhile have spaces from <paramref name="spaces"/> on.</summary>
internal sealed class LiveRecorder(int pid, long presentPages, TraceWriter? trace, bool traceEvents, int spaces = 1) : IServiceObserver, ILiveLog
{
    private int _threads;
    private long _touched;
    private long _resident;
    private bool _draining;
    private readonly ThreadNames _names = new(pid);

    public RunMetrics Metrics { get; } = new(presentPages);

    /// <summary>Pages of the target that some thread waited for. Read from other threads, for progress.</summary>
    public long Touched => Volatile.Read(ref _touched);

    /// <summary>Set when the run that is measured is over: what the drain moves does not count.</summary>
    public bool IsDraining { get => Volatile.Read(ref _draining); set => Volatile.Write(ref _draining, value); }

    /// <summary>Pages that are in, drained ones too.</summary>
    public long Resident => Volatile.Read(ref _resident);

    public void OnRequested(Instant time, int space, PageRange range, Cause cause)
    {
        if (!IsDraining)
            Metrics.OnRequested(time, space, range, cause);
    }

    public void OnInstalled(in InstallRecord install)
    {
        if (!IsDraining)
            Metrics.OnInstalled(install);
        if (install.Space < spaces)
            Volatile.Write(ref _resident, _resident + install.Range.Count);
    }

    /// <summary>Faults for pages that a prefetch had on the way.</summary>
    public long LatePrefetches { get; private set; }

    public void OnResolved(in FaultRecord fault)
    {
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

    public int OnNewThread(int tid) => trace?.AddThread(tid, _names.Of(tid)) ?? _threads++;
}
