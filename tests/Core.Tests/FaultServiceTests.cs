using NUnit.Framework;
using Testbed.Core;

namespace Core.Tests;

/// <summary>One area of pages 100 to 131, of which 100 to 123 were dumped; another of 200 to 207, all dumped.</summary>
[TestFixture]
public sealed class FaultServiceTests
{
    private static ServiceBench Bench(TransferOptions? transfer = null, bool lanesUp = true) =>
        new([(100, 32), (200, 8)], [(100, 24), (200, 8)], transfer, lanesUp);

    private static readonly string[] Nothing = [];

    [Test]
    public void A_fault_for_a_lazy_page_asks_for_it_alone_and_its_arrival_answers_it()
    {
        ServiceBench bench = Bench();
        Assert.That(bench.Fault(105), Is.EqualTo(new[] { "request #0 105+1 Demand lane 0" }));
        Assert.That(bench.Service.PendingFaults, Is.EqualTo(1));
        Assert.That(bench.Arrived(0, 105, 1), Is.EqualTo(new[] { "install #0 105+1 from 105" }));
        Assert.That(bench.Resolved, Is.Empty);
        Assert.That(bench.Outcome(InstallOutcome.Installed, 0, 105), Is.EqualTo(new[] { "release #0" }));
        Assert.That(bench.Map[5], Is.EqualTo(PageState.Resident));
        Assert.That(bench.Resolved, Is.EqualTo(new[]
        {
            new FaultRecord(0, 0, new PageNumber(105), Access.Read, Cause.Demand,
                new Instant(1), new Instant(2), new Instant(2), new Instant(3), new Instant(4)),
        }));
        Assert.That(bench.Installed, Is.EqualTo(new[] { new InstallRecord(new Instant(4), 0, PageRange.Single(new(105)), Cause.Demand) }));
    }

    [Test]
    public void A_fault_for_a_page_in_flight_asks_for_nothing_and_says_why_it_was_under_way()
    {
        ServiceBench bench = Bench();
        bench.Policy.Fault = (fault, _, plan) => plan.Add(fault.Index + 1, 2, Cause.Prefetch);
        Assert.That(bench.Fault(105), Is.EqualTo(new[] { "request #0 105+1 Demand lane 0", "request #1 106+2 Prefetch lane 0" }));
        bench.Policy.Fault = (_, _, _) => { };
        Assert.That(bench.Fault(106, thread: 1), Is.EqualTo(Nothing));
        Assert.That(bench.Fault(105, thread: 2), Is.EqualTo(Nothing));
        bench.Arrived(0, 105, 1);
        bench.Outcome(InstallOutcome.Installed, 0, 105);
        bench.Arrived(1, 106, 2);
        bench.Outcome(InstallOutcome.Installed, 1, 106, 2);
        Assert.That(bench.Resolved.Select(r => (r.Thread, r.Cause)), Is.EquivalentTo(new[]
        {
            (0, Cause.Demand), (2, Cause.Demand), (1, Cause.Prefetch),
        }));
    }

    [Test]
    public void A_needed_page_is_asked_for_as_demand_and_waits_for_its_area_while_held()
    {
        ServiceBench bench = new([(100, 32)], [(100, 24)], held: true);
        Assert.That(bench.Send(ServiceEventKind.Needed, 105, 1), Is.EqualTo(new[] { "request #0 105+1 Demand lane 0" }));
        Assert.That(bench.Send(ServiceEventKind.Needed, 105, 1), Is.EqualTo(Nothing), "in flight");
        Assert.That(bench.Send(ServiceEventKind.Needed, 130, 1), Is.EqualTo(Nothing), "a hole");
        Assert.That(bench.Arrived(0, 105, 1), Is.EqualTo(new[] { "install #0 105+1 from 105" }));
        Assert.That(bench.Service.WaitsForAreas, Is.False);
        Assert.That(bench.Outcome(InstallOutcome.Gone, 0, 105), Is.EqualTo(Nothing), "not registered yet");
        Assert.That((bench.Service.WaitsForAreas, bench.Service.WantsIdle, bench.Map[5]), Is.EqualTo((true, false, PageState.InFlight)));
        Assert.That(bench.Idle(), Is.EqualTo(new[] { "install #0 105+1 from 105" }), "tried again");
        bench.Outcome(InstallOutcome.Gone, 0, 105);
        Assert.That(bench.Send(ServiceEventKind.Released), Is.EqualTo(new[] { "install #0 105+1 from 105" }), "first of all");
        Assert.That(bench.Outcome(InstallOutcome.Installed, 0, 105), Is.EqualTo(new[] { "release #0" }));
        Assert.That(bench.Map[5], Is.EqualTo(PageState.Resident));
    }

