using Testbed.Core;

namespace Testbed.Replay;

/// <summary>
/// Computes what no policy and no transfer configuration can beat: not a policy, which has to decide, but a relaxation
/// of the replay. Kept of the world: each page that is touched crosses the link before its touch is done; the link
/// carries one page after the other at its rate, and the first no earlier than a round trip; a thread thinks between its
/// touches as recorded; a page that was never dumped, touched by one thread alone, costs that thread a zero fault. Host
/// costs and requests are free otherwise.
/// </summary>
/// <remarks>
/// By the time the k-th of any k pages is in, r(k) = round trip + k page times have passed. Hence for the end of the
/// work: with the pages sorted by the think time that is still to come behind their touch, longest first, the end is no
/// earlier than r(k) plus the k-th of these tails, for each k. Sending in that order is optimal for one machine with
/// delivery times (Jackson's rule; Lawler, Lenstra, Rinnooy Kan and Shmoys, Sequencing and Scheduling, 1993, section 4),
/// so a link without host costs attains the bound. For the sum over threads: the k-th thread to end has ended no earlier
/// than the k-th shortest of the ends that they would have alone on the link, nor before all pages of k threads have
/// come, each page counted for one thread; the last, not before the end of the work. That sum is not always attained.
/// Cost: a sort of the touches.
/// </remarks>
public static class LowerBound
{
    /// <summary>The bound of a workload over a link.</summary>
    /// <param name="workload">What is touched.</param>
    /// <param name="link">What has to be crossed.</param>
    /// <param name="costs">Of these, the delivery, install and wake-up of zero pages count, and what the recorded think time holds of them.</param>
    public static LinkBound Of(ReplayWorkload workload, LinkParameters link, HostCosts costs)
    {
        var world = new World(workload, link, costs);
        Duration? response = workload.FirstResponseTail is { } tail
            ? world.End([.. workload.Threads.Select(t => t.BeforeFirstResponse)]) + tail : null;
        int[] all = [.. workload.Threads.Select(t => t.Pages.Length)];
        Duration end = world.End(all);
        return new LinkBound(end, response, world.Waiting(end), new Duration(world.Carried(workload.Image.PresentPages)));
    }

    private sealed class World
    {
        private const int Nobody = -1, Several = -2;
        private readonly ReplayWorkload _workload;
        private readonly LinkParameters _link;
        private readonly PageMap _map;
        private readonly long _thinkSaved, _zeroFault;

        /// <summary>Which thread touches each page, if one alone does.</summary>
        private readonly int[] _toucher;

        public World(ReplayWorkload workload, LinkParameters link, HostCosts costs)
        {
            (_workload, _link, _map) = (workload, link, new PageMap(workload.Image));
            _thinkSaved = (costs.FaultDelivery + costs.ThreadWake).Nanoseconds;
            _zeroFault = (costs.FaultDelivery + costs.InstallPerCall + costs.InstallPerPage + costs.InstallWake + costs.ThreadWake).Nanoseconds;
            _toucher = new int[_map.Count];
            Array.Fill(_toucher, Nobody);
            for (int t = 0; t < workload.Threads.Count; t++)
            {
                foreach (uint page in workload.Threads[t].Pages)
                    _toucher[page] = _toucher[page] == Nobody || _toucher[page] == t ? t : Several;
            }
        }

        /// <summary>When so many pages can have come, at the earliest. Rounded down, where the link rounds each part up.</summary>
        public long Carried(long pages)
        {
            if (pages == 0)
                return 0;
            double wire = _link.Rate.IsUnlimited ? 0 : pages * PageNumber.Size * 1e9 / _link.Rate.BytesPerSecond;
            return _link.RoundTrip.Nanoseconds + (long)wire;
        }

        /// <summary>When all threads have done their first so many touches, at the earliest.</summary>
        public Duration End(int[] touches)
        {
            var longestTail = new Dictionary<uint, long>();
            long end = 0;
            for (int t = 0; t < touches.Length; t++)
            {
                TouchSequence sequence = _workload.Threads[t];
                long[] own = OwnTime(t, touches[t]);
                long tail = 0;
                for (int i = touches[t] - 1; i >= 0; i--)
                {
                    uint page = sequence.Pages[i];
                    if (_map[page] == PageState.Lazy && (!longestTail.TryGetValue(page, out long longest) || longest < tail))
                        longestTail[page] = tail;
                    tail += own[i];
                }
                end = Math.Max(end, tail);
            }
            long[] tails = [.. longestTail.Values];
            Array.Sort(tails);
            for (int k = 1; k <= tails.Length; k++)
                end = Math.Max(end, Carried(k) + tails[^k]);
            return new Duration(end);
        }

        /// <summary>What all threads together wait at least.</summary>
        public Duration Waiting(Duration endOfWork)
        {
            int threads = _workload.Threads.Count;
            var ends = new long[threads];
            var pages = new long[threads];
            long thinking = 0;
            var counted = new HashSet<uint>();
            for (int t = 0; t < threads; t++)
            {
                TouchSequence sequence = _workload.Threads[t];
                ends[t] = Alone(sequence, OwnTime(t, sequence.Pages.Length));
                pages[t] = sequence.Pages.Count(p => _map[p] == PageState.Lazy && counted.Add(p));
                foreach (long think in sequence.Think)
                    thinking += Math.Max(0, think - _thinkSaved);
            }
            Array.Sort(ends);
            Array.Sort(pages);
            long sum = 0, come = 0;
            for (int k = 0; k < threads; k++)
            {
                come += pages[k];
                long last = k == threads - 1 ? endOfWork.Nanoseconds : 0;
                sum += Math.Max(Math.Max(ends[k], Carried(come)), last);
            }
            return new Duration(sum - thinking);
        }

        /// <summary>The end of a thread that has the link to itself, and its pages in the order of its touches.</summary>
        private long Alone(TouchSequence sequence, long[] own)
        {
            var come = new HashSet<uint>();
            long now = 0;
            for (int i = 0; i < own.Length; i++)
            {
                now += own[i];
                if (_map[sequence.Pages[i]] == PageState.Lazy && come.Add(sequence.Pages[i]))
                    now = Math.Max(now, Carried(come.Count));
            }
            return now;
        }

        /// <summary>Before each touch and in it, what the thread spends whatever the policy: thinking, and zero faults.</summary>
        private long[] OwnTime(int thread, int touches)
        {
            TouchSequence sequence = _workload.Threads[thread];
            var seen = new HashSet<uint>();
            var own = new long[touches];
            for (int i = 0; i < touches; i++)
            {
                uint page = sequence.Pages[i];
                own[i] = Math.Max(0, sequence.Think[i] - _thinkSaved);
                if (_map[page] == PageState.Hole && _toucher[page] == thread && seen.Add(page))
                    own[i] += _zeroFault;
            }
            return own;
        }
    }
}
