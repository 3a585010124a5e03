using Testbed.Core;

namespace Testbed.Policies;

/// <summary>
/// Hot regions first: the background transfer takes the region with the most touches, in address order, then the next.
/// Touches are those of the recordings, if there are any, and each fault adds one; among equals the lower address goes
/// first. A region that was begun is finished unless another became hotter.
/// </summary>
/// <remarks>
/// Heat by region is DAMON's idea of a process's memory, with regions of one size rather than splitting and merging
/// ones; first touches of pages stand for its sampled accesses.
/// </remarks>
[Policy("hot-first", "the rest by regions, those with the most touches and faults first",
    Source = "Park et al., Profiling Dynamic Data Access Patterns with Controlled Overhead and Quality, Middleware 2019; Linux, mm/damon")]
public sealed class HotFirstPolicy : IPolicy
{
    private readonly int _region;
    private readonly long _count;
    private readonly int[] _heat;
    private readonly int[] _heap;
    private readonly int[] _place;
    private int _size;
    private SequentialFill _fill;

    /// <summary>Heat from the environment's recording.</summary>
    public HotFirstPolicy(
        PolicyEnvironment environment,
        [PolicyOption("pages in a region; 512 is 2 MiB", Min = 1, Max = 1 << 30)] int region = 512)
    {
        (_region, _count) = (region, environment.Map.Count);
        _size = (int)((_count + region - 1) / region);
        (_heat, _heap, _place) = (new int[_size], new int[_size], new int[_size]);
        foreach (IReadOnlyList<PageNumber> run in Recordings.RunsOf(environment.Recording))
        {
            foreach (int index in RecordedPages.Indices(environment.Map, run))
                _heat[index / region]++;
        }
        for (int r = 0; r < _size; r++)
            _heap[r] = r;
        Array.Sort(_heap, (a, b) => Hotter(a, b) ? -1 : Hotter(b, a) ? 1 : 0);
        for (int i = 0; i < _size; i++)
            _place[_heap[i]] = i;
    }

    /// <inheritdoc/>
    public void OnFault(in PolicyFault fault, PageMap map, Plan plan)
    {
        if (fault.State == PageState.Hole)
            return;
        int region = (int)(fault.Index / _region);
        _heat[region]++;
        if (_place[region] >= 0)
            Rise(_place[region]);
    }

    /// <inheritdoc/>
    public void OnIdle(PageMap map, Plan plan)
    {
        if (plan.BackgroundBudget == 0)
            return;
        while (_size > 0)
        {
            long first = (long)_heap[0] * _region;
            long next = map.NextLazy(first, Math.Min(_count, first + _region));
            if (next >= 0)
            {
                long end = EndOfEquals(_heap[0], plan.BackgroundBudget);
                plan.Add(next, map.LazyRun(next, Math.Min(end, next + plan.BackgroundBudget)), Cause.Background);
                return;
            }
            Pop();
        }
        // What a lost lane left behind.
        _fill.Propose(map, plan);
    }

    /// <summary>Where the regions end that follow a hottest one and are as hot, as far as the budget reaches: they are next in any case, and where no
    /// region is hotter than others, pieces of regions would cost a fifth of the rate (measured).</summary>
    private long EndOfEquals(int hottest, long budget)
    {
        int last = hottest;
        while (last + 1 < _heat.Length && _heat[last + 1] == _heat[hottest] && (long)(last - hottest) * _region < budget)
            last++;
        return Math.Min(_count, (last + 1L) * _region);
    }

    private bool Hotter(int a, int b) => _heat[a] > _heat[b] || (_heat[a] == _heat[b] && a < b);

    private void Pop()
    {
        _place[_heap[0]] = -1;
        int last = _heap[--_size];
        if (_size == 0)
            return;
        int at = 0;
        while (true)
        {
            int child = 2 * at + 1;
            if (child + 1 < _size && Hotter(_heap[child + 1], _heap[child]))
                child++;
            if (child >= _size || !Hotter(_heap[child], last))
                break;
            Put(_heap[child], at);
            at = child;
        }
        Put(last, at);
    }

    private void Rise(int at)
    {
        int region = _heap[at];
        for (; at > 0 && Hotter(region, _heap[(at - 1) / 2]); at = (at - 1) / 2)
            Put(_heap[(at - 1) / 2], at);
        Put(region, at);
    }

    private void Put(int region, int at) => (_heap[at], _place[region]) = (region, at);
}