    [Test]
    public void A_needed_page_is_asked_for_again_when_its_lane_is_lost()
    {
        ServiceBench bench = new([(100, 32)], [(100, 24)], held: true);
        bench.Send(ServiceEventKind.Needed, 105, 1);
        Assert.That(bench.Send(ServiceEventKind.LaneDown), Is.EqualTo(new[] { "release #0" }));
        Assert.That(bench.Send(ServiceEventKind.LaneUp), Is.EqualTo(new[] { "request #0 105+1 Demand lane 0" }));
        bench.Arrived(0, 105, 1);
        bench.Outcome(InstallOutcome.Installed, 0, 105);
        bench.Send(ServiceEventKind.LaneDown);
        Assert.That(bench.Send(ServiceEventKind.LaneUp), Is.EqualTo(Nothing), "it is in");
    }

    [Test]
    public void A_hole_is_answered_with_zero_and_then_is_in()
    {
        ServiceBench bench = Bench();
        Assert.That(bench.Fault(130), Is.EqualTo(new[] { "zero 130+1" }));
        Assert.That(bench.Outcome(InstallOutcome.Installed, -1, 130), Is.EqualTo(Nothing));
        Assert.That(bench.Map[30], Is.EqualTo(PageState.Resident));
        Assert.That(bench.Resolved.Single().Cause, Is.EqualTo(Cause.Zero));
    }

    [Test]
    public void A_zero_page_that_is_not_to_be_had_now_waits_for_the_next_touch()
    {
        ServiceBench bench = Bench();
        bench.Fault(130);
        Assert.That(bench.Outcome(InstallOutcome.Again, -1, 130), Is.EqualTo(new[] { "wake 130+1" }));
        Assert.That(bench.Service.PendingFaults, Is.EqualTo(1));
        Assert.That(bench.Fault(130), Is.EqualTo(new[] { "zero 130+1" }));
        bench.Outcome(InstallOutcome.Installed, -1, 130);
        Assert.That(bench.Resolved.Single().Woken, Is.EqualTo(new Instant(1)), "the wait goes on from the first touch");
    }

    [Test]
    public void A_fault_for_a_page_that_is_in_already_asks_the_kernel()
    {
        ServiceBench bench = Bench();
        Serve(bench, 105);
        Assert.That(bench.Fault(105), Is.EqualTo(new[] { "zero 105+1" }));
        Assert.That(bench.Outcome(InstallOutcome.AlreadyPresent, -1, 105), Is.EqualTo(new[] { "wake 105+1" }));
        Assert.That(bench.Service.PendingFaults, Is.Zero);
    }

    [Test]
    public void A_fault_outside_what_was_dumped_is_zero_and_moves_no_other_wait()
    {
        ServiceBench bench = Bench();
        bench.Remapped(105, 1, 500);
        Assert.That(bench.Fault(500, thread: 0), Is.EqualTo(new[] { "request #0 105+1 Demand lane 0" }));
        Assert.That(bench.Fault(105, thread: 1), Is.EqualTo(new[] { "zero 105+1" }));
        bench.Outcome(InstallOutcome.Installed, -1, 105);
        Assert.That(bench.Resolved.Select(r => r.Thread), Is.EqualTo(new[] { 1 }), "thread 0 waits for what was at 105 once");
    }

