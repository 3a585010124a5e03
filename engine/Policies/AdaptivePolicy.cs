using Testbed.Core;

namespace Testbed.Policies;

/// <summary>
/// Learns online which of several predictors pays on this process, and bounds the harm of a wrong one. Each predictor
/// (the pages above the fault, those below, the stride of the thread, the successors in a recording) proposes a run; at
/// regular turns one of its pages, the probe, is not fetched. A probe that is then demanded was predicted rightly; one
/// that is not within a number of faults was not. A predictor starts with probes only, and earns its depth: it doubles
/// with right probes and halves with wrong ones, down to nothing, where it is watched at no cost.
/// </summary>
/// <remarks>
/// Why probes: a page that was prefetched and is touched makes no event under userfaultfd, so a policy cannot see its
/// own successes; what it withholds, it can. The harm is bounded: nothing is fetched for a predictor before it was right,
/// and never more than debt pages since it was last seen right, so that all pages fetched in vain are at most debt times
/// the right probes. A predictor that becomes wrong is also halved by each few probes; a right one loses its probes,
/// every second page at first and one in 32 from depth 16 on. A probe that the background transfer brings first decides nothing.
/// </remarks>
[Policy("adaptive", "ours: tries several predictors, measures each by pages withheld, deepens those that pay",
    Source = "this testbed; after Srinath et al., Feedback Directed Prefetching, HPCA 2007 (accuracy sets the depth)")]
public sealed class AdaptivePolicy : IPolicy
{
    private enum Predictor { Up, Down, Trend, Recorded }

    private struct Standing
    {
        public int Depth, Score, Turn, Unproven;
    }

    private struct Probe
    {
        public long Page, Expires;
        public Predictor By;
        public bool Open;
    }

    private const int Predictors = 4, Probes = 1024, EnoughScore = 4;
    private readonly int _maxDepth, _patience, _worth, _debt;
    private readonly bool _background;
    private readonly Standing[] _standings = new Standing[Predictors];
    private readonly Probe[] _probes = new Probe[Probes];
    private readonly ThreadTrends _trends = new(64);
    private readonly int[] _recorded;
    private readonly Dictionary<long, int> _place;
    private long _faults;
    private int _sweep;
    private SequentialFill _fill;

    /// <summary>Knows the environment's recording, if there is one.</summary>
    public AdaptivePolicy(
        PolicyEnvironment environment,
        [PolicyOption("pages that one predictor may add to a fault, at most", Min = 1, Max = 4096)] int maxDepth = 64,
        [PolicyOption("faults after which a page that was withheld and not demanded counts as wrong", Min = 1, Max = 1 << 30)] int patience = 512,
        [PolicyOption("wrong probes that a right one outweighs: what prefetching in vain costs, beside a fault", Min = 1, Max = 64)] int worth = 4,
        [PolicyOption("pages fetched for a predictor since it was last seen right, at most", Min = 1, Max = 1 << 30)] int debt = 128,
        [PolicyOption("whether to use the recording")] bool recorded = false,
        [PolicyOption("whether to move the rest while idle")] bool background = true)
    {
        (_maxDepth, _patience, _worth, _debt, _background) = (maxDepth, patience, worth, debt, background);
        _recorded = recorded ? RecordedPages.Indices(environment) : [];
        _place = new Dictionary<long, int>(_recorded.Length);
        for (int i = 0; i < _recorded.Length; i++)
            _place.Add(_recorded[i], i);
    }

    /// <inheritdoc/>
    public void OnFault(in PolicyFault fault, PageMap map, Plan plan)
    {
        if (fault.State == PageState.Hole)
            return;
        _faults++;
        Settle(fault.Index);
        Expire(map);
        long trend = _trends.Learn(fault.Thread, fault.Index, _maxDepth);
        Propose(Predictor.Up, fault.Index, 1, map, plan);
        Propose(Predictor.Down, fault.Index, -1, map, plan);
        if (trend is not (0 or 1 or -1))
            Propose(Predictor.Trend, fault.Index, trend, map, plan);
        if (_place.TryGetValue(fault.Index, out int place))
            ProposeRecorded(place, map, plan);
    }

    /// <inheritdoc/>
    public void OnIdle(PageMap map, Plan plan)
    {
        if (_background)
            _fill.Propose(map, plan);
    }

    private void Propose(Predictor by, long page, long step, PageMap map, Plan plan)
    {
        (long first, long end) = map.AreaBounds(page);
        ref Standing s = ref _standings[(int)by];
        RunBuilder run = default;
        page += step;
        for (int i = 0; i < Math.Max(1, s.Depth) && page >= first && page < end; i++, page += step)
            Take(by, ref s, page, map, ref run, plan);
        run.Flush(plan);
    }

    private void ProposeRecorded(int place, PageMap map, Plan plan)
    {
        ref Standing s = ref _standings[(int)Predictor.Recorded];
        int end = Math.Min(_recorded.Length, place + 1 + Math.Max(1, s.Depth));
        RunBuilder run = default;
        for (int i = place + 1; i < end; i++)
            Take(Predictor.Recorded, ref s, _recorded[i], map, ref run, plan);
        run.Flush(plan);
    }

    /// <summary>Fetches a page, or withholds it as a probe when it is the turn of one.</summary>
    private void Take(Predictor by, ref Standing s, long page, PageMap map, ref RunBuilder run, Plan plan)
    {
        if (map[page] != PageState.Lazy)
            return;
        ref Probe probe = ref SlotOf(page);
        // What one predictor withholds, no other may fetch: it would hide the answer.
        if (probe.Open && probe.Page == page)
            return;
        bool turn = --s.Turn <= 0;
        if (turn)
            s.Turn = Math.Clamp(2 * s.Depth, 2, 32);
        if ((turn || s.Depth == 0) && !probe.Open)
            probe = new Probe { Open = true, Page = page, By = by, Expires = _faults + _patience };
        else if (s.Depth > 0 && s.Unproven < _debt)
        {
            run.Add(page, plan);
            s.Unproven++;
        }
    }

    private void Settle(long page)
    {
        ref Probe probe = ref SlotOf(page);
        if (!probe.Open || probe.Page != page)
            return;
        probe.Open = false;
        Judge(probe.By, _worth);
    }

    /// <summary>Looks at a few probes a fault, in turn: each is seen in time.</summary>
    private void Expire(PageMap map)
    {
        for (int i = 0; i < 4; i++)
        {
            ref Probe probe = ref _probes[_sweep++ & (Probes - 1)];
            if (!probe.Open || (map[probe.Page] == PageState.Lazy && probe.Expires > _faults))
                continue;
            probe.Open = false;
            if (map[probe.Page] == PageState.Lazy)
                Judge(probe.By, -1);
        }
    }

    private void Judge(Predictor by, int verdict)
    {
        ref Standing s = ref _standings[(int)by];
        s.Score += verdict;
        if (verdict > 0)
            s.Unproven = 0;
        if (s.Score >= EnoughScore)
            (s.Score, s.Depth) = (0, Math.Min(_maxDepth, Math.Max(1, s.Depth * 2)));
        else if (s.Score <= -EnoughScore)
            (s.Score, s.Depth) = (0, s.Depth / 2);
    }

    private ref Probe SlotOf(long page) => ref _probes[(int)((ulong)page * 0x9E3779B97F4A7C15 >> 54)];
}
