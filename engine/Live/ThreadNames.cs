using Testbed.Uffd;

namespace Testbed.Live;

/// <summary>
/// The names of a process's threads, by the ids that fault messages carry: those of the process's own pid namespace.
/// </summary>
internal sealed class ThreadNames(int pid)
{
    private const int RefreshMilliseconds = 100;
    private readonly bool _isForeign = ProcessInfo.IsInOtherPidNamespace(pid);
    private Dictionary<int, int> _tids = [];
    private long _nextRefresh;

    /// <summary>
    /// The name of a thread, or empty when it is gone. It comes from comm, which the kernel keeps; cmdline and environ
    /// lie in the target's own memory, and reading them could wait for us.
    /// </summary>
    public string Of(int tid)
    {
        if (!_isForeign)
            return NameOf(tid);
        if (!_tids.ContainsKey(tid) && Environment.TickCount64 >= _nextRefresh)
        {
            _tids = ProcessInfo.ReadThreads(pid).ToDictionary(thread => thread.NamespaceTid, thread => thread.Tid);
            _nextRefresh = Environment.TickCount64 + RefreshMilliseconds;
        }
        return _tids.TryGetValue(tid, out int own) ? NameOf(own) : "";
    }

    private string NameOf(int tid)
    {
        try
        {
            return File.ReadAllText($"/proc/{pid}/task/{tid}/comm").TrimEnd('\n');
        }
        catch (IOException)
        {
            return "";
        }
    }
}
