using Testbed.Core;

namespace Core.Tests;

/// <summary>
/// A fault service on a table: events go in by hand, commands come out as lines. Time is one nanosecond per event, and what is waited.
/// </summary>
internal sealed class ServiceBench : IServiceObserver
{
    private long _clock;

    /// <summary>Areas are (first page, pages); present ranges too. All lanes come up at once.</summary>
    public ServiceBench(
        (ulong, long)[] areas, (ulong, long)[] present, TransferOptions? transfer = null, bool lanesUp = true, bool held = false)
    {
        transfer ??= new TransferOptions { Lanes = 1 };
        Service = new FaultService(transfer, _ => Policy, this, held);
        Map = Service.AddSpace(0, Images.Of(areas, present));
        for (int lane = 0; lanesUp && lane < transfer.Lanes; lane++)
            _ = Send(ServiceEventKind.LaneUp, lane: lane);
    }

    public FaultService Service { get; }

    public PageMap Map { get; }

    public ScriptedPolicy Policy { get; } = new();

    public List<FaultRecord> Resolved { get; } = [];

    public List<InstallRecord> Installed { get; } = [];

    public List<(PageRange Range, Cause Cause)> Requested { get; } = [];

    public Instant Now => new(_clock);

    public void Wait(Duration time) => _clock += time.Nanoseconds;

    public string[] Fault(ulong page, int thread = 0, int space = 0) => Send(new ServiceEvent(
        ServiceEventKind.Fault, new Instant(++_clock), space, Range(page, 1))
    { Thread = thread, Woken = new Instant(_clock - 1) });

    public string[] Arrived(int request, ulong page, long count) =>
        Send(ServiceEventKind.Arrived, page, count, request: request);

    public string[] Outcome(InstallOutcome outcome, int request, ulong page, long count = 1, int space = 0) =>
        Send(new ServiceEvent(ServiceEventKind.InstallOutcome, new Instant(++_clock), space, Range(page, count))
        {
            Request = request,
            Outcome = outcome,
        });

    public string[] Remapped(ulong page, long count, ulong destination) => Send(new ServiceEvent(
        ServiceEventKind.Remapped, new Instant(++_clock), 0, Range(page, count))
    { Destination = new PageNumber(destination) });

    public string[] Forked(int child) =>
        Send(new ServiceEvent(ServiceEventKind.Forked, new Instant(++_clock), 0, default) { Other = child });

    public string[] Idle() => Send(ServiceEventKind.Idle);

    public string[] Send(ServiceEventKind kind, ulong page = 0, long count = 0, int space = 0, int lane = 0, int request = 0) =>
        Send(new ServiceEvent(kind, new Instant(++_clock), space, Range(page, count)) { Lane = lane, Request = request });

    private string[] Send(in ServiceEvent e)
    {
        var lines = new List<string>();
        foreach (ServiceCommand c in Service.Handle(e))
            lines.Add(Line(c));
        return [.. lines];
    }

    private static string Line(in ServiceCommand c)
    {
        string space = c.Space == 0 ? "" : $" in {c.Space}";
        string pages = $"{c.Range.Start.Value}+{c.Range.Count}";
        return c.Kind switch
        {
            CommandKind.Request => $"request #{c.Request} {pages} {c.Cause} lane {c.Lane}{space}",
            CommandKind.Install => $"install #{c.Request} {pages} from {c.Source.Value}{space}",
            CommandKind.Zero => $"zero {pages}{space}",
            CommandKind.Wake => $"wake {pages}{space}",
            CommandKind.Release => $"release #{c.Request}",
            _ => $"unregister {c.Space}",
        };
    }

    private static PageRange Range(ulong page, long count) => new(new PageNumber(page), count);

    void IServiceObserver.OnRequested(Instant time, int space, PageRange range, Cause cause) => Requested.Add((range, cause));

    void IServiceObserver.OnInstalled(in InstallRecord install) => Installed.Add(install);

    void IServiceObserver.OnResolved(in FaultRecord fault) => Resolved.Add(fault);
}

internal static class Images
{
    public static MemoryImage Of((ulong Start, long Count)[] areas, (ulong Start, long Count)[] present) => new(
        [.. areas.Select(a => new MemoryArea(new PageRange(new PageNumber(a.Start), a.Count), "", 3))],
        [.. present.Select(p => new PageRange(new PageNumber(p.Start), p.Count))]);
}
