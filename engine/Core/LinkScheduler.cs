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
    private readonly Lane[] _lanes;
    private Instant _free = Instant.Zero;

    // When the first reply of any lane is ready; Never where none is queued.
    private Instant _earliest = Instant.Never;
    private int _queued;
    private long _timedBytes = -1;
    private Duration _timed;
    private int _turn;

    // The lane of the reply that was queued last: mostly it is the only one.
    private int _latest;

    /// <summary>Lanes take turns every <paramref name="quantum"/> bytes.</summary>
    public LinkScheduler(LinkParameters link, int lanes, long quantum = 16 * 1024)
    {
        _link = link;
        _quantum = quantum;
        _lanes = [.. Enumerable.Repeat(Lane.Empty, lanes)];
    }

    /// <summary>The reply <paramref name="tag"/> of <paramref name="bytes"/> bytes is ready to be sent at
    /// <paramref name="now"/>, which on one lane never runs backwards.</summary>
    public void Enqueue(int lane, int tag, long bytes, Instant now)
    {
        _queued++;
        _latest = lane;
        ref Lane queue = ref _lanes[lane];
        if (queue.First.Ready != Instant.Never)
        {
            (queue.Others ??= new()).Enqueue(new Reply { Tag = tag, Bytes = bytes, Ready = now });
            return;
        }
        queue.First.Tag = tag;
        queue.First.Bytes = bytes;
        queue.First.Ready = now;
        _earliest = now < _earliest ? now : _earliest;
    }

    /// <summary>Forgets what is queued on a lane that was cut.</summary>
    public void Clear(int lane)
    {
        ref Lane queue = ref _lanes[lane];
        _queued -= queue.First.Ready == Instant.Never ? 0 : 1 + (queue.Others?.Count ?? 0);
        queue = Lane.Empty;
        FindEarliest();
    }

    /// <summary>Whether nothing is queued.</summary>
    public bool IsEmpty => _queued == 0;

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
        int lane = LaneReadyAt(start);
        _turn = Next(lane);
        ref Lane queue = ref _lanes[lane];
        ref Reply reply = ref queue.First;
        long bytes = Math.Min(_quantum, reply.Bytes);
        _free = start + TimeFor(bytes);
        bool last = bytes == reply.Bytes;
        departure = new Departure(lane, reply.Tag, bytes, last, _free + _link.RoundTrip);
        reply.Bytes -= bytes;
        if (last)
            RemoveFirst(ref queue);
        return true;
    }

    /// <summary>The lane whose turn it is.</summary>
    private int LaneReadyAt(Instant start)
    {
        if (_queued == 1 && _lanes[_latest].First.Ready <= start)
            return _latest;
        int lane = _turn;
        while (_lanes[lane].First.Ready > start)
            lane = Next(lane);
        return lane;
    }

    private void RemoveFirst(ref Lane lane)
    {
        if (lane.Others is { Count: > 0 } others)
            lane.First = others.Dequeue();
        else
            lane.First.Ready = Instant.Never;
        if (--_queued == 0)
            _earliest = Instant.Never;
        else
            FindEarliest();
    }

    private void FindEarliest()
    {
        Instant earliest = Instant.Never;
        foreach (ref readonly Lane lane in _lanes.AsSpan())
            earliest = lane.First.Ready < earliest ? lane.First.Ready : earliest;
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

        /// <summary>Never where there is no reply.</summary>
        public Instant Ready;
    }

    /// <summary>A lane's replies, first in first out. The first stands apart: mostly it is the only one.</summary>
    private struct Lane
    {
        public Reply First;
        public Queue<Reply>? Others;

        public static Lane Empty => new() { First = new() { Ready = Instant.Never } };
    }
}
