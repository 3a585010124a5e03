using System.Collections;

namespace Testbed.Core;

/// <summary>
/// Recordings of several earlier runs, to be given where one is expected. As one list it is their union: each page once, in the order
/// of its earliest place in any of them. Policies that can make more of several look at <see cref="Runs"/>.
/// </summary>
public sealed class Recordings : IReadOnlyList<PageNumber>
{
    private readonly List<PageNumber> _union = [];

    /// <summary>Several recordings by dump address.</summary>
    public Recordings(IReadOnlyList<IReadOnlyList<PageNumber>> runs)
    {
        Runs = runs;
        var seen = new HashSet<PageNumber>();
        int longest = runs.Count == 0 ? 0 : runs.Max(r => r.Count);
        for (int place = 0; place < longest; place++)
        {
            foreach (IReadOnlyList<PageNumber> run in runs)
            {
                if (place < run.Count && seen.Add(run[place]))
                    _union.Add(run[place]);
            }
        }
    }

    /// <summary>The single recordings.</summary>
    public IReadOnlyList<IReadOnlyList<PageNumber>> Runs { get; }

    /// <inheritdoc/>
    public int Count => _union.Count;

    /// <inheritdoc/>
    public PageNumber this[int index] => _union[index];

    /// <summary>The single recordings of what may be one or several.</summary>
    public static IReadOnlyList<IReadOnlyList<PageNumber>> RunsOf(IReadOnlyList<PageNumber> recording) =>
        recording is Recordings several ? several.Runs : [recording];

    /// <inheritdoc/>
    public IEnumerator<PageNumber> GetEnumerator() => _union.GetEnumerator();

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();
}
