using Testbed.Core;

namespace Testbed.Traces;

/// <summary>
/// The touches of one thread, in order. The three arrays are parallel: 13 bytes per touch, so that millions stay cheap.
/// </summary>
/// <param name="Thread">The thread, as an index into the trace's table.</param>
/// <param name="Pages">What was touched: the page's index in the <see cref="PageMap"/> of the trace's image.</param>
/// <param name="ThinkNanoseconds">How long the thread ran between its previous touch's resolution (or the run's start) and this touch.</param>
/// <param name="Access">Read or write.</param>
public sealed record ThreadTouches(int Thread, uint[] Pages, long[] ThinkNanoseconds, Access[] Access)
{
    /// <summary>How many touches.</summary>
    public int Count => Pages.Length;

    /// <summary>How many of them came before the workload's first response; 0 when the trace has none.</summary>
    public int BeforeFirstResponse { get; init; }
}

/// <summary>
/// Per thread, the order of first touches with the think time before each. A page that a thread faults on twice (the
/// kernel had it try again, or it was dropped meanwhile) counts once, and the time between goes to the next think time.
/// </summary>
public sealed class FirstTouches
{
    /// <summary>One entry per thread that touched something, by thread index.</summary>
    public required IReadOnlyList<ThreadTouches> Threads { get; init; }

    /// <summary>Faults left out because their page is in no area of the image.</summary>
    public required long OutsideAreas { get; init; }

    /// <summary>All touched pages in the order of their first touch by any thread: what a record-and-prefetch policy knows.</summary>
    public required IReadOnlyList<PageNumber> Recording { get; init; }

    /// <summary>
    /// From the resolution of the last touch that the workload's first response needed to that response; null when the trace has none.
    /// </summary>
    public Duration? FirstResponseTail { get; init; }

    /// <summary>Touches of all threads.</summary>
    public long Count => Threads.Sum(t => (long)t.Count);

    /// <exception cref="BadInputException">More pages than a trace of this size can mean.</exception>
    internal static FirstTouches From(Trace trace, int space)
    {
        if (trace.Image.TotalPages > Budget.Pages(trace.FileBytes))
            throw new BadInputException($"{trace.Name}: memory of {trace.Image.TotalPages} pages; expected at most {Budget.Pages(trace.FileBytes)} for a trace of {trace.FileBytes} bytes");
        var map = new PageMap(trace.Image);
        var touched = new HashSet<PageNumber>();
        var recording = new List<PageNumber>();
        Instant response = Instant.Zero + (trace.End?.TimeToFirstResponse ?? Duration.Zero);
        Instant lastNeeded = Instant.Zero;
        var builders = new Builder?[trace.Threads.Count];
        long outside = 0;
        foreach (ref readonly FaultRecord fault in trace.Faults.AsSpan())
        {
            if (fault.Space != space)
                continue;
            Builder builder = builders[fault.Thread] ??= new Builder(fault.Thread);
            bool known = map.TryIndex(fault.Page, out long page);
            outside += known ? 0 : 1;
            bool needed = fault.Resolved <= response;
            if (builder.Add(fault, known, (uint)page, needed) && needed)
                lastNeeded = Instant.Max(lastNeeded, fault.Resolved);
            if (known && touched.Add(fault.Page))
                recording.Add(fault.Page);
        }
        return new FirstTouches
        {
            Threads = [.. builders.Where(b => b is { IsEmpty: false }).Select(b => b!.Build())],
            OutsideAreas = outside,
            Recording = recording,
            FirstResponseTail = trace.End?.TimeToFirstResponse is null ? null : response - lastNeeded,
        };
    }

    private sealed class Builder(int thread)
    {
        private readonly HashSet<uint> _seen = [];
        private readonly List<uint> _pages = [];
        private readonly List<long> _thinks = [];
        private readonly List<Access> _access = [];
        private Instant _resolved;
        private long _think;
        private int _needed;

        public bool IsEmpty => _pages.Count == 0;

        /// <summary>Whether it is a touch, and not one that came before or has no page.</summary>
        public bool Add(in FaultRecord fault, bool known, uint page, bool neededForResponse)
        {
            // The stamp of a resolution is taken after the wake-up, so the next fault can be seen before it.
            _think += Math.Max(0, (fault.Woken - _resolved).Nanoseconds);
            _resolved = Instant.Max(_resolved, fault.Resolved);
            if (!known || !_seen.Add(page))
                return false;
            _pages.Add(page);
            _thinks.Add(_think);
            _access.Add(fault.Access);
            _think = 0;
            _needed += neededForResponse ? 1 : 0;
            return true;
        }

        public ThreadTouches Build() => new(thread, [.. _pages], [.. _thinks], [.. _access]) { BeforeFirstResponse = _needed };
    }
}
