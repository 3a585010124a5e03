namespace Testbed.Uffd;

/// <summary>Looks whether a process that was given its memory back really runs, so that nobody is told what is not true.</summary>
public static class MemoryCheck
{
    // A thread that was woken needs a moment until it is no longer seen to wait.
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(2);

    /// <summary>What a process lacks.</summary>
    /// <returns>Words that continue a sentence, or null when no thread waits for a page and no memory is registered.</returns>
    public static string? WhatIsMissing(int pid)
    {
        for (long end = Environment.TickCount64 + (long)Patience.TotalMilliseconds; ; Thread.Sleep(20))
        {
            string? missing = Look(pid);
            if (missing is null || Environment.TickCount64 >= end)
                return missing;
        }
    }

    private static string? Look(int pid)
    {
        try
        {
            int waiting = ProcessInfo.ThreadIds(pid).Count(tid => Waits(pid, tid));
            int areas = ProcMaps.Read(pid).Count(mapping => mapping.IsUffdRegistered);
            return waiting > 0 ? $"but {waiting} of its threads wait for pages that nobody serves"
                : areas > 0 ? $"but {areas} of its areas are still registered with a userfaultfd" : null;
        }
        catch (Exception e) when (e is TargetGoneException or Core.BadInputException)
        {
            return null;
        }
    }

    private static bool Waits(int pid, int tid)
    {
        try
        {
            return File.ReadAllText($"/proc/{pid}/task/{tid}/wchan") == "handle_userfault";
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }
}
