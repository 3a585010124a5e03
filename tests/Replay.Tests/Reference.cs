using Testbed.Core;
using Testbed.Replay;

namespace Replay.Tests;

/// <summary>
/// The same world as <see cref="Simulation"/>, written a second time, page by page, without fault service, link
/// scheduler, bitmaps or heap: lists, searched from the start each time. Which pages to ask for is said by a
/// <see cref="IChooser"/>. Two things at the same nanosecond have no order here; then it says so and the case does not count.
/// </summary>
internal sealed class Reference
{
    internal sealed class Page(int area, PageState state)
    {
        public readonly int Area = area;
        public PageState State = state;
        public long FirstTouch = -1;
        public bool FirstTouchWaited;
        public bool Prefetched;
        public Cause Cause;
    }

    private sealed record Reply(int First, int Pages, Cause Cause, int Lane)
    {
        public long Ready { get; set; }

        public int Left { get; set; } = Pages;
    }

    private sealed record Wait(int Thread, int Page, long Since, Cause Cause);

    private readonly Dictionary<int, long> _touchedAt = [];

    /// <summary>Thread or Reply tells which: a touch (due), a fault on its way, or pages on their way.</summary>
    private sealed record Happening(long Time, int Thread, bool IsFault, int First, int Pages, Reply? Reply);

    private readonly ReplayWorkload _workload;
    private readonly TransferOptions _transfer;
    private readonly LinkParameters _link;
    private readonly HostCosts _costs;
    private readonly IChooser _chooser;
    private readonly List<Page> _pages = [];
    private readonly int[] _cursor;
    private readonly long[] _serverFree;
    private readonly List<Happening> _happenings = [];
    private readonly List<Happening> _inbox = [];
    private readonly List<Reply>[] _queues;
    private readonly List<Wait> _waits = [];
    private long _linkFree, _daemon;
    private int _turn;
    private bool _busy;

    /// <param name="workload">What is touched.</param>
    /// <param name="options">Everything but the policy.</param>
    /// <param name="chooser">Says which pages to ask for.</param>
    public Reference(ReplayWorkload workload, ReplayOptions options, IChooser chooser)
    {
        (_workload, _link, _costs, _chooser) = (workload, options.Link, options.Costs, chooser);
        _transfer = options.Transfer!;
        for (int area = 0; area < workload.Image.Areas.Count; area++)
        {
            PageRange range = workload.Image.Areas[area].Range;
            for (PageNumber p = range.Start; p < range.End; p += 1)
                _pages.Add(new Page(area, workload.Image.Present.Any(r => r.Contains(p)) ? PageState.Lazy : PageState.Hole));
        }
        _cursor = new int[workload.Threads.Count];
        _serverFree = new long[_transfer.Lanes];
        _queues = [.. _serverFree.Select(_ => new List<Reply>())];
    }

    public bool IsAmbiguous { get; private set; }

    public List<long> Latencies { get; } = [];

    public List<(long Time, int Page, int Count, Cause Cause)> Installs { get; } = [];

    public long Demand { get; private set; }

    public long Late { get; private set; }

    public long Zero { get; private set; }

    public long Stall { get; private set; }

    public long Waiting { get; private set; }

    public long End { get; private set; }

    public long FirstResponse { get; private set; }

    public long Requested { get; private set; }

    public PrefetchCounts Prefetch => new(
        _pages.Count(p => p.Prefetched),
        _pages.Count(p => p is { Prefetched: true, FirstTouch: >= 0, FirstTouchWaited: false }),
        _pages.Count(p => p is { Prefetched: true, FirstTouch: >= 0, FirstTouchWaited: true }),
        _pages.Count(p => p is { Prefetched: true, FirstTouch: < 0 }));

    public void Run()
    {
        for (int thread = 0; thread < _cursor.Length; thread++)
            Schedule(thread, 0);
        Fill();
        _busy = true;
        while (true)
        {
            long next = _happenings.Count == 0 ? long.MaxValue : _happenings.Min(h => h.Time);
            long link = LinkStart();
            IsAmbiguous = _happenings.Count(h => h.Time == next) > 1 || (next == link && next != long.MaxValue);
            if (IsAmbiguous)
                return;
            // What happens while the daemon works, or at the very end of it, happens before it looks up.
            if (_busy && _daemon < Math.Min(next, link))
                LookUp();
            else if (next == long.MaxValue && link == long.MaxValue)
                return;
            else if (link < next)
                Depart(link);
            else
                Happen(_happenings.Single(h => h.Time == next));
        }
    }

