using System.Collections.Concurrent;
using System.Runtime.ExceptionServices;
using Testbed.Uffd.Interop;

namespace Testbed.Uffd;

/// <summary>
/// The one OS thread that traces: ptrace belongs to the thread that seized, and when that thread ends, the kernel lets all
/// its tracees go. Work is handed to it and waited for.
/// </summary>
internal sealed class PtraceThread : IDisposable
{
    private readonly BlockingCollection<Action> _work = [];
    private readonly Thread _thread;
    private bool _ended;
    private int _tid;

    public PtraceThread()
    {
        _thread = new Thread(() =>
        {
            _tid = (int)Native.Syscall(Native.Nr.__NR_gettid);
            foreach (Action action in _work.GetConsumingEnumerable())
                action();
        })
        { IsBackground = true, Name = "ptrace" };
        _thread.Start();
    }

    /// <summary>Runs <paramref name="function"/> on the thread and returns, or throws, what it does.</summary>
    public T Run<T>(Func<T> function)
    {
        T result = default!;
        ExceptionDispatchInfo? error = null;
        using ManualResetEventSlim done = new();
        _work.Add(() =>
        {
            try
            {
                result = function();
            }
            catch (Exception e)
            {
                error = ExceptionDispatchInfo.Capture(e);
            }
            done.Set();
        });
        done.Wait();
        error?.Throw();
        return result;
    }

    /// <summary>Ends the thread; whatever it still traces runs on.</summary>
    public void Dispose()
    {
        if (_ended)
            return;
        _ended = true;
        _work.CompleteAdding();
        _thread.Join();
        // The kernel lets go of threads that do not stand still only when the thread has really ended, a moment later.
        const int PatienceMilliseconds = 1000;
        for (long end = Environment.TickCount64 + PatienceMilliseconds;
            Directory.Exists($"/proc/self/task/{_tid}") && Environment.TickCount64 < end;)
            Thread.Yield();
        _work.Dispose();
    }
}

/// <summary>The process, or the thread that was needed, ended while it was being worked on.</summary>
internal sealed class TargetGoneException(string message) : Exception(message);

/// <summary>A call was taken back before the thread made it, and the thread put back: nothing has changed.</summary>
internal sealed class CallWithdrawnException(string message) : Exception(message);
