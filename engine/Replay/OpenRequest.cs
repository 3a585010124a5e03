using Testbed.Core;

namespace Testbed.Replay;

/// <summary>A request on its way: what of it is still to come, and whether a thread waits for it.</summary>
internal struct OpenRequest
{
    public PageRange Rest;
    public bool IsDemand;

    /// <summary>The first pages, and leaves the rest.</summary>
    public PageRange Take(int pages)
    {
        var first = new PageRange(Rest.Start, pages);
        Rest = new PageRange(Rest.Start + pages, Rest.Count - pages);
        return first;
    }
}