    private void Schedule(int thread, long from)
    {
        TouchSequence touches = _workload.Threads[thread];
        if (_cursor[thread] == touches.Pages.Length)
            return;
        long saved = (_costs.FaultDelivery + _costs.ThreadWake).Nanoseconds;
        long think = Math.Max(0, touches.Think[_cursor[thread]] - saved);
        if (_pages.Exists(p => p.State == PageState.InFlight && p.Cause != Cause.Demand))
        {
            long slower = think * _costs.BulkThink.Nanoseconds / 1_000_000;
            think += slower;
            Waiting += slower;
        }
        _happenings.Add(new Happening(from + think, thread, false, (int)touches.Pages[_cursor[thread]], 1, null));
    }

    private void Happen(Happening h)
    {
        _happenings.Remove(h);
        if (h.Reply is null && !h.IsFault)
        {
            Touch(h);
            return;
        }
        _inbox.Add(h);
        if (_busy)
            return;
        _daemon = h.Time;
        LookUp();
    }

    private void Touch(Happening h)
    {
        Page page = _pages[h.First];
        bool waits = page.State != PageState.Resident;
        if (page.FirstTouch < 0)
            (page.FirstTouch, page.FirstTouchWaited) = (h.Time, waits);
        _touchedAt[h.Thread] = h.Time;
        if (waits)
            _happenings.Add(h with { Time = h.Time + _costs.FaultDelivery.Nanoseconds + (_link.IsUnshaped ? 0 : _costs.IdleWake.Nanoseconds), IsFault = true });
        else
            Touched(h.Thread, h.Time);
    }

    private void Touched(int thread, long time)
    {
        if (++_cursor[thread] == _workload.Threads[thread].BeforeFirstResponse)
            FirstResponse = Math.Max(FirstResponse, time);
        if (_cursor[thread] == _workload.Threads[thread].Pages.Length)
            End = Math.Max(End, time);
        Schedule(thread, time);
    }

    private void LookUp()
    {
        if (_inbox.Count > 0)
        {
            Happening h = _inbox[0];
            _inbox.RemoveAt(0);
            if (h.IsFault)
                Fault(h.Thread, h.First);
            else
                Install(h);
            _busy = true;
            return;
        }
        if (!Fill())
            _busy = false;
    }

    private void Fault(int thread, int index)
    {
        Page page = _pages[index];
        PageState before = page.State;
        _waits.Add(new Wait(thread, index, _daemon, before switch
        {
            PageState.Lazy => Cause.Demand,
            PageState.InFlight => page.Cause,
            _ => Cause.Zero,
        }));
        if (before == PageState.Lazy)
            Send(Take(index, 1, Cause.Demand));
        // A resident page is no news. The pages that a fault on a hole causes are taken at once, but asked for behind its answer.
        List<Reply> caused = before == PageState.Resident ? [] : Carry(_chooser.OnFault(new(_pages, Room(Cause.Prefetch), Room(Cause.Background)), index, before, thread));
        if (before is PageState.Hole or PageState.Resident)
        {
            page.State = PageState.Resident;
            _daemon += _costs.InstallPerCall.Nanoseconds + _costs.InstallPerPage.Nanoseconds + _costs.InstallWake.Nanoseconds;
            Answer(w => w.Page == index);
        }
        caused.ForEach(Send);
    }

    private bool Fill()
    {
        var asked = new List<Reply>();
        while (_pages.Exists(p => p.State == PageState.Lazy) && (IdleRoom(Cause.Prefetch) > 0 || IdleRoom(Cause.Background) > 0))
        {
            List<Reply> more = Carry(_chooser.OnIdle(new(_pages, IdleRoom(Cause.Prefetch), IdleRoom(Cause.Background))));
            asked.AddRange(more);
            if (more.Count == 0 || _transfer.ExclusiveBackground)
                break;
        }
        asked.ForEach(Send);
        return asked.Count > 0;
    }

    /// <summary>Takes what is lazy of each proposal, in requests that stay within an area, the largest size and the room.</summary>
    private List<Reply> Carry(IReadOnlyList<(long First, long Count, Cause Cause)> proposals)
    {
        var taken = new List<Reply>();
        foreach ((long first, long count, Cause cause) in proposals)
        {
            for (int i = (int)Math.Max(0, first); i < Math.Min(first + count, _pages.Count);)
            {
                long most = Math.Min(Room(cause), _transfer.MaxRequest / 4096);
                int run = LazyRun(i, (int)Math.Min(first + count, i + most));
                if (run > 0)
                    taken.Add(Take(i, run, cause));
                i += Math.Max(1, run);
            }
        }
        return taken;
    }

