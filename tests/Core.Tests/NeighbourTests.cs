using NUnit.Framework;
using Testbed.Core;

namespace Core.Tests;

/// <summary>What comes in one request with a page that is waited for, where bulk shares demand's lane.</summary>
[TestFixture]
public sealed class NeighbourTests
{
    private static readonly (ulong, long)[] Areas = [(100, 50), (200, 50)];
    private static readonly TransferOptions Transfer = TransferOptions.Adaptive with { HeadStart = Duration.Zero };

    // Nothing is known of the way: twelve pages before it, and none behind it.
    [Test]
    public void They_come_with_it_as_bulk()
    {
        ServiceBench bench = Bench();
        Assert.That(bench.Fault(120), Is.EqualTo(new[] { "request #0 108+13 Demand lane 0" }));
        Assert.That(bench.Requested, Is.EqualTo(new[] { (Range(108, 12), Cause.Background), (Range(120, 1), Cause.Demand) }));
    }

    [Test]
    public void Each_is_installed_as_what_it_is()
    {
        ServiceBench bench = Bench();
        bench.Fault(120);
        bench.Fault(110, thread: 1);
        bench.Arrived(0, 108, 5);
        bench.Outcome(InstallOutcome.Installed, 0, 108, 5);
        bench.Arrived(0, 113, 8);
        bench.Outcome(InstallOutcome.Installed, 0, 113, 8);
        Assert.That(bench.Installed.Select(i => (i.Range, i.Cause)), Is.EqualTo(new[]
        {
            (Range(108, 5), Cause.Background), (Range(113, 7), Cause.Background), (Range(120, 1), Cause.Demand),
        }));
        Assert.That(bench.Resolved.Select(f => (f.Page.Value, f.Cause)), Is.EqualTo(new[] { (110ul, Cause.Background), (120ul, Cause.Demand) }));
    }

    [Test]
    public void They_begin_where_the_area_begins()
    {
        ServiceBench bench = Bench();
        Assert.That(bench.Fault(203), Is.EqualTo(new[] { "request #0 200+4 Demand lane 0" }));
        Assert.That(bench.Fault(149), Is.EqualTo(new[] { "request #1 137+13 Demand lane 0" }));
    }

    [Test]
    public void They_begin_behind_a_page_that_is_not_away_any_more()
    {
        ServiceBench bench = Bench();
        bench.Send(ServiceEventKind.Removed, page: 117, count: 1);
        Assert.That(bench.Fault(120), Is.EqualTo(new[] { "request #0 118+3 Demand lane 0" }));
    }

    [Test]
    public void When_the_lane_is_lost_what_is_waited_for_is_asked_for_again()
    {
        ServiceBench bench = Bench();
        bench.Fault(120);
        Assert.That(bench.Send(ServiceEventKind.LaneDown, lane: 0), Is.EqualTo(new[] { "release #0" }));
        Assert.That(bench.Send(ServiceEventKind.LaneUp, lane: 0), Has.Some.EndsWith(" Demand lane 0"));
        Assert.That(bench.Map.InFlightPages, Is.GreaterThan(0));
    }

    [Test]
    public void With_a_lane_for_bulk_the_page_comes_alone()
    {
        ServiceBench bench = Bench();
        bench.Send(ServiceEventKind.LaneUp, lane: 1);
        Assert.That(bench.Fault(120), Is.EqualTo(new[] { "request #0 120+1 Demand lane 0" }));
    }

    /// <summary>Under such a policy nothing moves that nobody waits for.</summary>
    [Test]
    public void Where_there_is_no_bulk_the_page_comes_alone()
    {
        var bench = new FaultServiceWithoutBulk();
        Assert.That(bench.Fault(120), Is.EqualTo(Range(120, 1)));
    }

    private static ServiceBench Bench()
    {
        var bench = new ServiceBench(Areas, Areas, Transfer, lanesUp: false);
        bench.Send(ServiceEventKind.LaneUp, lane: 0);
        return bench;
    }

    private static PageRange Range(ulong page, long count) => new(new PageNumber(page), count);

    private sealed class FaultServiceWithoutBulk : IPolicy, IServiceObserver
    {
        private readonly FaultService _service;

        public FaultServiceWithoutBulk()
        {
            _service = new FaultService(Transfer, _ => this, this);
            _service.AddSpace(0, Images.Of(Areas, Areas));
            _service.Handle(new ServiceEvent(ServiceEventKind.LaneUp, new Instant(1), 0, default));
        }

        public bool ProposesNothing => true;

        public PageRange Fault(ulong page) =>
            _service.Handle(new ServiceEvent(ServiceEventKind.Fault, new Instant(2), 0, Range(page, 1)))[0].Range;

        public void OnFault(in PolicyFault fault, PageMap map, Plan plan) { }

        public void OnIdle(PageMap map, Plan plan) { }

        public void OnRequested(Instant time, int space, PageRange range, Cause cause) { }

        public void OnInstalled(in InstallRecord install) { }

        public void OnResolved(in FaultRecord fault) { }
    }
}
