using System.Text.RegularExpressions;
using NUnit.Framework;
using Testbed.Core;

namespace Core.Tests;

/// <summary>Bulk and demand, where they share a lane.</summary>
[TestFixture]
public sealed partial class SharedLaneTests
{
    private const int Pages = 1 << 20, FirstBulk = Pages / 2;

    private static readonly TransferOptions Transfer = TransferOptions.Adaptive with { MaxInFlight = 1 << 20 };
    private static readonly Duration Short = Duration.FromMicroseconds(100);

    private ServiceBench _bench = null!;
    private ulong _page;

    [SetUp]
    public void OneLaneOfTwo()
    {
        _bench = new ServiceBench([(0, Pages)], [(0, Pages)], Transfer, lanesUp: false);
        _bench.Send(ServiceEventKind.LaneUp, lane: 0);
        _bench.Policy.Idle = (map, plan) => plan.Add(map.NextLazy(FirstBulk, Pages), plan.BackgroundBudget, Cause.Background);
        _page = 1000;
    }

    [Test]
    public void While_faults_come_the_pages_around_them_come_along()
    {
        HeadStart();
        for (int i = 0; i < 10; i++)
        {
            ulong page = NextPage();
            string[] waited = _bench.Fault(page);
            Assert.That(waited, Has.Length.EqualTo(1).And.One.EndsWith($" {page - 12}+64 Demand lane 0"));
            Assert.That(_bench.Idle(), Is.Empty);
            Answer(waited, Short);
            Assert.That(_bench.Idle(), Is.Empty, "nothing more behind one fault");
        }
    }

    [Test]
    public void Where_those_are_in_already_other_bulk_comes_along()
    {
        HeadStart();
        for (int i = 0; i < 10; i++)
        {
            ulong page = NextPage();
            _bench.Send(ServiceEventKind.Removed, page: page - 50, count: 50);
            _bench.Send(ServiceEventKind.Removed, page: page + 1, count: 50);
            string[] waited = _bench.Fault(page);
            string[] along = _bench.Idle();
            Assert.That((waited.Sum(Count), along.Sum(Count)), Is.EqualTo((1, 63)));
            Answer([.. waited, .. along], Short);
            Assert.That(_bench.Idle(), Is.Empty, "nothing more behind one fault");
        }
    }

    [Test]
    public void Where_no_fault_has_come_for_a_while_bulk_has_the_lane()
    {
        HeadStart();
        Answer(_bench.Fault(NextPage()), Short);
        Answer(_bench.Idle(), Short);
        Assert.That(_bench.Idle(), Is.Empty);
        _bench.Wait(_bench.Service.BulkResumes!.Value - _bench.Now);
        Assert.That(_bench.Idle(), Is.Not.Empty);
        Assert.That(_bench.Service.BulkResumes, Is.Null);
    }

    /// <summary>It may be one that nobody waits for any more: what is away must come in nevertheless.</summary>
    [Test]
    public void A_fault_that_is_never_answered_holds_bulk_back_only_for_a_while()
    {
        HeadStart();
        _bench.Fault(NextPage());
        Answer(_bench.Idle(), Short);
        Assert.That(_bench.Idle(), Is.Empty);
        _bench.Wait(Duration.FromMilliseconds(1));
        Assert.That(_bench.Idle(), Is.Not.Empty);
    }

    [Test]
    public void At_the_start_the_way_is_measured()
    {
        while (_bench.Now + Short + Short < Instant.Zero + Transfer.HeadStart)
        {
            Answer(_bench.Fault(NextPage()), Short);
            string[] bulk = _bench.Idle();
            Assert.That(bulk, Is.Not.Empty);
            Answer(bulk, Duration.Zero);
        }
    }

    /// <summary>The way itself takes longer then than bulk may delay a page.</summary>
    [Test]
    public void On_a_long_way_bulk_does_not_wait()
    {
        HeadStart(Transfer.QueueBound + Short);
        Answer(_bench.Fault(NextPage()), Transfer.QueueBound + Short);
        Assert.That(_bench.Service.BulkResumes, Is.Null);
        Answer(_bench.Idle(), Short);
        Assert.That(_bench.Idle(), Is.Not.Empty, "and again");
    }

    [Test]
    public void With_a_lane_of_its_own_bulk_does_not_wait()
    {
        HeadStart();
        _bench.Send(ServiceEventKind.LaneUp, lane: 1);
        Assert.That(_bench.Fault(NextPage()).Sum(Count), Is.EqualTo(1));
        Answer(_bench.Idle(), Short);
        Assert.That(_bench.Idle(), Is.Not.Empty, "and again");
    }

    [Test]
    public void Meanwhile_a_policy_may_fetch_a_little_elsewhere()
    {
        HeadStart();
        _bench.Policy.Fault = (_, _, plan) => plan.Add(30_000, 500, Cause.Prefetch);
        string[] commands = _bench.Fault(NextPage());
        Assert.That(commands, Has.Length.EqualTo(2));
        Assert.That(commands[1], Does.EndWith($"30000+{FlightControl.LittlePages} Prefetch lane 0"));
    }

    private ulong NextPage() => _page += 200;

    /// <summary>Bulk alone, over a way that takes so long: it is known then what that carries.</summary>
    private void HeadStart(Duration? roundTrip = null)
    {
        while (_bench.Now < Instant.Zero + Transfer.HeadStart + Transfer.HeadStart)
            Answer(_bench.Idle(), roundTrip ?? Short);
    }

    private void Answer(string[] requests, Duration roundTrip)
    {
        _bench.Wait(roundTrip);
        foreach (string request in requests)
        {
            Match match = Request().Match(request);
            (int id, ulong page) = (int.Parse(match.Groups[1].Value, null), ulong.Parse(match.Groups[2].Value, null));
            _bench.Arrived(id, page, Count(request));
            _bench.Outcome(InstallOutcome.Installed, id, page, Count(request));
        }
    }

    private static long Count(string request) => long.Parse(Request().Match(request).Groups[3].Value, null);

    [GeneratedRegex(@"^request #(\d+) (\d+)\+(\d+) ")]
    private static partial Regex Request();
}
