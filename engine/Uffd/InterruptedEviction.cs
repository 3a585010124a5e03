using Testbed.Core;

namespace Testbed.Uffd;

/// <summary>Puts in order what a recorder left that was killed while it took pages away.</summary>
public static class InterruptedEviction
{
    /// <summary>
    /// Ends what the recorder had begun (<see cref="InPlaceTarget.Evict"/>): pages in the staging area are given back, and
    /// a call that still drops pages gets its message read, for which it waits. That message is not the program's doing; all
    /// others are, and go into the journal.
    /// </summary>
    /// <param name="fd">The userfaultfd.</param>
    /// <param name="pid">The process.</param>
    /// <param name="journal">The recorder's journal; afterwards nothing is staged or being dropped in it.</param>
    public static void Settle(UserFaultFd fd, int pid, ChangeJournal journal)
    {
        try
        {
            // Killed right after creating the descriptor: nothing is registered, and it cannot even be read.
            fd.Api(UffdFeatures.Process);
        }
        catch (BadInputException)
        {
            // Refused because it was done before, as it should be.
        }
        SettleStaging(fd, pid, journal);
        // The thread may not have come to its call yet.
        const int PatienceMilliseconds = 200;
        for (long end = Environment.TickCount64 + PatienceMilliseconds; Environment.TickCount64 < end && !journal.Dropping.IsEmpty;)
        {
            fd.WaitReadable(10);
            Span<UffdMessage> messages = journal.Begin(0);
            messages = messages[..fd.Read(messages)];
            foreach (ref UffdMessage message in messages)
            {
                if (message.Event != UffdEvent.Remove || message.Range != journal.Dropping)
                    continue;
                message = default;
                journal.Dropping = default;
                break;
            }
            journal.Keep(messages.Length);
        }
        journal.Dropping = default;
    }

    /// <summary>
    /// Gives pages that are still in the staging area back from there: some may have changed after they were dumped. What cannot be given back
    /// because the program changes its memory at this moment comes from the images, like all else.
    /// </summary>
    private static unsafe void SettleStaging(UserFaultFd fd, int pid, ChangeJournal journal)
    {
        if (journal.Staging.IsEmpty)
            return;
        // A call that is on its way ends first, and a later one is refused.
        _ = fd.Unregister(journal.Staging);
        try
        {
            using TargetMemory memory = new(pid);
            using Pagemap pagemap = new(pid);
            byte[] page = GC.AllocateUninitializedArray<byte>(PageNumber.Size, pinned: true);
            List<PageRange> moved = [];
            // The area begins one page after the mapping, at a huge page's boundary.
            PageNumber start = StagingArea.FirstPage(journal.Staging);
            foreach (ChangeJournal.StagedPages piece in journal.Staged)
            {
                moved.Clear();
                pagemap.Scan(new PageRange(start + piece.Offset, piece.Pages), moved);
                foreach (PageRange run in moved)
                {
                    for (PageNumber staged = run.Start; staged < run.End; staged += 1)
                    {
                        if (memory.Read(staged.Address, page) != PageNumber.Size)
                            continue;
                        fixed (byte* bytes = page)
                            _ = fd.Copy(new PageNumber(piece.Source) + (staged - start - piece.Offset), (nint)bytes, 1, out _);
                    }
                }
            }
        }
        catch (TargetGoneException)
        {
            // Then there is nobody to give them back to.
        }
        journal.Staged = [];
    }
}
