using Testbed.Core;

namespace Testbed.Uffd;

/// <content>Pages that the kernel touches by itself: they come first, before the processes run.</content>
public sealed partial class LiveService
{
    /// <summary>Finds the pages that are needed before anything else; null: none are.</summary>
    public ExitPages? Needed { get; init; }

    /// <summary>Whether all of them are in. May be asked from any thread.</summary>
    public bool NeededIsIn { get => Volatile.Read(ref _neededIsIn); private set => Volatile.Write(ref _neededIsIn, value); }

    private bool _neededIsIn;

    /// <summary>Asks for what was found to be needed, and goes on looking where the content is here already.</summary>
    private void AskForNeeded(ExitPages needed)
    {
        while (needed.TryTake(out int space, out PageNumber page))
        {
            if (_service.MapOf(space) is { } map && map.TryIndex(page, out long index)
                && map[index] is PageState.Lazy or PageState.InFlight)
                Feed(new ServiceEvent(ServiceEventKind.Needed, _clock.Now, space, PageRange.Single(page)));
            else
                needed.IsHere(space, page);
        }
    }

    /// <summary>Shows the pages that came for a request (by dump address) to whoever looks for what is
    /// needed.</summary>
    private unsafe void ShowNeeded(ExitPages needed, int tag, PageRange pages)
    {
        for (PageNumber page = pages.Start; page < pages.End; page += 1)
        {
            if (needed.Awaits(_requests[tag].Space, page))
                needed.Came(_requests[tag].Space, page, new ReadOnlySpan<byte>((void*)SourceOf(tag, page), PageNumber.Size));
        }
    }
}
