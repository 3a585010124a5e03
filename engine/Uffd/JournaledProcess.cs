using Testbed.Core;

namespace Testbed.Uffd;

/// <summary>What a journal knows of the process behind an address space, see <see
/// cref="ChangeJournal.NoteProcess"/>.</summary>
/// <param name="Pid">The process; 0 when it was not known.</param>
/// <param name="StartTime">When it was started, see <see cref="ProcessInfo.StartTime"/>.</param>
/// <param name="WipedOnFork">The areas that a fork wipes, as they were known last.</param>
public sealed record JournaledProcess(int Pid, long StartTime, IReadOnlyList<PageRange> WipedOnFork)
{
    /// <summary>The process as it is now; one that is gone shows nothing.</summary>
    public ProcessView Open() => ProcessView.Open(Pid != 0 && ProcessInfo.IsRunning(Pid, StartTime) ? Pid : 0, WipedOnFork);
}
