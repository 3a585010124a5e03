using Testbed.Core;
using Testbed.Policies;

namespace Policies.Tests;

/// <summary>Checks every proposal of the policy that it wraps.</summary>
internal sealed class CheckedPolicy(IPolicy policy) : IPolicy
{
    public void OnFault(in PolicyFault fault, PageMap map, Plan plan)
    {
        policy.OnFault(fault, map, plan);
        Check(map, plan);
    }

    public void OnIdle(PageMap map, Plan plan)
    {
        policy.OnIdle(map, plan);
        Check(map, plan);
    }

    private static void Check(PageMap map, Plan plan)
    {
        foreach (Plan.Entry entry in plan.Entries)
        {
            if (entry.Index < 0 || entry.Index + entry.Count > map.Count || entry.Cause is not (Cause.Prefetch or Cause.Background))
                throw new InvalidOperationException($"proposed {entry} of {map.Count} pages");
        }
    }
}

/// <summary>A policy in a real fault service, with a server that answers in order when the test says so.</summary>
internal sealed class PolicyBench : IServiceObserver
{
    private readonly Queue<(int Id, PageRange Range)> _wire = new(256);
    private readonly ServiceCommand[] _todo = new ServiceCommand[4096];
    private int _count;
    private long _clock;

    public PolicyBench(
        string policy, MemoryImage image, TransferOptions? transfer = null, IReadOnlyList<PageNumber>? recording = null)
    {
        PolicySpec spec = PolicyCatalog.Parse(policy);
        transfer ??= spec.DefaultTransfer;
        Service = new FaultService(transfer, map => new CheckedPolicy(spec.Create(new PolicyEnvironment(map, recording ?? [], 1))), this);
        Map = Service.AddSpace(0, image);
        Lanes = transfer.Lanes;
        for (int lane = 0; lane < Lanes; lane++)
            LaneUp(lane);
    }

    public FaultService Service { get; }

    public PageMap Map { get; }

    public int Lanes { get; }

    public int OnTheWire => _wire.Count;

    /// <summary>Requests since the list was last taken: first page, pages, cause. Off: not kept.</summary>
    public List<(ulong Page, long Count, Cause Cause)>? Log { get; set; } = [];

    public (ulong Page, long Count, Cause Cause)[] TakeLog()
    {
        (ulong, long, Cause)[] taken = [.. Log!];
        Log!.Clear();
        return taken;
    }

    public void Fault(ulong page, int thread = 0) => Send(new ServiceEvent(ServiceEventKind.Fault, Now(), 0, PageRange.Single(new PageNumber(page)))
    {
        Thread = thread,
    });

    public void Idle() => Send(new ServiceEvent(ServiceEventKind.Idle, Now(), 0, default));

    public void LaneUp(int lane) => Send(new ServiceEvent(ServiceEventKind.LaneUp, Now(), 0, default) { Lane = lane });

    /// <summary>All lanes are cut, and come up again.</summary>
    public void CutAll()
    {
        for (int lane = 0; lane < Lanes; lane++)
            Send(new ServiceEvent(ServiceEventKind.LaneDown, Now(), 0, default) { Lane = lane });
        _wire.Clear();
        Idle();
        for (int lane = 0; lane < Lanes; lane++)
            LaneUp(lane);
    }

    /// <summary>The oldest request comes in whole.</summary>
    public bool Arrive()
    {
        if (!_wire.TryDequeue(out (int Id, PageRange Range) request))
            return false;
        Send(new ServiceEvent(ServiceEventKind.Arrived, Now(), 0, request.Range) { Request = request.Id });
        return true;
    }

    /// <summary>Arrivals and idle moments until nothing happens any more.</summary>
    public void Settle()
    {
        for (long i = 0; i < 10 * Map.Count + 10; i++)
        {
            Idle();
            if (!Arrive())
                return;
        }
        throw new InvalidOperationException("it does not come to an end");
    }

    private Instant Now() => new(++_clock);

    private void Send(in ServiceEvent e)
    {
        _count = 0;
        Take(Service.Handle(e));
        for (int i = 0; i < _count; i++)
        {
            ServiceCommand c = _todo[i];
            if (c.Kind == CommandKind.Request)
                OnRequest(c);
            else if (c.Kind is CommandKind.Install or CommandKind.Zero)
                Take(Service.Handle(new ServiceEvent(ServiceEventKind.InstallOutcome, Now(), 0, c.Range) { Request = c.Request }));
        }
    }

    private void OnRequest(in ServiceCommand c)
    {
        _wire.Enqueue((c.Request, c.Range));
        Log?.Add((c.Range.Start.Value, c.Range.Count, c.Cause));
    }

    private void Take(ReadOnlySpan<ServiceCommand> commands)
    {
        commands.CopyTo(_todo.AsSpan(_count));
        _count += commands.Length;
    }

    void IServiceObserver.OnRequested(Instant time, int space, PageRange range, Cause cause) { }

    void IServiceObserver.OnInstalled(in InstallRecord install) { }

    void IServiceObserver.OnResolved(in FaultRecord fault) { }
}

internal static class Images
{
    public static MemoryImage Of((ulong Start, long Count)[] areas, (ulong Start, long Count)[] present) => new(
        [.. areas.Select(a => new MemoryArea(new PageRange(new PageNumber(a.Start), a.Count), "", 3))],
        [.. present.Select(p => new PageRange(new PageNumber(p.Start), p.Count))]);

    /// <summary>Some areas, some right behind each other, with holes in them.</summary>
    public static MemoryImage Any(Random random, int areas, int largest)
    {
        var all = new List<(ulong, long)>();
        var present = new List<(ulong, long)>();
        ulong at = 16;
        for (int i = 0; i < areas; i++, at += (ulong)(random.Next(2) * random.Next(100)))
        {
            long count = random.Next(1, largest);
            all.Add((at, count));
            for (ulong end = at + (ulong)count; at < end;)
            {
                long run = Math.Min(random.Next(1, 40), (long)(end - at));
                if (random.Next(4) != 0)
                    present.Add((at, run));
                at += (ulong)run;
            }
        }
        return Of([.. all], [.. present]);
    }
}