    private int Room(Cause cause)
    {
        if (_transfer.ExclusiveBackground && cause == Cause.Background && _pages.Exists(p => p.State == PageState.InFlight))
            return 0;
        return Math.Max(0, (int)(_transfer.MaxInFlight / 4096) - _pages.Count(p => p.State == PageState.InFlight && p.Cause == cause));
    }

    /// <summary>Idle, room for less than a request, and than an eighth of all that may be in flight, is none.</summary>
    private int IdleRoom(Cause cause)
    {
        int room = Room(cause);
        return room < Math.Min(_transfer.MaxRequest, _transfer.MaxInFlight / 8) / 4096 ? 0 : room;
    }

    private int LazyRun(int from, int end)
    {
        int i = from;
        while (i < end && i < _pages.Count && _pages[i].State == PageState.Lazy && _pages[i].Area == _pages[from].Area)
            i++;
        return i - from;
    }

    private Reply Take(int first, int count, Cause cause)
    {
        foreach (Page page in _pages.GetRange(first, count))
        {
            (page.State, page.Cause) = (PageState.InFlight, cause);
            page.Prefetched |= cause == Cause.Prefetch;
        }
        Requested += count;
        int lane = cause == Cause.Demand ? 0 : Math.Min(cause == Cause.Prefetch ? 1 : 2, _transfer.Lanes - 1);
        return new Reply(first, count, cause, lane);
    }

    private void Send(Reply reply)
    {
        _daemon += _costs.RequestSend.Nanoseconds;
        reply.Ready = Math.Max(_daemon + _costs.HostDelay.Nanoseconds, _serverFree[reply.Lane])
            + _costs.ServerPerRequest.Nanoseconds + reply.Pages * _costs.ServerPerPage.Nanoseconds;
        _serverFree[reply.Lane] = reply.Ready;
        _queues[reply.Lane].Add(reply);
    }

    private long LinkStart()
    {
        long ready = _queues.Where(q => q.Count > 0).Select(q => q[0].Ready).DefaultIfEmpty(long.MaxValue).Min();
        return Math.Max(ready, _linkFree);
    }

    private void Depart(long start)
    {
        while (_queues[_turn].Count == 0 || _queues[_turn][0].Ready > start)
            _turn = (_turn + 1) % _queues.Length;
        Reply reply = _queues[_turn][0];
        int pages = Math.Min(4, reply.Left);
        double seconds = _link.Rate.IsUnlimited ? 0 : pages * 4096 / _link.Rate.BytesPerSecond;
        _linkFree = start + (long)Math.Ceiling(seconds * 1e9);
        _happenings.Add(new Happening(
            _linkFree + _link.RoundTrip.Nanoseconds + (_link.IsUnshaped ? 0 : _costs.ShaperDelay.Nanoseconds), -1, false, reply.First + reply.Pages - reply.Left, pages, reply));
        reply.Left -= pages;
        if (reply.Left == 0)
            _queues[_turn].RemoveAt(0);
        _turn = (_turn + 1) % _queues.Length;
    }

    private void Install(Happening h)
    {
        _daemon += _costs.ReceivePerCall.Nanoseconds + h.Pages * _costs.ReceivePerPage.Nanoseconds;
        _daemon += _costs.InstallPerCall.Nanoseconds + h.Pages * _costs.InstallPerPage.Nanoseconds;
        if (_waits.Exists(w => w.Page >= h.First && w.Page < h.First + h.Pages))
            _daemon += _costs.InstallWake.Nanoseconds;
        foreach (Page page in _pages.GetRange(h.First, h.Pages))
            page.State = PageState.Resident;
        Installs.Add((_daemon, h.First, h.Pages, h.Reply!.Cause));
        Answer(w => w.Page >= h.First && w.Page < h.First + h.Pages);
    }

    private void Answer(Predicate<Wait> whom)
    {
        foreach (Wait wait in _waits.FindAll(whom))
        {
            _waits.Remove(wait);
            long latency = _daemon - wait.Since;
            Stall += latency;
            if (wait.Cause == Cause.Zero)
                Zero++;
            else
                Latencies.Add(latency);
            if (wait.Cause == Cause.Demand)
                Demand++;
            else if (wait.Cause != Cause.Zero)
                Late++;
            long running = _daemon + _costs.ThreadWake.Nanoseconds;
            Waiting += running - _touchedAt[wait.Thread];
            Touched(wait.Thread, running);
        }
    }
}