    [Test]
    public void A_reply_may_come_in_parts()
    {
        ServiceBench bench = Bench();
        bench.Policy.Idle = (_, plan) => plan.Add(0, 8, Cause.Background);
        Assert.That(bench.Idle(), Is.EqualTo(new[] { "request #0 100+8 Background lane 0" }));
        Assert.That(bench.Arrived(0, 100, 3), Is.EqualTo(new[] { "install #0 100+3 from 100" }));
        Assert.That(bench.Outcome(InstallOutcome.Installed, 0, 100, 3), Is.EqualTo(Nothing));
        Assert.That(bench.Arrived(0, 103, 5), Is.EqualTo(new[] { "install #0 103+5 from 103" }));
        Assert.That(bench.Outcome(InstallOutcome.Installed, 0, 103, 5), Is.EqualTo(new[] { "release #0" }));
    }

    [Test]
    public void Again_is_tried_again_when_idle()
    {
        ServiceBench bench = Bench();
        bench.Fault(105);
        bench.Arrived(0, 105, 1);
        Assert.That(bench.Outcome(InstallOutcome.Again, 0, 105), Is.EqualTo(Nothing));
        Assert.That(bench.Service.WantsIdle);
        Assert.That(bench.Idle(), Is.EqualTo(new[] { "install #0 105+1 from 105" }));
        Assert.That(bench.Outcome(InstallOutcome.Installed, 0, 105), Is.EqualTo(new[] { "release #0" }));
    }

    [Test]
    public void Gone_is_halved_until_the_page_is_found()
    {
        ServiceBench bench = Bench();
        bench.Policy.Idle = (_, plan) => plan.Add(0, 4, Cause.Background);
        bench.Idle();
        bench.Arrived(0, 100, 4);
        Assert.That(bench.Outcome(InstallOutcome.Gone, 0, 100, 4),
            Is.EqualTo(new[] { "install #0 100+2 from 100", "install #0 102+2 from 102" }));
        Assert.That(bench.Outcome(InstallOutcome.Installed, 0, 100, 2), Is.EqualTo(Nothing));
        Assert.That(bench.Outcome(InstallOutcome.Gone, 0, 102, 2),
            Is.EqualTo(new[] { "install #0 102+1 from 102", "install #0 103+1 from 103" }));
        Assert.That(bench.Outcome(InstallOutcome.Gone, 0, 102), Is.EqualTo(new[] { "wake 102+1" }));
        Assert.That(bench.Outcome(InstallOutcome.Installed, 0, 103), Is.EqualTo(new[] { "release #0" }));
    }

    [Test]
    public void A_page_that_is_there_already_is_stepped_over()
    {
        ServiceBench bench = Bench();
        bench.Policy.Idle = (_, plan) => plan.Add(0, 4, Cause.Background);
        bench.Idle();
        bench.Arrived(0, 100, 4);
        Assert.That(bench.Outcome(InstallOutcome.Installed, 0, 100, 1), Is.EqualTo(Nothing));
        Assert.That(bench.Outcome(InstallOutcome.AlreadyPresent, 0, 101, 3),
            Is.EqualTo(new[] { "wake 101+1", "install #0 102+2 from 102" }));
        Assert.That(bench.Outcome(InstallOutcome.Installed, 0, 102, 2), Is.EqualTo(new[] { "release #0" }));
    }

    [Test]
    public void A_process_that_is_gone_takes_its_waits_along_and_its_requests_end()
    {
        ServiceBench bench = Bench();
        bench.Fault(105);
        bench.Fault(106, thread: 1);
        bench.Arrived(0, 105, 1);
        Assert.That(bench.Outcome(InstallOutcome.ProcessGone, 0, 105), Is.EqualTo(new[] { "unregister 0", "release #0" }));
        Assert.That(bench.Service.PendingFaults, Is.Zero);
        Assert.That(bench.Service.IsComplete, Is.False, "a reply is under way");
        Assert.That(bench.Arrived(1, 106, 1), Is.EqualTo(new[] { "release #1" }));
        Assert.That(bench.Service.IsComplete);
        Assert.That(bench.Fault(107), Is.EqualTo(Nothing));
        Assert.That(bench.Send(ServiceEventKind.Exited), Is.EqualTo(Nothing));
    }

