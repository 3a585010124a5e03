using System.Collections;
using System.Diagnostics;
using System.Runtime.InteropServices;
using Testbed.Core;
using Testbed.Uffd.Interop;

namespace Testbed.Uffd;

/// <summary>
/// A program that we started in order to capture it. (Not a <see cref="Process"/>: on every SIGCHLD the runtime waits for the children that
/// it knows, a wait reports a traced child's stops too, and it would take our stops for exits.)
/// </summary>
public sealed class LaunchedProgram : IDisposable
{
    private readonly PidFd _pidFd;
    private int? _exitCode;

    /// <summary>The process.</summary>
    public int Pid { get; }

    private LaunchedProgram(int pid) => (Pid, _pidFd) = (pid, new PidFd(pid));

    /// <summary>Starts a program with our working directory and environment; when this returns it is running its own code.</summary>
    /// <param name="command">A path, or a name to be looked up in PATH.</param>
    /// <param name="arguments">Its arguments, without its name.</param>
    /// <param name="input">A descriptor to be its standard input, or null for ours.</param>
    /// <param name="output">A descriptor to be its standard output, or null for ours.</param>
    /// <exception cref="BadInputException">There is no such program, or it may not be run.</exception>
    public static LaunchedProgram Start(string command, IEnumerable<string> arguments, int? input = null, int? output = null) =>
        Start(command, arguments, input, output, null, ownSession: false, alone: false);

    /// <summary>
    /// Starts a program in a session of its own, away from our terminal and its signals, that has no descriptor of ours but
    /// <paramref name="input"/>, as its standard input; what it prints is lost.
    /// </summary>
    /// <exception cref="BadInputException">There is no such program, or it may not be run.</exception>
    public static LaunchedProgram StartAlone(string command, IEnumerable<string> arguments, int input) =>
        Start(command, arguments, input, null, null, ownSession: true, alone: true);

    /// <summary>
    /// Starts a program in a session of its own that inherits the descriptors that were left to us, as a daemon's child does.
    /// </summary>
    /// <param name="command">A path, or a name to be looked up in PATH.</param>
    /// <param name="arguments">Its arguments, without its name.</param>
    /// <param name="inputAndOutput">A descriptor to be its standard input and output.</param>
    /// <param name="error">A descriptor to be its standard error.</param>
    /// <exception cref="BadInputException">There is no such program, or it may not be run.</exception>
    public static LaunchedProgram StartInBackground(string command, IEnumerable<string> arguments, int inputAndOutput, int error) =>
        Start(command, arguments, inputAndOutput, inputAndOutput, error, ownSession: true, alone: false);

    private static unsafe LaunchedProgram Start(
        string command, IEnumerable<string> arguments, int? input, int? output, int? error, bool ownSession, bool alone)
    {
        Native.SpawnFileActions actions;
        Native.SpawnAttributes attributes;
        Native.SignalSet none = default, all;
        new Span<byte>(&all, sizeof(Native.SignalSet)).Fill(0xff);
        _ = Native.SpawnFileActionsInit(&actions);
        _ = Native.SpawnAttributesInit(&attributes);
        // The runtime ignores and blocks signals for itself; the program begins as from a shell.
        const short Signals = Native.SpawnH.POSIX_SPAWN_SETSIGDEF | Native.SpawnH.POSIX_SPAWN_SETSIGMASK;
        _ = Native.SpawnAttributesSetFlags(&attributes, ownSession ? (short)(Signals | Native.SpawnH.POSIX_SPAWN_SETSID) : Signals);
        _ = Native.SpawnAttributesSetDefault(&attributes, &all);
        _ = Native.SpawnAttributesSetMask(&attributes, &none);
        if (input is { } i)
            _ = Native.SpawnFileActionsAddDup2(&actions, i, 0);
        if (output is { } o)
            _ = Native.SpawnFileActionsAddDup2(&actions, o, 1);
        if (error is { } e)
            _ = Native.SpawnFileActionsAddDup2(&actions, e, 2);
        if (alone)
            LeaveOutputAndOthers(&actions);
        using CStrings argv = new([command, .. arguments]);
        using CStrings envp = new(Environment.GetEnvironmentVariables().Cast<DictionaryEntry>().Select(v => $"{v.Key}={v.Value}"));
        int pid;
        int errno = Native.PosixSpawnp(&pid, argv.Pointer[0], &actions, &attributes, argv.Pointer, envp.Pointer);
        _ = Native.SpawnFileActionsDestroy(&actions);
        return errno == 0
            ? new LaunchedProgram(pid)
            : throw new BadInputException($"command {command}: cannot be started ({Native.Describe(errno)}); a program that exists and may be run is expected");
    }

    private static unsafe void LeaveOutputAndOthers(Native.SpawnFileActions* actions)
    {
        fixed (byte* nowhere = "/dev/null"u8)
        {
            _ = Native.SpawnFileActionsAddOpen(actions, 1, nowhere, Native.Fcntl.O_RDWR, 0);
            _ = Native.SpawnFileActionsAddOpen(actions, 2, nowhere, Native.Fcntl.O_RDWR, 0);
        }
        _ = Native.SpawnFileActionsAddCloseFrom(actions, 3);
    }

    /// <summary>Waits for its end.</summary>
    /// <returns>The exit code, 128 plus the signal that killed it, or null when it still runs after the time.</returns>
    public unsafe int? WaitForExit(TimeSpan limit)
    {
        if (_exitCode is not null)
            return _exitCode;
        Native.PollFd poll = new() { fd = _pidFd.Fd, events = Native.PollH.POLLIN };
        if (Native.Poll(&poll, 1, (int)limit.TotalMilliseconds) <= 0)
            return null;
        Native.SigInfo info = default;
        if (Native.WaitId(Native.Wait.P_PID, Pid, &info, Native.Wait.WEXITED | Native.Wait.__WALL) < 0)
            return _exitCode = -1;
        return _exitCode = info.si_code == Native.Signal.CLD_EXITED ? info.si_status : 128 + info.si_status;
    }

    /// <summary>Ends it at once, if it still runs.</summary>
    public void Kill()
    {
        if (_exitCode is null)
            _ = Native.Kill(Pid, Native.Signal.SIGKILL);
    }

    /// <summary>Forgets it; it runs on.</summary>
    public void Dispose() => _pidFd.Dispose();

    /// <summary>A null-terminated array of C strings.</summary>
    private sealed unsafe class CStrings : IDisposable
    {
        private readonly int _count;

        public byte** Pointer { get; }

        public CStrings(IEnumerable<string> strings)
        {
            string[] all = [.. strings];
            _count = all.Length;
            Pointer = (byte**)NativeMemory.AllocZeroed((nuint)_count + 1, (nuint)sizeof(byte*));
            for (int i = 0; i < _count; i++)
                Pointer[i] = (byte*)Marshal.StringToCoTaskMemUTF8(all[i]);
        }

        public void Dispose()
        {
            for (int i = 0; i < _count; i++)
                Marshal.FreeCoTaskMem((nint)Pointer[i]);
            NativeMemory.Free(Pointer);
        }
    }
}
