using Testbed.Core;

namespace Testbed.Policies;

/// <summary>
/// First-order Markov prefetching: after a fault on a page, the pages that followed it in the recorded run. Faults on
/// pages that were not recorded predict nothing.
/// </summary>
/// <remarks>
/// Mapped: the paper learns transitions between cache misses as they repeat; under lazy restore each page faults once,
/// so they come from an earlier run, where each page has one successor, and following it degree times replaces the
/// paper's several successors of one miss. With several recordings, degree successors in each.
/// </remarks>
[Policy("markov", "after each fault, the pages that followed it in a recorded run",
    Source = "Joseph and Grunwald, Prefetching Using Markov Predictors, ISCA 1997, section 3")]
public sealed class MarkovPolicy : IPolicy
{
    private readonly int _degree;
    private readonly bool _background;

    // Of each run the pages in order, and of each page its place among them, -1 where it has none.
    private readonly (int[] Recorded, int[] Place)[] _runs;
    private SequentialFill _fill;

    /// <summary>Learns from the environment's recording.</summary>
    public MarkovPolicy(
        PolicyEnvironment environment,
        [PolicyOption("successors prefetched", Min = 1, Max = 65536)] int degree = 16,
        [PolicyOption("whether to move the rest while idle")] bool background = true)
    {
        (_degree, _background) = (degree, background);
        _runs = [.. Recordings.RunsOf(environment.Recording).Select(run => Learn(RecordedPages.Indices(environment.Map, run), environment.Map.Count))];
    }

    private static (int[], int[]) Learn(int[] recorded, long pages)
    {
        var place = new int[pages];
        Array.Fill(place, -1);
        for (int i = 0; i < recorded.Length; i++)
            place[recorded[i]] = i;
        return (recorded, place);
    }

    /// <inheritdoc/>
    public void OnFault(in PolicyFault fault, PageMap map, Plan plan)
    {
        foreach ((int[] recorded, int[] places) in _runs)
        {
            int place = places[fault.Index];
            if (place < 0)
                continue;
            int end = (int)Math.Min(recorded.Length, place + 1L + _degree);
            RunBuilder run = default;
            for (int i = place + 1; i < end; i++)
                run.Add(recorded[i], plan);
            run.Flush(plan);
        }
    }

    /// <inheritdoc/>
    public void OnIdle(PageMap map, Plan plan)
    {
        if (_background)
            _fill.Propose(map, plan);
    }
}
