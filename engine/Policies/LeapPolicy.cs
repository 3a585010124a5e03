using Testbed.Core;

namespace Testbed.Policies;

/// <summary>
/// Leap: the majority of the latest page-to-page distances is the trend (Boyer-Moore over a window that doubles from
/// history / split to the whole history), and the prefetch window follows the hits since the last prefetch: hits + 1
/// rounded up to a power of two, one page when there were none but the fault follows the trend, none otherwise; it never
/// shrinks to less than half. Without a trend the window lies around the fault, at the distance of the latest trend.
/// </summary>
/// <remarks>
/// Mapped: Leap's swap offsets are page indices here, its page cache is what was prefetched and is in or in flight, and
/// its cache hits, which make no event under userfaultfd, are presumed as <see cref="ExpectedTouches"/> says. Leap
/// isolates processes: one history serves one address space. Leap itself moves nothing in the background.
/// </remarks>
[Policy("leap", "the majority trend of recent distances, over a window that grows with hits",
    Source = "Maruf and Chowdhury, Effectively Prefetching Remote Memory with Leap, USENIX ATC 2020, section 3.2, algorithms 1 and 2")]
public sealed class LeapPolicy(
    [PolicyOption("distances remembered (Hsize)", Min = 2, Max = 4096)] int history = 32,
    [PolicyOption("the first window over them is history / split (Nsplit)", Min = 1, Max = 4096)] int split = 4,
    [PolicyOption("pages prefetched at most (PWsize max)", Min = 1, Max = 65536)] int maxWindow = 8,
    [PolicyOption("whether to move the rest while idle")] bool background = true) : IPolicy
{
    private readonly long[] _distances = new long[history];
    private readonly ExpectedTouches _expected = new(maxWindow + 1);
    private int _head, _filled;
    private long _last = -1;
    private long _latestTrend;
    private int _hits, _window;
    private SequentialFill _fill;

    /// <inheritdoc/>
    public void OnFault(in PolicyFault fault, PageMap map, Plan plan)
    {
        if (fault.State == PageState.Hole)
            return;
        int presumed = _expected.Find(fault.Index);
        for (int i = 0; i < presumed; i++)
            Touch(_expected[i]);
        _hits += Math.Max(0, presumed);
        long before = FindTrend();
        bool follows = before != 0 && _last >= 0 && fault.Index - _last == before;
        Touch(fault.Index);
        if (presumed >= 0 && fault.State == PageState.InFlight)
        {
            _hits++;
            _expected.Skip(presumed + 1);
            return;
        }
        Prefetch(fault.Index, Window(follows), map, plan);
    }

    /// <inheritdoc/>
    public void OnIdle(PageMap map, Plan plan)
    {
        if (background)
            _fill.Propose(map, plan);
    }

    private void Touch(long page)
    {
        if (_last >= 0)
        {
            _distances[_head] = page - _last;
            _head = (_head + 1) % history;
            _filled = Math.Min(history, _filled + 1);
        }
        _last = page;
    }

    private int Window(bool follows)
    {
        int window = _hits == 0 ? (follows ? 1 : 0) : (int)System.Numerics.BitOperations.RoundUpToPowerOf2((uint)_hits + 1);
        window = Math.Max(Math.Min(window, maxWindow), _window / 2);
        (_hits, _window) = (0, window);
        return window;
    }

    private void Prefetch(long page, int window, PageMap map, Plan plan)
    {
        _expected.Clear();
        if (window == 0)
            return;
        long trend = FindTrend();
        bool around = trend == 0;
        if (around && _latestTrend == 0)
            return;
        _latestTrend = around ? _latestTrend : trend;
        (long first, long end) = map.AreaBounds(page);
        RunBuilder run = default;
        for (int i = 1; i <= window; i++)
        {
            long steps = !around ? i : (i & 1) != 0 ? (i + 1) / 2 : -(i / 2);
            long next = page + steps * _latestTrend;
            if (!around)
                _expected.Add(next);
            if (next >= first && next < end)
                run.Add(next, plan);
        }
        run.Flush(plan);
        if (!around)
            _expected.Add(page + (window + 1) * trend);
    }

    /// <summary>The distance that more than half of the latest have; 0 when there is none.</summary>
    private long FindTrend()
    {
        for (int w = Math.Max(1, history / split); ; w *= 2)
        {
            int n = Math.Min(w, _filled);
            long candidate = Majority(n);
            if (candidate != 0 || n == _filled || w * 2 > history)
                return candidate;
        }
    }

    private long Majority(int n)
    {
        long candidate = 0;
        int votes = 0;
        for (int i = 1; i <= n; i++)
        {
            long distance = Latest(i);
            if (votes == 0)
                candidate = distance;
            votes += distance == candidate ? 1 : -1;
        }
        int count = 0;
        for (int i = 1; i <= n; i++)
            count += Latest(i) == candidate ? 1 : 0;
        return count * 2 > n ? candidate : 0;
    }

    private long Latest(int i) => _distances[_head >= i ? _head - i : _head - i + history];
}
