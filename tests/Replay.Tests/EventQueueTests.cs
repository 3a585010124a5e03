using NUnit.Framework;
using Testbed.Replay;

namespace Replay.Tests;

/// <summary>The queue beside a list that is searched from the start each time.</summary>
[TestFixture]
public sealed class EventQueueTests
{
    [Test]
    public void Events_come_by_time_and_equal_times_in_the_order_in_which_they_were_told([Values(1, 2, 4, 5, 16, 17, 25, 100)] int threads, [Values(3, 1000)] int spread)
    {
        var random = new Random(threads * spread);
        var queue = new EventQueue(threads);
        var list = new List<(long Time, int Order, SimEventKind Kind, int A)>();
        long now = 0, lastArrival = 0;
        int order = 0, request = 0;
        for (int i = 0; i < 20_000; i++)
        {
            long time = now + random.Next(spread);
            int thread = random.Next(threads);
            bool Waits(SimEventKind kind, int a) => list.Exists(e => e.A == a && (e.Kind == kind || kind == SimEventKind.Thread && e.Kind == SimEventKind.Fault));
            switch (random.Next(5))
            {
                case 0 when !Waits(SimEventKind.Thread, thread):
                    SimEventKind kind = random.Next(2) == 0 ? SimEventKind.Thread : SimEventKind.Fault;
                    queue.PushThread(time, kind, thread);
                    list.Add((time, order++, kind, thread));
                    break;
                case 1:
                    lastArrival = Math.Max(lastArrival, time);
                    queue.PushArrival(lastArrival, request, 1);
                    list.Add((lastArrival, order++, SimEventKind.Arrival, request++));
                    break;
                case 2 when !Waits(SimEventKind.Link, 0):
                    queue.SetLink(time);
                    list.Add((time, order++, SimEventKind.Link, 0));
                    break;
                case 3 when !Waits(SimEventKind.DaemonFree, 0):
                    queue.SetDaemonFree(time);
                    list.Add((time, order++, SimEventKind.DaemonFree, 0));
                    break;
                default:
                    now = TakeNext(queue, list, now);
                    break;
            }
        }
        while (list.Count > 0)
            now = TakeNext(queue, list, now);
        Assert.That(queue.Next(out _, out _, out _), Is.EqualTo(SimEventKind.None));
    }

    private static long TakeNext(EventQueue queue, List<(long Time, int Order, SimEventKind Kind, int A)> list, long now)
    {
        if (list.Count == 0)
        {
            Assert.That(queue.NextTime, Is.EqualTo(long.MaxValue));
            return now;
        }
        (long Time, int Order, SimEventKind Kind, int A) next = list.Min();
        list.Remove(next);
        Assert.That(queue.NextTime, Is.EqualTo(next.Time));
        SimEventKind kind = queue.Next(out long time, out int a, out _);
        Assert.That((time, kind, a), Is.EqualTo((next.Time, next.Kind, next.A)));
        return next.Time;
    }
}
