using Testbed.Core;

namespace Testbed.Policies;

/// <summary>What policies make of a recording.</summary>
internal static class RecordedPages
{
    /// <summary>The indices of the recorded pages that are in the map, in recorded order, each once.</summary>
    public static long[] Indices(PolicyEnvironment environment)
    {
        var indices = new List<long>(environment.Recording.Count);
        var seen = new HashSet<long>();
        foreach (PageNumber page in environment.Recording)
        {
            if (environment.Map.TryIndex(page, out long index) && seen.Add(index))
                indices.Add(index);
        }
        return [.. indices];
    }
}
