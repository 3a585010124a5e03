using Testbed.Core;
using Testbed.Traces;

namespace Testbed.Cli;

/// <summary>What one session of a calibration gave: medians of the steps, from the times of the events in its trace.</summary>
internal sealed class CalibrationRun
{
    private const int FewestParts = 50;
    private readonly Trace _trace;
    private readonly FaultRecord[] _faults;
    private readonly double _outside;
    private readonly double[] _worked;

    /// <param name="trace">With its events.</param>
    /// <param name="toucher">Whose pages count; what else the process touches does not.</param>
    /// <param name="took">How long its touches took, as it saw them.</param>
    /// <param name="worked">And its work after each.</param>
    /// <param name="serverCpu">CPU time of the server, in nanoseconds.</param>
    public CalibrationRun(Trace trace, PageToucher toucher, long[] took, long[] worked, double serverCpu)
    {
        (_trace, ServerCpu) = (trace, serverCpu);
        var own = new PageRange(toucher.First, toucher.Order.Count);
        _faults = [.. trace.Faults.Where(f => f.Cause == Cause.Demand && own.Contains(f.Page))];
        Dictionary<PageNumber, long> served = [];
        foreach (FaultRecord fault in _faults)
            served[fault.Page] = fault.Latency.Nanoseconds;
        _outside = Median(Enumerable.Range(0, took.Length)
            .Where(i => served.ContainsKey(toucher.First + toucher.Order[i]))
            .Select(i => (double)(took[i] - served[toucher.First + toucher.Order[i]])));
        _worked = [.. worked.Where((_, i) => served.ContainsKey(toucher.First + toucher.Order[i])).Select(w => (double)w).Order()];
        Requests = CountRequests();
        Pages = trace.Events.Where(e => e.Kind == ServiceEventKind.Arrived).Sum(e => e.Range.Count);
    }

    public double ServerCpu { get; }

    public double Requests { get; }

    public double Pages { get; }

    /// <summary>What the thread waited beyond what the daemon saw.</summary>
    public double OutsideDaemon() => _outside;

    /// <summary>The work after touches that waited for a page of their own: the mean without the longest twentieth, for those met a hitch of the
    /// machine, but not the median, for who shares a CPU loses much time now and then.</summary>
    public double Work() => _worked.Take(Math.Max(1, _worked.Length * 19 / 20)).DefaultIfEmpty().Average();

    /// <summary>From the daemon's wake-up to the page at hand.</summary>
    public double Transfer() => Median(_faults.Select(f => (double)(f.Arrived - f.Woken).Nanoseconds));

    /// <summary>From the daemon's wake-up to the end of the install, of each fault.</summary>
    public IEnumerable<double> Latencies() => _faults.Select(f => (double)f.Latency.Nanoseconds);

    /// <summary>From one fault to the next.</summary>
    public double Interval() => Median(_faults.Zip(_faults.Skip(1)).Select(p => (double)(p.Second.Woken - p.First.Woken).Nanoseconds));

    /// <summary>The daemon's time to handle a fault and send a request, under a policy that asks for two pages a fault: half the time up to
    /// the idle moment that follows.</summary>
    public double Send() => Median(Pairs()
        .Where(p => p.First.Kind == ServiceEventKind.Fault && p.Second.Kind == ServiceEventKind.Idle)
        .Select(p => (p.Second.Time - p.First.Woken).Nanoseconds / 2.0));

    /// <summary>An install of so many pages, with somebody waiting for one of them or not.</summary>
    public double Install(int pages, bool waited) => Median(Installs(waited)
        .Where(p => p.Arrived.Range.Count == pages && p.Outcome.Range.Count == pages)
        .Select(p => (double)(p.Outcome.Time - p.Arrived.Time).Nanoseconds));

    /// <summary>The most pages that came at once, often enough for a median.</summary>
    public int LargestPart => _trace.Events.Where(e => e.Kind == ServiceEventKind.Arrived).CountBy(e => (int)e.Range.Count)
        .Where(parts => parts.Value >= FewestParts).Select(parts => parts.Key).DefaultIfEmpty().Max();

    /// <summary>To take in so many pages when they wait already: the time between the end of what was done before, or the idle moment after
    /// it, and the arrival, at its lower quartile, for sometimes there is nothing yet.</summary>
    public double Receive(int pages)
    {
        double[] gaps = [.. Pairs()
            .Where(p => p.First.Kind is ServiceEventKind.InstallOutcome or ServiceEventKind.Idle && p.Second.Kind == ServiceEventKind.Arrived && p.Second.Range.Count == pages)
            .Select(p => (double)(p.Second.Time - p.First.Time).Nanoseconds).Order()];
        return gaps.Length == 0 ? throw new InvalidOperationException($"calibrate: no arrivals of {pages} pages in the trace") : gaps[gaps.Length / 4];
    }

    private IEnumerable<(ServiceEvent First, ServiceEvent Second)> Pairs() => _trace.Events.Zip(_trace.Events.Skip(1));

    /// <summary>Arrivals with the outcome of their install, when that came next.</summary>
    private IEnumerable<(ServiceEvent Arrived, ServiceEvent Outcome)> Installs(bool waited)
    {
        HashSet<PageNumber> awaited = [.. _trace.Faults.Select(f => f.Page)];
        return Pairs().Where(p => p.First.Kind == ServiceEventKind.Arrived && p.Second.Kind == ServiceEventKind.InstallOutcome
            && p.Second.Outcome == InstallOutcome.Installed
            && Enumerable.Range(0, (int)p.First.Range.Count).Any(i => awaited.Contains(p.First.Range.Start + i)) == waited);
    }

    /// <summary>A request's arrivals follow each other by address.</summary>
    private int CountRequests()
    {
        var open = new Dictionary<int, PageNumber>();
        int requests = 0;
        foreach (ServiceEvent e in _trace.Events.Where(e => e.Kind == ServiceEventKind.Arrived))
        {
            if (!open.TryGetValue(e.Request, out PageNumber end) || end != e.Range.Start)
                requests++;
            open[e.Request] = e.Range.End;
        }
        return requests;
    }

    private static double Median(IEnumerable<double> values)
    {
        double[] sorted = [.. values.Order()];
        return sorted.Length == 0 ? 0 : sorted[sorted.Length / 2];
    }
}
