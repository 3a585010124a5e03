using NUnit.Framework;
using Testbed.Core;

namespace Core.Tests;

[TestFixture]
public sealed class AllocationTests
{
    private const int Pages = 40_000;

    /// <summary>The daemon shares its machine with who waits: a collection while a fault is open is a stall.</summary>
    [Test]
    public void In_steady_state_nothing_is_allocated()
    {
        var transfer = new TransferOptions { Lanes = 3 };
        var driver = new Driver(transfer);
        driver.Serve(0, 10_000);
        long before = GC.GetAllocatedBytesForCurrentThread();
        driver.Serve(10_000, 20_000);
        Assert.That(GC.GetAllocatedBytesForCurrentThread() - before, Is.Zero);
        Assert.That(driver.Installed, Is.GreaterThan(20_000));
    }

    private sealed class Next8AndFill : IPolicy
    {
        public void OnFault(in PolicyFault fault, PageMap map, Plan plan) => plan.Add(fault.Index + 1, 8, Cause.Prefetch);

        public void OnIdle(PageMap map, Plan plan)
        {
            long next = map.NextLazy(Pages / 2, map.Count);
            if (next >= 0)
                plan.Add(next, plan.BackgroundBudget, Cause.Background);
        }
    }

    /// <summary>Faults of four threads, arrivals in parts, EAGAIN, EEXIST, and background between.</summary>
    private sealed class Driver : IServiceObserver
    {
        private readonly FaultService _service;
        private readonly ServiceCommand[] _todo = new ServiceCommand[1024];
        private readonly PageRange[] _open = new PageRange[256];
        private long _clock;
        private int _installs;
        private int _count;

        public Driver(TransferOptions transfer)
        {
            _service = new FaultService(transfer, _ => new Next8AndFill(), this);
            _service.AddSpace(0, Images.Of([(16, Pages), (90_000, 64)], [(16, Pages)]));
            for (int lane = 0; lane < transfer.Lanes; lane++)
                Send(new ServiceEvent(ServiceEventKind.LaneUp, Now(), 0, default) { Lane = lane });
        }

        public long Installed { get; private set; }

        public void Serve(int from, int to)
        {
            for (int i = from; i < to; i += 5)
            {
                for (int thread = 0; thread < 4; thread++)
                {
                    Send(new ServiceEvent(ServiceEventKind.Fault, Now(), 0, PageRange.Single(new PageNumber((ulong)(16 + i + thread))))
                    {
                        Thread = thread,
                    });
                }
                Send(new ServiceEvent(ServiceEventKind.Idle, Now(), 0, default));
                for (int id = 0; id < _open.Length; id++)
                    Deliver(id);
            }
        }

        private void Deliver(int id)
        {
            PageRange rest = _open[id];
            while (rest.Count > 0)
            {
                long part = Math.Min(4, rest.Count);
                _open[id] = rest = new PageRange(rest.Start + part, rest.Count - part);
                Send(new ServiceEvent(ServiceEventKind.Arrived, Now(), 0, new PageRange(rest.Start - part, part)) { Request = id });
                Send(new ServiceEvent(ServiceEventKind.Idle, Now(), 0, default));
            }
        }

        private Instant Now() => new(++_clock);

        private void Send(in ServiceEvent e)
        {
            _count = 0;
            Take(_service.Handle(e));
            for (int i = 0; i < _count; i++)
            {
                ServiceCommand c = _todo[i];
                if (c.Kind == CommandKind.Request)
                    _open[c.Request] = c.Range;
                else if (c.Kind is CommandKind.Install or CommandKind.Zero)
                    Take(_service.Handle(new ServiceEvent(ServiceEventKind.InstallOutcome, Now(), 0, c.Range) { Request = c.Request, Outcome = Outcome() }));
            }
        }

        private InstallOutcome Outcome() => (++_installs % 7) switch
        {
            3 => InstallOutcome.Again,
            5 => InstallOutcome.AlreadyPresent,
            _ => InstallOutcome.Installed,
        };

        private void Take(ReadOnlySpan<ServiceCommand> commands)
        {
            commands.CopyTo(_todo.AsSpan(_count));
            _count += commands.Length;
        }

        public void OnRequested(Instant time, int space, PageRange range, Cause cause) { }

        public void OnInstalled(in InstallRecord install) => Installed += install.Range.Count;

        public void OnResolved(in FaultRecord fault) { }
    }
}
