namespace Testbed.Core;

/// <summary>A link between page server and daemon.</summary>
/// <param name="Rate">What it carries, from server to daemon; requests are so small that they count as nothing.</param>
/// <param name="RoundTrip">Propagation there and back. The whole of it is added to the reply.</param>
public readonly record struct LinkParameters(ByteRate Rate, Duration RoundTrip)
{
    /// <summary>As fast as the host.</summary>
    public static LinkParameters Unshaped => default;

    /// <summary>Whether anything has to be added to what the host does by itself.</summary>
    public bool IsUnshaped => Rate.IsUnlimited && RoundTrip == Duration.Zero;
}

/// <summary>A part of a reply that the link has carried.</summary>
/// <param name="Lane">Whose reply.</param>
/// <param name="Tag">The caller's name for the reply.</param>
/// <param name="Bytes">How much of it.</param>
/// <param name="IsLast">Whether this completes it.</param>
/// <param name="Due">When these bytes reach the daemon.</param>
public readonly record struct Departure(int Lane, int Tag, long Bytes, bool IsLast, Instant Due);

/// <summary>
/// Who may send when on a shaped link: replies queue per lane, first in first out; lanes take turns, a quantum each,
/// as flows at a fair bottleneck do. Time is an input, so that the live shaper and the replay run the same rules.
/// A late caller loses no bandwidth: a quantum starts when the link was free and its reply there, not when somebody looked.
/// </summary>
public sealed class LinkScheduler
{
    private readonly LinkParameters _link;
    private readonly long _quantum;
    private readonly ReplyQueue[] _lanes;

    // When the first reply of each lane is ready, and the least of that; Never where none is queued.
    private readonly Instant[] _ready;
    private Instant _free = Instant.Zero;
    private Instant _earliest = Instant.Never;
    private int _queued;
    private long _timedBytes = -1;
    private Duration _timed;
    private int _turn;

    /// <summary>Lanes take turns every <paramref name="quantum"/> bytes.</summary>
    public LinkScheduler(LinkParameters link, int lanes, long quantum = 16 * 1024)
    {
        _link = link;
        _quantum = quantum;
        _lanes = [.. Enumerable.Range(0, lanes).Select(_ => new ReplyQueue())];
        _ready = new Instant[lanes];
        Array.Fill(_ready, Instant.Never);
    }

    /// <summary>The reply <paramref name="tag"/> of <paramref name="bytes"/> bytes is ready to be sent at
    /// <paramref name="now"/>, which on one lane never runs backwards.</summary>
    public void Enqueue(int lane, int tag, long bytes, Instant now)
    {
        ReplyQueue queue = _lanes[lane];
        _queued++;
        if (queue.Count == 0)
        {
            _ready[lane] = now;
            _earliest = now < _earliest ? now : _earliest;
        }
        queue.Add(tag, bytes, now);
    }

    /// <summary>Forgets what is queued on a lane that was cut.</summary>
    public void Clear(int lane)
    {
        _queued -= _lanes[lane].Count;
        _lanes[lane].Clear();
        FindEarliest(lane);
    }

    /// <summary>When <see cref="TryDepart"/> will next succeed; Never when nothing is queued.</summary>
    public Instant NextStart => Instant.Max(_earliest, _free);

    /// <summary>Takes the next quantum whose transmission has begun at <paramref name="now"/> or before.</summary>
    public bool TryDepart(Instant now, out Departure departure)
    {
        Instant start = NextStart;
        if (start > now || _earliest == Instant.Never)
        {
            departure = default;
            return false;
        }
        int lane = _turn;
        while (_ready[lane] > start)
            lane = Next(lane);
        _turn = Next(lane);
        ReplyQueue queue = _lanes[lane];
        ref Reply reply = ref queue.Head;
        long bytes = Math.Min(_quantum, reply.Bytes);
        _free = start + TimeFor(bytes);
        bool last = bytes == reply.Bytes;
        departure = new Departure(lane, reply.Tag, bytes, last, _free + _link.RoundTrip);
        reply.Bytes -= bytes;
        if (last)
        {
            queue.RemoveHead();
            _queued--;
            FindEarliest(lane);
        }
        return true;
    }

    /// <summary>After a change of what this lane has first.</summary>
    private void FindEarliest(int lane)
    {
        if (_queued == 0)
        {
            _ready[lane] = _earliest = Instant.Never;
            return;
        }
        _ready[lane] = _lanes[lane].Count == 0 ? Instant.Never : _lanes[lane].Head.Ready;
        Instant earliest = Instant.Never;
        foreach (Instant ready in _ready)
            earliest = ready < earliest ? ready : earliest;
        _earliest = earliest;
    }

    /// <summary>Most quanta are as large as the one before.</summary>
    private Duration TimeFor(long bytes)
    {
        if (bytes != _timedBytes)
            (_timedBytes, _timed) = (bytes, _link.Rate.TimeFor(bytes));
        return _timed;
    }

    private int Next(int lane) => lane + 1 == _lanes.Length ? 0 : lane + 1;

    private struct Reply
    {
        public int Tag;
        public long Bytes;
        public Instant Ready;
    }

    /// <summary>A ring that grows.</summary>
    private sealed class ReplyQueue
    {
        private Reply[] _items = new Reply[16];
        private int _head;

        public int Count { get; private set; }

        public ref Reply Head => ref _items[_head];

        public void Add(int tag, long bytes, Instant ready)
        {
            if (Count == _items.Length)
                Grow();
            ref Reply reply = ref _items[(_head + Count++) & (_items.Length - 1)];
            reply.Tag = tag;
            reply.Bytes = bytes;
            reply.Ready = ready;
        }

        public void RemoveHead()
        {
            _head = (_head + 1) & (_items.Length - 1);
            Count--;
        }

        public void Clear() => _head = Count = 0;

        private void Grow()
        {
            var larger = new Reply[_items.Length * 2];
            for (int i = 0; i < Count; i++)
                larger[i] = _items[(_head + i) & (_items.Length - 1)];
            (_items, _head) = (larger, 0);
        }
    }
}
