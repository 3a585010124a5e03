using Testbed.Core;

namespace Testbed.Policies;

/// <summary>Which pages of several recordings count.</summary>
public enum RecordedIn
{
    /// <summary>Those of any recording, in the order of their earliest place in one.</summary>
    Any,

    /// <summary>Those that all recordings have, in the same order.</summary>
    All,
}

/// <summary>What policies make of a recording.</summary>
internal static class RecordedPages
{
    /// <summary>The indices of the recorded pages that are in the map, in recorded order, each once. As int, which is enough for 8 TiB.</summary>
    public static int[] Indices(PolicyEnvironment environment, RecordedIn recordedIn = RecordedIn.Any)
    {
        int[] union = Indices(environment.Map, environment.Recording);
        IReadOnlyList<IReadOnlyList<PageNumber>> runs = Recordings.RunsOf(environment.Recording);
        if (recordedIn == RecordedIn.Any || runs.Count == 1)
            return union;
        var runsWith = new int[environment.Map.Count];
        foreach (IReadOnlyList<PageNumber> run in runs)
        {
            foreach (int index in Indices(environment.Map, run))
                runsWith[index]++;
        }
        return Array.FindAll(union, index => runsWith[index] == runs.Count);
    }

    /// <summary>The same of a single recording.</summary>
    public static int[] Indices(PageMap map, IReadOnlyList<PageNumber> recording)
    {
        var indices = new int[recording.Count];
        int count = 0;
        // A bit a page: recordings cover much of the memory.
        var seen = new ulong[(map.Count + 63) / 64];
        foreach (PageNumber page in recording)
        {
            if (!map.TryIndex(page, out long index) || (seen[index >> 6] & (1ul << (int)(index & 63))) != 0)
                continue;
            seen[index >> 6] |= 1ul << (int)(index & 63);
            indices[count++] = checked((int)index);
        }
        Array.Resize(ref indices, count);
        return indices;
    }
}
