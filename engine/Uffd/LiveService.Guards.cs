using Testbed.Core;

namespace Testbed.Uffd;

/// <content>
/// Guard pages. A program that installs one (MADV_GUARD_INSTALL) where its page is missing tells nobody, and the kernel
/// lets a copy replace
/// it. So it is looked for before pages are installed that no thread waits for, and the page counts as dropped by the
/// program from then on: its
/// content is gone, and without the guard (MADV_GUARD_REMOVE) it reads as zero.
/// </content>
public sealed partial class LiveService
{
    // A look costs as much as to install half a page: one for so many pages, and those of one request that come within
    // this time.
    private const int LookPages = ServiceLane.QuietPartPages;
    private static readonly Duration LookLasts = Duration.FromMicroseconds(200);

    private readonly PageRange[] _guards = new PageRange[16];
    private (int Space, PageRange Pages, Instant At) _looked = (-1, default, default);

    /// <summary>The program's guard pages among these (by dump address), which came for a request, are
    /// dropped.</summary>
    private void DropGuarded(in Asked asked, PageRange pages, Instant now)
    {
        if (Find(asked.Space) is not { View.SeesGuards: true } target)
            return;
        if (_looked.Space == asked.Space && _looked.Pages.Contains(pages.Start) && pages.End <= _looked.Pages.End
            && now - _looked.At < LookLasts)
            return;
        long ahead = Math.Max(pages.Count, LookPages);
        PageRange look = new(pages.Start, Math.Min(ahead, asked.Range.End - pages.Start));
        for (PageNumber at = look.Start; at < look.End;)
        {
            PageRange run = _service.RunOf(asked.Space, PageRange.Between(at, look.End));
            LookForGuards(target, run);
            at += run.Count;
        }
        _looked = (asked.Space, look, now);
    }

    private void LookForGuards(Target target, PageRange run)
    {
        while (!run.IsEmpty)
        {
            int found = target.View.ScanGuards(run, _guards, out PageNumber scanned);
            for (int i = 0; i < found; i++)
            {
                Journal?.NoteDropped(target.Space, [_guards[i]]);
                Feed(new ServiceEvent(ServiceEventKind.Removed, _clock.Now, target.Space, _guards[i]));
            }
            run = PageRange.Between(scanned, run.End);
        }
    }
}
