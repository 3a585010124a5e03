using System.Diagnostics;
using System.Globalization;
using Mono.Unix.Native;

namespace Testbed.Scenarios;

/// <summary>
/// A program in a session of its own, its output in a file: no pipe of ours that could fill up or break, and one
/// process group that can be killed as a whole. Between it and us stands a shell, for two reasons. The program may be
/// traced by us, and the runtime waits for its own children on every SIGCHLD, by which it would swallow the stops of a
/// traced one. And the shell sees our end of its standard input close, however we die, and then kills the group.
/// </summary>
internal sealed class ChildProcess : IDisposable
{
    private const string Guard = """
        exec 3<&0 2>/dev/null
        log=$1; shift
        # A shell without job control has its background programs ignore some signals, and so have we; the program begins as from a terminal.
        setsid env --default-signal "$@" </dev/null >>"$log" 2>&1 3<&- &
        program=$!
        echo $program
        # Before setsid has run there is no such group yet.
        { read -r _ <&3; kill -KILL -$program || kill -KILL $program; } >/dev/null 2>&1 &
        wait $program; code=$?
        # Children that it leaves behind, then the one who waits for us.
        kill -KILL -$program $! 2>/dev/null
        exit $code
        """;

    private readonly Process _guard;
    private readonly string _log;
    private bool _disposed;

    public ChildProcess(string program, IEnumerable<string> arguments, IReadOnlyDictionary<string, string> environment, string folder, string log)
    {
        _log = log;
        // A session of the shell's own too, or Ctrl-C would end it before we have put the program right.
        var start = new ProcessStartInfo("setsid", ["sh", "-c", Guard, "sh", log, program, .. arguments])
        { WorkingDirectory = folder, RedirectStandardInput = true, RedirectStandardOutput = true };
        foreach ((string name, string value) in environment)
            start.Environment[name] = value;
        _guard = Process.Start(start)!;
        Pid = int.Parse(_guard.StandardOutput.ReadLine()!, CultureInfo.InvariantCulture);
    }

    public int Pid { get; }

    public bool HasExited => _guard.HasExited;

    public int WaitForExit()
    {
        _guard.WaitForExit();
        return _guard.ExitCode;
    }

    /// <exception cref="OperationCanceledException">Cancelled; it has been killed.</exception>
    public int WaitForExit(CancellationToken cancel)
    {
        using (cancel.Register(Kill))
        {
            int code = WaitForExit();
            cancel.ThrowIfCancellationRequested();
            return code;
        }
    }

    public bool WaitForExit(TimeSpan timeout) => _guard.WaitForExit(timeout);

    public void Terminate() => Syscall.kill(Pid, Signum.SIGTERM);

    /// <summary>Has the whole group killed, by the same way as when we die. May be called again.</summary>
    public void Kill() => _guard.StandardInput.Close();

    public string LastLogLine()
    {
        string? line = File.Exists(_log) ? File.ReadLines(_log).LastOrDefault(l => l.Trim().Length > 0) : null;
        return line?.Trim() ?? "no output";
    }

    public void Dispose()
    {
        if (_disposed)
            return;
        _disposed = true;
        Kill();
        _guard.WaitForExit();
        _guard.Dispose();
    }
}