    [Test]
    public void Pages_discarded_while_in_flight_are_dropped_and_who_waits_touches_again()
    {
        ServiceBench bench = Bench();
        bench.Policy.Idle = (_, plan) => plan.Add(4, 4, Cause.Background);
        bench.Idle();
        bench.Fault(105);
        Assert.That(bench.Send(ServiceEventKind.Removed, 105, 2), Is.EqualTo(new[] { "wake 105+1" }));
        Assert.That(bench.Service.PendingFaults, Is.Zero);
        Assert.That(bench.Fault(105), Is.EqualTo(new[] { "zero 105+1" }));
        bench.Outcome(InstallOutcome.Installed, -1, 105);
        Assert.That(bench.Arrived(0, 104, 4), Is.EqualTo(new[] { "install #0 104+1 from 104", "install #0 107+1 from 107" }));
        bench.Outcome(InstallOutcome.Installed, 0, 104);
        Assert.That(bench.Outcome(InstallOutcome.Installed, 0, 107), Is.EqualTo(new[] { "release #0" }));
    }

    [Test]
    public void Pages_unmapped_while_in_flight_are_nobodys()
    {
        ServiceBench bench = Bench();
        bench.Fault(105);
        Assert.That(bench.Send(ServiceEventKind.Unmapped, 90, 300), Is.EqualTo(new[] { "wake 105+1" }));
        Assert.That(bench.Map.LazyPages, Is.Zero);
        Assert.That(bench.Arrived(0, 105, 1), Is.EqualTo(new[] { "release #0" }));
        Assert.That(bench.Service.IsComplete);
        Assert.That(bench.Service.PendingFaults, Is.Zero, "the thread will not come back");
    }

    [Test]
    public void Pages_moved_while_in_flight_arrive_at_their_new_place()
    {
        ServiceBench bench = Bench();
        bench.Policy.Idle = (_, plan) => plan.Add(4, 4, Cause.Background);
        bench.Idle();
        bench.Fault(105);
        Assert.That(bench.Remapped(105, 2, 505), Is.EqualTo(new[] { "wake 105+1" }));
        Assert.That(bench.Fault(505), Is.EqualTo(Nothing));
        Assert.That(bench.Arrived(0, 104, 4), Is.EqualTo(new[]
        {
            "install #0 104+1 from 104", "install #0 505+2 from 105", "install #0 107+1 from 107",
        }));
        bench.Outcome(InstallOutcome.Installed, 0, 505, 2);
        Assert.That(bench.Resolved.Single().Page, Is.EqualTo(new PageNumber(105)), "records name pages by dump address");
    }

    [Test]
    public void A_child_asks_for_itself_what_is_in_flight_for_its_parent()
    {
        ServiceBench bench = Bench();
        Serve(bench, 104);
        bench.Fault(105);
        Assert.That(bench.Forked(1), Is.EqualTo(Nothing));
        PageMap child = bench.Service.MapOf(1)!;
        Assert.That((child[4], child[5], child[6], child[30]),
            Is.EqualTo((PageState.Resident, PageState.Lazy, PageState.Lazy, PageState.Hole)));
        Assert.That(bench.Fault(105, space: 1), Is.EqualTo(new[] { "request #1 105+1 Demand lane 0 in 1" }));
        Assert.That(bench.Arrived(1, 105, 1), Is.EqualTo(new[] { "install #1 105+1 from 105 in 1" }));
        bench.Outcome(InstallOutcome.Installed, 1, 105, space: 1);
        Assert.That(bench.Resolved.Last().Space, Is.EqualTo(1));
        Assert.That(bench.Service.PendingFaults, Is.EqualTo(1), "the parent still waits");
    }

