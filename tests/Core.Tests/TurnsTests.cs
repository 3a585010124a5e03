using System.Text.RegularExpressions;
using NUnit.Framework;
using Testbed.Core;

namespace Core.Tests;

/// <summary>Bulk and demand, where they share a lane.</summary>
[TestFixture]
public sealed partial class TurnsTests
{
    private const int Pages = 1 << 16, FirstBulk = Pages / 2;

    private static readonly TransferOptions Transfer = TransferOptions.Adaptive;
    private static readonly Duration Short = Duration.FromMicroseconds(100);

    private ServiceBench _bench = null!;
    private ulong _page;

    [SetUp]
    public void OneLaneOfTwo()
    {
        _bench = new ServiceBench([(0, Pages)], [(0, Pages)], Transfer, lanesUp: false);
        _bench.Send(ServiceEventKind.LaneUp, lane: 0);
        _page = 0;
    }

    [Test]
    public void Where_threads_wait_bulk_and_demand_take_turns()
    {
        Assert.That(BulkIsAskedFor(), "bulk's turn");
        Assert.That(_bench.Service.NextTurn, Is.Null);
        ServeFaults(Transfer.BulkTurn, Short);
        Assert.That(BulkIsAskedFor(), Is.False, "demand's turn");
        ServeFaults(new Duration(Transfer.DemandTurn.Nanoseconds / 2), Short);
        Assert.That(BulkIsAskedFor(), Is.False, "demand's turn still");
        _bench.Fault(_page);
        _bench.Wait(_bench.Service.NextTurn!.Value - _bench.Now);
        Assert.That(BulkIsAskedFor(), "bulk's turn again, although a thread waits");
    }

    [Test]
    public void Demands_turn_is_shorter_when_less_is_away()
    {
        Duration all = NextDemandsTurn();
        Assert.That(all.Nanoseconds, Is.EqualTo(Transfer.DemandTurn.Nanoseconds).Within(5).Percent);
        _bench.Send(ServiceEventKind.Unmapped, page: 0, count: FirstBulk);
        _page = FirstBulk;
        Assert.That(NextDemandsTurn().Nanoseconds, Is.EqualTo(all.Nanoseconds / 4).Within(5).Percent);
    }

    [Test]
    public void Demands_turn_ends_when_nobody_waits()
    {
        ServeFaults(Transfer.BulkTurn, Short);
        Assert.That(BulkIsAskedFor(), Is.False);
        _bench.Wait(Duration.FromMilliseconds(2));
        Assert.That(_bench.Service.NextTurn, Is.LessThan(_bench.Now));
        Assert.That(BulkIsAskedFor());
    }

    [Test]
    public void Without_anybody_who_waits_it_is_always_bulks_turn()
    {
        for (int i = 0; i < 10; i++)
        {
            Assert.That(BulkIsAskedFor());
            _bench.Wait(Transfer.BulkTurn);
        }
    }

    /// <summary>The way itself takes longer then than bulk may delay a page.</summary>
    [Test]
    public void On_a_long_way_it_is_always_bulks_turn()
    {
        ServeFaults(new Duration(Transfer.BulkTurn.Nanoseconds * 4), roundTrip: Transfer.QueueBound + Short);
        Assert.That(BulkIsAskedFor());
    }

    [Test]
    public void With_a_lane_of_its_own_bulk_waits_no_more()
    {
        ServeFaults(Transfer.BulkTurn, Short);
        Assert.That(BulkIsAskedFor(), Is.False);
        _bench.Send(ServiceEventKind.LaneUp, lane: 1);
        Assert.That(BulkIsAskedFor());
        ServeFaults(Transfer.BulkTurn, Short);
        Assert.That(BulkIsAskedFor());
    }

    [Test]
    public void In_demands_turn_a_policy_may_fetch_a_little_along()
    {
        ServeFaults(Transfer.BulkTurn, Short);
        _bench.Policy.Fault = (_, _, plan) => plan.Add(30_000, 500, Cause.Prefetch);
        string[] commands = _bench.Fault(29_999);
        Assert.That(commands, Has.Length.EqualTo(2));
        Assert.That(commands[1], Does.EndWith($"30000+{FlightControl.LittlePages} Prefetch lane 0"));
    }

    /// <summary>How long demand's next turn is.</summary>
    private Duration NextDemandsTurn()
    {
        while (_bench.Service.NextTurn is not null)
            ServeFaults(Short, Short);
        while (_bench.Service.NextTurn is null)
            ServeFaults(Short, Short);
        Instant began = _bench.Now;
        string[] waits = _bench.Fault(_page++);
        Duration turn = _bench.Service.NextTurn!.Value - began;
        Answer(waits, Short);
        return turn;
    }

    /// <summary>One fault after the other, each answered after a round trip.</summary>
    private void ServeFaults(Duration time, Duration roundTrip)
    {
        for (Instant end = _bench.Now + time; _bench.Now < end; _page++)
            Answer(_bench.Fault(_page), roundTrip);
    }

    /// <summary>Whether bulk is asked for when there is nothing else to do. It comes in at once.</summary>
    private bool BulkIsAskedFor()
    {
        _bench.Policy.Idle = (map, plan) => plan.Add(map.NextLazy(FirstBulk, Pages), 8, Cause.Background);
        string[] commands = _bench.Idle();
        Answer(commands, Duration.Zero);
        return commands.Length > 0;
    }

    private void Answer(string[] requests, Duration roundTrip)
    {
        _bench.Wait(roundTrip);
        foreach (string request in requests)
        {
            Match match = Request().Match(request);
            (int id, ulong page, long count) = (int.Parse(match.Groups[1].Value, null), ulong.Parse(match.Groups[2].Value, null), long.Parse(match.Groups[3].Value, null));
            _bench.Arrived(id, page, count);
            _bench.Outcome(InstallOutcome.Installed, id, page, count);
        }
    }

    [GeneratedRegex(@"^request #(\d+) (\d+)\+(\d+) ")]
    private static partial Regex Request();
}
