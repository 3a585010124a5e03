using System.Collections.Concurrent;
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
        exec 3<&0
        log=$1; shift
        setsid "$@" </dev/null >>"$log" 2>&1 3<&- &
        program=$!
        echo $program
        { read -r _ <&3; kill -KILL -- -$program; } >/dev/null 2>&1 &
        wait $program; code=$?
        kill $! 2>/dev/null
        exit $code
        """;

    private static readonly ConcurrentDictionary<int, ChildProcess> Alive = new();

    private readonly Process _guard;
    private readonly string _log;

    static ChildProcess() => AppDomain.CurrentDomain.ProcessExit += (_, _) =>
    {
        foreach (ChildProcess child in Alive.Values)
            child.Kill();
    };

    public ChildProcess(string program, IEnumerable<string> arguments, IReadOnlyDictionary<string, string> environment, string folder, string log)
    {
        _log = log;
        var start = new ProcessStartInfo("sh", ["-c", Guard, "sh", log, program, .. arguments])
        { WorkingDirectory = folder, RedirectStandardInput = true, RedirectStandardOutput = true };
        foreach ((string name, string value) in environment)
            start.Environment[name] = value;
        _guard = Process.Start(start)!;
        Pid = int.Parse(_guard.StandardOutput.ReadLine()!, CultureInfo.InvariantCulture);
        Alive[Pid] = this;
    }

    public int Pid { get; }

    public bool HasExited => _guard.HasExited;

    public int WaitForExit()
    {
        _guard.WaitForExit();
        return _guard.ExitCode;
    }

    public bool WaitForExit(TimeSpan timeout) => _guard.WaitForExit(timeout);

    public void Terminate() => Syscall.kill(Pid, Signum.SIGTERM);

    /// <summary>Kills the whole group, while its leader is there to vouch for the number.</summary>
    public void Kill()
    {
        if (_guard.HasExited)
            return;
        // Before setsid has run there is no such group yet.
        if (Syscall.kill(-Pid, Signum.SIGKILL) != 0)
            Syscall.kill(Pid, Signum.SIGKILL);
    }

    public string LastLogLine()
    {
        string? line = File.Exists(_log) ? File.ReadLines(_log).LastOrDefault(l => l.Trim().Length > 0) : null;
        return line?.Trim() ?? "no output";
    }

    public void Dispose()
    {
        if (!Alive.TryRemove(Pid, out _))
            return;
        Kill();
        _guard.WaitForExit();
        _guard.Dispose();
    }
}