    [Test]
    public void A_lost_lane_gives_back_what_it_carried_and_waits_go_to_another()
    {
        ServiceBench bench = Bench(new TransferOptions { Lanes = 2 });
        bench.Policy.Idle = (_, plan) => plan.Add(0, 4, Cause.Background);
        Assert.That(bench.Idle(), Is.EqualTo(new[] { "request #0 100+4 Background lane 1" }));
        Assert.That(bench.Fault(105), Is.EqualTo(new[] { "request #1 105+1 Demand lane 0" }));
        bench.Arrived(0, 100, 1);
        bench.Outcome(InstallOutcome.Installed, 0, 100);
        Assert.That(bench.Send(ServiceEventKind.LaneDown, lane: 0),
            Is.EqualTo(new[] { "release #1", "request #1 105+1 Demand lane 1" }));
        Assert.That(bench.Send(ServiceEventKind.LaneDown, lane: 1), Is.EqualTo(new[] { "release #0", "release #1" }).Or.EqualTo(new[] { "release #1", "release #0" }));
        Assert.That((bench.Map[0], bench.Map[1], bench.Map[5]), Is.EqualTo((PageState.Resident, PageState.Lazy, PageState.Lazy)));
        Assert.That(bench.Idle(), Is.EqualTo(Nothing));
        Assert.That(bench.Send(ServiceEventKind.LaneUp, lane: 1), Has.Length.EqualTo(1).And.All.Contains("105+1 Demand lane 1"));
    }

    [Test]
    public void A_lane_lost_while_an_install_waits_for_another_try_forgets_the_try()
    {
        ServiceBench bench = Bench(new TransferOptions { Lanes = 1 });
        bench.Fault(105);
        bench.Arrived(0, 105, 1);
        bench.Outcome(InstallOutcome.Again, 0, 105);
        Assert.That(bench.Send(ServiceEventKind.LaneDown), Is.EqualTo(new[] { "release #0" }));
        Assert.That(bench.Idle(), Is.EqualTo(Nothing));
        Assert.That(bench.Send(ServiceEventKind.LaneUp), Is.EqualTo(new[] { "request #0 105+1 Demand lane 0" }));
    }

    [Test]
    public void Drain_moves_everything_whatever_the_policy()
    {
        ServiceBench bench = Bench(new TransferOptions { Lanes = 1, MaxInFlight = 20 * 4096, MaxRequest = 16 * 4096 });
        Assert.That(bench.Idle(), Is.EqualTo(Nothing));
        bench.Send(ServiceEventKind.Drain);
        Assert.That(bench.Idle(), Is.EqualTo(new[] { "request #0 100+16 Background lane 0", "request #1 116+4 Background lane 0" }));
        bench.Arrived(0, 100, 16);
        bench.Outcome(InstallOutcome.Installed, 0, 100, 16);
        Assert.That(bench.Idle(), Is.EqualTo(new[] { "request #0 120+4 Background lane 0", "request #2 200+8 Background lane 0" }));
        Assert.That(bench.Service.IsComplete, Is.False);
        foreach ((int id, ulong page, long count) in new[] { (1, 116ul, 4L), (0, 120ul, 4L), (2, 200ul, 8L) })
        {
            bench.Arrived(id, page, count);
            bench.Outcome(InstallOutcome.Installed, id, page, count);
        }
        Assert.That(bench.Service.IsComplete);
        Assert.That(bench.Idle(), Is.EqualTo(Nothing));
        Assert.That(bench.Service.WantsIdle, Is.False);
    }

