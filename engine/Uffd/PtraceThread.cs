using System.Collections.Concurrent;
using System.Runtime.ExceptionServices;

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

    public PtraceThread()
    {
        _thread = new Thread(() =>
        {
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
        _work.Dispose();
    }
}

/// <summary>The process, or the thread that was needed, ended while it was being worked on.</summary>
internal sealed class TargetGoneException(string message) : Exception(message);
