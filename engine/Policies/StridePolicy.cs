using Testbed.Core;

namespace Testbed.Policies;

/// <summary>
/// A reference prediction table: for each stream the last page, the stride, and one of four states (initial, transient,
/// steady, no prediction). In all but the last, the pages at the next strides are prefetched.
/// </summary>
/// <remarks>
/// Mapped: the table's tag is the load instruction in the paper, which no fault tells; here it is the thread. A fault up
/// to degree + 1 strides ahead is as predicted: the touches in between made no event.
/// </remarks>
[Policy("stride", "the stride of each thread, once it repeats",
    Source = "Chen and Baer, Effective Hardware-Based Data Prefetching for High-Performance Processors, IEEE ToC 1995, section 3")]
public sealed class StridePolicy(
    [PolicyOption("strides prefetched ahead", Min = 1, Max = 4096)] int degree = 8,
    [PolicyOption("threads remembered", Min = 1, Max = 65536)] int streams = 64,
    [PolicyOption("whether to move the rest while idle")] bool background = true) : IPolicy
{
    private enum State : byte { Initial, Transient, Steady, NoPrediction }

    private struct Stream
    {
        public bool Used;
        public int Thread;
        public long Last, Stride;
        public State State;
    }

    private readonly Stream[] _table = new Stream[streams];
    private SequentialFill _fill;

    /// <inheritdoc/>
    public void OnFault(in PolicyFault fault, PageMap map, Plan plan)
    {
        if (fault.State == PageState.Hole)
            return;
        ref Stream s = ref _table[(int)((uint)fault.Thread % (uint)streams)];
        if (!s.Used || s.Thread != fault.Thread)
        {
            s = new Stream { Used = true, Thread = fault.Thread, Last = fault.Index };
            return;
        }
        Learn(ref s, fault.Index - s.Last);
        s.Last = fault.Index;
        if (s.State == State.NoPrediction || s.Stride == 0)
            return;
        (long first, long end) = map.AreaBounds(fault.Index);
        RunBuilder run = default;
        long page = fault.Index + s.Stride;
        for (int i = 0; i < degree && page >= first && page < end; i++, page += s.Stride)
            run.Add(page, plan);
        run.Flush(plan);
    }

    /// <inheritdoc/>
    public void OnIdle(PageMap map, Plan plan)
    {
        if (background)
            _fill.Propose(map, plan);
    }

    private void Learn(ref Stream s, long distance)
    {
        bool correct = s.Stride != 0 && distance % s.Stride == 0 && distance / s.Stride >= 1
            && distance / s.Stride <= (s.State == State.NoPrediction ? 1 : degree + 1);
        // A steady stride outlives one miss.
        if (!correct && s.State != State.Steady)
            s.Stride = distance;
        s.State = (s.State, correct) switch
        {
            (State.NoPrediction, true) => State.Transient,
            (_, true) => State.Steady,
            (State.Initial, false) => State.Transient,
            (State.Steady, false) => State.Initial,
            _ => State.NoPrediction,
        };
    }
}
