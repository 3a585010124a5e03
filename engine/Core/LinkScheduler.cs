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
    private Instant _free = Instant.Zero;
    private int _turn;
    private int _queued;

    /// <summary>Lanes take turns every <paramref name="quantum"/> bytes.</summary>
    public LinkScheduler(LinkParameters link, int lanes, long quantum = 16 * 1024)
    {
        _link = link;
        _quantum = quantum;
        _lanes = new ReplyQueue[lanes];
        for (int i = 0; i < lanes; i++)
            _lanes[i] = new ReplyQueue();
    }

    /// <summary>The reply <paramref name="tag"/> of <paramref name="bytes"/> bytes is ready to be sent at
    /// <paramref name="now"/>, which on one lane never runs backwards.</summary>
    public void Enqueue(int lane, int tag, long bytes, Instant now)
    {
        _lanes[lane].Add(new Reply(tag, bytes, now));
        _queued++;
    }

    /// <summary>Forgets what is queued on a lane that was cut.</summary>
    public void Clear(int lane)
    {
        _queued -= _lanes[lane].Count;
        _lanes[lane].Clear();
    }

    /// <summary>When <see cref="TryDepart"/> will next succeed; Never when nothing is queued.</summary>
    public Instant NextStart
    {
        get
        {
            if (_queued == 0)
                return Instant.Never;
            Instant earliest = Instant.Never;
            foreach (ReplyQueue lane in _lanes)
            {
                if (lane.Count > 0 && lane.Head.Ready < earliest)
                    earliest = lane.Head.Ready;
            }
            return Instant.Max(earliest, _free);
        }
    }

    /// <summary>Takes the next quantum whose transmission has begun at <paramref name="now"/> or before.</summary>
    public bool TryDepart(Instant now, out Departure departure)
    {
        Instant start = NextStart;
        if (_queued == 0 || start > now)
        {
            departure = default;
            return false;
        }
        int lane = _turn;
        while (_lanes[lane].Count == 0 || _lanes[lane].Head.Ready > start)
            lane = Next(lane);
        _turn = Next(lane);
        ref Reply reply = ref _lanes[lane].Head;
        long bytes = Math.Min(_quantum, reply.Bytes);
        _free = start + _link.Rate.TimeFor(bytes);
        bool last = bytes == reply.Bytes;
        departure = new Departure(lane, reply.Tag, bytes, last, _free + _link.RoundTrip);
        if (last)
        {
            _lanes[lane].RemoveHead();
            _queued--;
        }
        else
        {
            reply = reply with { Bytes = reply.Bytes - bytes };
        }
        return true;
    }

    private int Next(int lane) => lane + 1 == _lanes.Length ? 0 : lane + 1;

    private readonly record struct Reply(int Tag, long Bytes, Instant Ready);

    /// <summary>A ring that grows.</summary>
    private sealed class ReplyQueue
    {
        private Reply[] _items = new Reply[16];
        private int _head;

        public int Count { get; private set; }

        public ref Reply Head => ref _items[_head];

        public void Add(Reply reply)
        {
            if (Count == _items.Length)
                Grow();
            _items[(_head + Count++) & (_items.Length - 1)] = reply;
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
