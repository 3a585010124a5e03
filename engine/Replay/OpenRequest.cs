using Testbed.Core;

namespace Testbed.Replay;

/// <summary>A request on its way: what of it is still to come, and whether a thread waits for it.</summary>
internal struct OpenRequest
{
    public PageRange Rest;
    public bool IsDemand;

    /// <summary>How many of them nobody waits for.</summary>
    public int Bulk;

    /// <summary>How many of the first pages count as bulk: the one that is waited for counts as the last.</summary>
    public int TakeBulk(int pages)
    {
        int taken = Math.Min(pages, Bulk);
        Bulk -= taken;
        return taken;
    }

    /// <summary>The first pages, and leaves the rest.</summary>
    public PageRange Take(int pages)
    {
        var first = new PageRange(Rest.Start, pages);
        Rest = new PageRange(Rest.Start + pages, Rest.Count - pages);
        return first;
    }
}
