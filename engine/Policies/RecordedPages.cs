using Testbed.Core;

namespace Testbed.Policies;

/// <summary>What policies make of a recording.</summary>
internal static class RecordedPages
{
    /// <summary>The indices of the recorded pages that are in the map, in recorded order, each once.</summary>
    public static long[] Indices(PolicyEnvironment environment)
    {
        var indices = new List<long>(environment.Recording.Count);
        // A bit a page: recordings cover much of the memory.
        var seen = new ulong[(environment.Map.Count + 63) / 64];
        foreach (PageNumber page in environment.Recording)
        {
            if (!environment.Map.TryIndex(page, out long index) || (seen[index >> 6] & (1ul << (int)(index & 63))) != 0)
                continue;
            seen[index >> 6] |= 1ul << (int)(index & 63);
            indices.Add(index);
        }
        return [.. indices];
    }
}
