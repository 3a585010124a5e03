using Testbed.Uffd;

namespace Testbed.Live;

/// <summary>Finds the names of threads that started after the stop.</summary>
/// <param name="pid">The process.</param>
/// <param name="isNamespaced">Whether fault messages name its threads as its own pid namespace does, which /proc here does not.</param>
internal sealed class ThreadNames(int pid, bool isNamespaced)
{
    /// <summary>
    /// The name of a thread, empty when it is gone. comm is kept by the kernel; cmdline and environ lie in the target's own memory, and
    /// reading them could wait for us.
    /// </summary>
    public string Find(int tid)
    {
        if (isNamespaced)
            return ProcessInfo.ReadThreads(pid).FirstOrDefault(t => t.NamespaceTid == tid).Name ?? "";
        try
        {
            return File.ReadAllText($"/proc/{pid}/task/{tid}/comm").TrimEnd('\n');
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return "";
        }
    }
}