    [Test]
    public void What_a_policy_proposes_is_clipped_to_lazy_pages_areas_budget_and_request_size()
    {
        ServiceBench bench = Bench(new TransferOptions { Lanes = 3, MaxInFlight = 16 * 4096, MaxRequest = 8 * 4096 });
        Serve(bench, 102);
        bench.Policy.Idle = (_, plan) =>
        {
            plan.Add(-5, 9, Cause.Prefetch);
            plan.Add(20, 1_000_000, Cause.Demand);
            plan.Add(5, 100, Cause.Prefetch);
        };
        Assert.That(bench.Idle(), Is.EqualTo(new[]
        {
            "request #0 100+2 Prefetch lane 1", "request #1 103+1 Prefetch lane 1",
            "request #2 120+4 Background lane 2", "request #3 200+8 Background lane 2",
            "request #4 105+8 Prefetch lane 1", "request #5 113+5 Prefetch lane 1",
        }));
        Assert.That(bench.Idle(), Is.EqualTo(Nothing), "the budget of prefetch is used up, and nothing else is proposed that is lazy");
        Assert.That(bench.Fault(118), Is.EqualTo(new[] { "request #6 118+1 Demand lane 0" }), "demand is never held back");
    }

    [Test]
    public void Exclusive_background_is_one_range_and_only_while_nothing_is_in_flight()
    {
        ServiceBench bench = Bench(TransferOptions.Criu);
        bench.Policy.Idle = (map, plan) => plan.Add(map.NextLazy(0, map.Count), 2, Cause.Background);
        bench.Fault(110);
        Assert.That(bench.Idle(), Is.EqualTo(Nothing));
        bench.Arrived(0, 110, 1);
        bench.Outcome(InstallOutcome.Installed, 0, 110);
        Assert.That(bench.Idle(), Is.EqualTo(new[] { "request #0 100+2 Background lane 0" }));
        Assert.That(bench.Idle(), Is.EqualTo(Nothing));
        // A wait that nothing is in flight for (a zero page that has to be touched again) holds nothing up.
        bench.Arrived(0, 100, 2);
        bench.Outcome(InstallOutcome.Installed, 0, 100, 2);
        bench.Fault(130);
        bench.Outcome(InstallOutcome.Again, -1, 130);
        Assert.That(bench.Idle(), Is.EqualTo(new[] { "request #0 102+2 Background lane 0" }));
    }

    [Test]
    public void A_thread_that_faults_elsewhere_waits_for_nothing_before()
    {
        ServiceBench bench = Bench();
        bench.Fault(105);
        bench.Fault(106);
        Assert.That(bench.Service.PendingFaults, Is.EqualTo(1));
        bench.Arrived(0, 105, 1);
        bench.Outcome(InstallOutcome.Installed, 0, 105);
        Assert.That(bench.Resolved, Is.Empty);
    }

    [Test]
    public void Broken_invariants_fail_fast()
    {
        ServiceBench bench = Bench();
        bench.Fault(105);
        Assert.That(() => bench.Arrived(7, 105, 1), Throws.InvalidOperationException);
        Assert.That(() => bench.Arrived(0, 104, 2), Throws.InvalidOperationException);
        Assert.That(() => bench.Fault(105, space: 9), Throws.InvalidOperationException);
        Assert.That(() => bench.Forked(0), Throws.InvalidOperationException);
        Assert.That(() => Bench(new TransferOptions { Lanes = 0 }), Throws.TypeOf<BadInputException>());
    }

    [Test]
    public void The_hash_depends_on_what_is_commanded_and_on_nothing_else()
    {
        ServiceBench a = Bench(), b = Bench(), c = Bench();
        a.Fault(105);
        a.Arrived(0, 105, 1);
        b.Idle();
        b.Fault(105);
        b.Arrived(0, 105, 1);
        c.Fault(106);
        c.Arrived(0, 106, 1);
        Assert.That(a.Service.CommandHash, Is.EqualTo(b.Service.CommandHash));
        Assert.That(a.Service.CommandHash, Is.Not.EqualTo(c.Service.CommandHash));
    }

    private static void Serve(ServiceBench bench, ulong page)
    {
        bench.Fault(page);
        bench.Arrived(0, page, 1);
        bench.Outcome(InstallOutcome.Installed, 0, page);
    }
}
