using Testbed.Core;
using Testbed.Live;
using Testbed.Traces;

namespace Testbed.Cli;

/// <summary>What is said about a live session at its end, the same for each verb.</summary>
internal static class SessionEnd
{
    /// <summary>Says what is being given back, when somebody interrupted.</summary>
    public static void SayGivingBack(this LiveSession session, Progress progress)
    {
        long missing = Math.Max(0, session.Image.PresentPages - session.ResidentPages);
        progress.Say($"interrupted; giving the process its memory back: {missing} pages ({missing >> 8} MiB)");
    }

    /// <summary>Warns when the capture holds only a small part of the process.</summary>
    public static void WarnIfMostStayed(this LiveSession session, Progress progress)
    {
        if (session.Left.IsMost)
            progress.Say($"warning: most of the process stays in place, and what is done with that is not seen: {session.Left}; {TraceSummary.Size(session.Left.TakenBytes)} taken");
    }

    /// <summary>Whether the process touched anything that was missing. If not, it says so: a trace without faults cannot be replayed.</summary>
    public static bool TouchedAnything(this LiveEnd end, string trace, Progress progress)
    {
        if (end.Result.DemandFaults + end.Result.LateFaults + end.Result.ZeroFaults > 0)
            return true;
        progress.Say($"{trace}: nothing was touched in {end.Recorded}, so there is nothing to replay; record longer, or while the process works");
        return false;
    }

    /// <summary>What took how long.</summary>
    public static string Times(this LiveEnd end) => $"in {end.Recorded}; {end.RestoredPages} pages given back in {end.Restoring}";
}
