namespace Testbed.Core;

/// <summary>
/// Gathers a <see cref="RunResult"/> while a run goes on. Memory: 8 bytes per fault that waited; curves and pictures are thinned
/// as they grow, the same way in every run.
/// </summary>
public sealed class RunMetrics(long presentPages) : IServiceObserver
{
    private const int MaxInstalls = 8 * 1024;
    private const int MaxSteps = 2000;
    private readonly long _residencyStep = Math.Max(1, presentPages / MaxSteps);
    private readonly List<(Instant, long)> _residency = new((int)Math.Min(MaxSteps, presentPages) + 2) { (Instant.Zero, 0) };
    private readonly List<InstallRecord> _installs = new((int)Math.Min(MaxInstalls, presentPages));
    private readonly FaultTimes _faults = new();
    private long _installStride = 1;
    private long _installsSeen;
    private long _resident;
    private long _lastRecorded;
    private Instant _last;
    private long _demand, _late, _zero, _bytes, _prefetched;
    private long _stall;

    /// <summary>Pages of the image that are in.</summary>
    public long ResidentPages => _resident;

    /// <summary>Faults answered so far, of every cause.</summary>
    public long Faults => _demand + _late + _zero;

    /// <summary>Pages asked for as prefetch so far.</summary>
    public long PrefetchedPages => _prefetched;

    /// <inheritdoc/>
    public void OnRequested(Instant time, int space, PageRange range, Cause cause)
    {
        if (cause == Cause.Prefetch)
            _prefetched += range.Count;
        _bytes += range.Bytes;
    }

    /// <inheritdoc/>
    public void OnInstalled(in InstallRecord install)
    {
        if (install.Space == 0)
        {
            _resident += install.Range.Count;
            _last = install.Time;
            if (_resident - _lastRecorded >= _residencyStep || _resident == presentPages)
            {
                _residency.Add((install.Time, _resident));
                _lastRecorded = _resident;
            }
        }
        if ((_installsSeen++ & (_installStride - 1)) == 0)
            Keep(install);
    }

    /// <inheritdoc/>
    public void OnResolved(in FaultRecord fault)
    {
        Duration latency = fault.Latency;
        _stall += latency.Nanoseconds;
        if (fault.Cause == Cause.Zero)
        {
            _zero++;
            return;
        }
        if (fault.Cause == Cause.Demand)
            _demand++;
        else
            _late++;
        _faults.Add(latency, fault.Resolved);
    }

    /// <summary>The result of the run so far.</summary>
    /// <param name="workload">The workload or trace, as a person calls it.</param>
    /// <param name="policy">The policy with its options, as typed.</param>
    /// <param name="link">The link, as typed.</param>
    /// <param name="mode">Live or replay.</param>
    /// <param name="workloadTime">When the last recorded touch was done.</param>
    /// <param name="prefetch">The fate of prefetched pages.</param>
    /// <param name="commandHash">The fault service's hash.</param>
    /// <param name="firstResponse">Time to first response, where known.</param>
    /// <param name="waiting">The waiting as the threads see it, where known.</param>
    /// <param name="bound">What no policy can beat, where known.</param>
    public RunResult ToResult(
        string workload, string policy, string link, RunMode mode, Duration workloadTime,
        PrefetchCounts prefetch, ulong commandHash, Duration? firstResponse,
        Duration? waiting = null, LinkBound? bound = null)
    {
        if (_lastRecorded != _resident)
            _residency.Add((_last, _resident));
        _lastRecorded = _resident;
        return new RunResult
        {
            Workload = workload,
            Policy = policy,
            Link = link,
            Mode = mode,
            Latencies = _faults.Latencies,
            ResolvedAt = _faults.ResolvedAt,
            DemandFaults = _demand,
            LateFaults = _late,
            ZeroFaults = _zero,
            TotalStall = new Duration(_stall),
            Waiting = waiting,
            Bound = bound,
            TimeToFirstResponse = firstResponse,
            WorkloadTime = workloadTime,
            TotalPages = presentPages,
            Residency = _residency,
            Installs = _installs,
            Bytes = _bytes,
            Prefetch = prefetch,
            CommandHash = commandHash,
        };
    }

    /// <summary>When the list is full, every other record goes, and from then on every other one comes.</summary>
    private void Keep(in InstallRecord install)
    {
        if (_installs.Count == MaxInstalls)
        {
            for (int i = 0; i < MaxInstalls / 2; i++)
                _installs[i] = _installs[2 * i];
            _installs.RemoveRange(MaxInstalls / 2, MaxInstalls / 2);
            _installStride *= 2;
        }
        _installs.Add(install);
    }
}
