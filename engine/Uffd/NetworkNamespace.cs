using Testbed.Core;
using Testbed.Uffd.Interop;

namespace Testbed.Uffd;

/// <summary>Work in another network namespace. A socket stays in the namespace in which it was made, whoever uses it later.</summary>
public static class NetworkNamespace
{
    /// <summary>Does something on a thread that has entered the network namespace of a process; threads that it starts are there too.</summary>
    /// <exception cref="BadInputException">The namespace cannot be entered; root is expected.</exception>
    public static T Run<T>(int pid, Func<T> work)
    {
        T result = default!;
        Exception? failure = null;
        var thread = new Thread(() =>
        {
            try
            {
                Enter(pid);
                result = work();
            }
            catch (Exception e)
            {
                failure = e;
            }
        })
        { IsBackground = true, Name = "network namespace" };
        thread.Start();
        thread.Join();
        if (failure is not null)
            System.Runtime.ExceptionServices.ExceptionDispatchInfo.Throw(failure);
        return result;
    }

    private static void Enter(int pid)
    {
        const int NetworkOnly = 0x40000000; // CLONE_NEWNET
        int fd = Native.Open($"/proc/{pid}/ns/net", Native.Fcntl.O_RDONLY | Native.Fcntl.O_CLOEXEC);
        int failed = fd < 0 ? -1 : Native.SetNs(fd, NetworkOnly);
        int errno = Native.Errno;
        if (fd >= 0)
            _ = Native.Close(fd);
        if (failed != 0)
            throw new BadInputException($"the network namespace of process {pid} cannot be entered ({Native.Describe(errno)}); root is expected");
    }
}
