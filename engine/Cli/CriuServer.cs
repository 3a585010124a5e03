using System.Diagnostics;
using System.IO.Pipes;
using Microsoft.Win32.SafeHandles;
using Mono.Unix.Native;
using Testbed.Core;
using Testbed.Uffd;

namespace Testbed.Cli;

/// <summary>How bad a log line is; CRIU's numbers.</summary>
internal enum LogLevel
{
    Error = 1,
    Warning = 2,
    Info = 3,
    Debug = 4,
}

/// <summary>
/// A server under CRIU's conventions: its log, its pid file, the descriptor that tells that it is ready, and its way into the background.
/// </summary>
internal sealed class CriuServer : IDisposable
{
    // Set for the process in the background, to a descriptor for its log, or -1: its standard error is a pipe to the
    // one that was started by the user.
    private const string InBackground = "TESTBED_IN_BACKGROUND";

    private readonly CriuSettings _settings;
    private readonly TextWriter _log;
    private readonly long _began = Stopwatch.GetTimestamp();

    private CriuServer(CriuSettings settings, bool append)
    {
        _settings = settings;
        try
        {
            // Scripts read it while we run, and expect it to exist whatever happens.
            _log = settings.LogFile switch
            {
                null or "-" when !append && LogOfStarter() is { } theirs => theirs,
                null => Console.Error,
                "-" => Console.Out,
                { } file => new StreamWriter(file, append) { AutoFlush = true },
            };
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new BadInputException($"--log-file {settings.LogFile}: cannot be written ({e.Message})", e);
        }
    }

    /// <summary>Runs a server: here, or with --daemon in a process of its own for which this one waits until it is ready.</summary>
    /// <returns>The exit code.</returns>
    public static int Run(CriuSettings settings, Func<CriuServer, int> serve)
    {
        if (settings.Daemon && Environment.GetEnvironmentVariable(InBackground) is null)
            return RunInBackground(settings);
        return Run(settings, append: false, serve);
    }

    /// <summary>Goes on for a server that was killed, in its log.</summary>
    /// <returns>The exit code.</returns>
    public static int TakeOver(CriuSettings settings, Func<CriuServer, int> serve) => Run(settings, append: true, serve);

    private static int Run(CriuSettings settings, bool append, Func<CriuServer, int> serve)
    {
        using var server = new CriuServer(settings, append);
        foreach (string remark in append ? [] : settings.Remarks)
            server.Log(LogLevel.Warning, remark);
        try
        {
            return serve(server);
        }
        catch (BadInputException e) when (settings.LogFile is not null)
        {
            server.Log(LogLevel.Error, e.Message);
            throw;
        }
    }

    /// <summary>Writes a line; from -v3 on with the seconds since the beginning, as CRIU's logs have them. From any thread.</summary>
    public void Log(LogLevel level, string line)
    {
        if ((int)level > _settings.Verbosity)
            return;
        string kind = level switch { LogLevel.Error => "Error ", LogLevel.Warning => "Warn  ", _ => "" };
        string time = _settings.Verbosity >= (int)LogLevel.Info ? $"({Stopwatch.GetElapsedTime(_began).TotalSeconds:00.000000}) " : "";
        lock (_log)
            _log.WriteLine($"{time}{kind}{Printable.Of(line)}");
    }

    /// <summary>Tells who waits for it that clients may come.</summary>
    public void Ready()
    {
        if (_settings.PidFile is { } file)
            File.WriteAllText(file, $"{Environment.ProcessId}");
        foreach (string script in _settings.Scripts)
            RunScript(script);
        if (_settings.StatusFd is { } fd)
            TellAndClose(fd);
        if (Environment.GetEnvironmentVariable(InBackground) is null)
            return;
        // A zero byte, not the end of the pipe: the runtime holds copies of standard error that we cannot close.
        TellAndClose(2);
        int nothing = Syscall.open("/dev/null", OpenFlags.O_RDWR);
        if (nothing != 2)
        {
            _ = Syscall.dup2(nothing, 2);
            _ = Syscall.close(nothing);
        }
    }

    /// <summary>Closes the log.</summary>
    public void Dispose()
    {
        if (_settings.LogFile is not (null or "-"))
            _log.Dispose();
    }

    private void RunScript(string script)
    {
        if (_settings.StatusFd is { } fd)
            _ = Syscall.fcntl(fd, FcntlCommand.F_SETFD, 1);
        try
        {
            var start = new ProcessStartInfo(script) { WorkingDirectory = _settings.Work };
            start.Environment["CRTOOLS_SCRIPT_ACTION"] = "status-ready";
            start.Environment["CRTOOLS_IMAGE_DIR"] = _settings.Images;
            using Process process = Process.Start(start)!;
            process.WaitForExit();
            if (process.ExitCode != 0)
                throw new BadInputException($"--action-script {script}: ended with exit code {process.ExitCode}; expected 0");
        }
        catch (System.ComponentModel.Win32Exception e)
        {
            throw new BadInputException($"--action-script {script}: cannot be started ({e.Message})", e);
        }
    }

    private static void TellAndClose(int fd)
    {
        try
        {
            using var handle = new SafeFileHandle(fd, ownsHandle: true);
            using var stream = new FileStream(handle, FileAccess.Write, bufferSize: 0);
            stream.WriteByte(0);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            throw new BadInputException($"--status-fd {fd}: cannot be written ({e.Message}); expected an open descriptor", e);
        }
    }

    /// <summary>
    /// In the background: the output of who started it, where a log without a file goes on, as with CRIU.
    /// </summary>
    private static StreamWriter? LogOfStarter() =>
        int.TryParse(Environment.GetEnvironmentVariable(InBackground), out int fd) && fd > 2
            ? new StreamWriter(new FileStream(new SafeFileHandle(fd, ownsHandle: true), FileAccess.Write, 0)) { AutoFlush = true }
            : null;

    private static int RunInBackground(CriuSettings settings)
    {
        using var pipe = new AnonymousPipeServerStream(PipeDirection.In, HandleInheritability.None);
        using SafeFileHandle nothing = File.OpenHandle("/dev/null", FileMode.Open, FileAccess.ReadWrite);
        // A copy that it inherits.
        int log = settings.LogFile is null or "-" ? Syscall.dup(settings.LogFile is null ? 2 : 1) : -1;
        Environment.SetEnvironmentVariable(InBackground, $"{log}");
        string[] own = OwnProgram.Command;
        using LaunchedProgram program = LaunchedProgram.StartInBackground(
            own[0], [.. own[1..], .. Environment.GetCommandLineArgs().Skip(1)], (int)nothing.DangerousGetHandle(),
            (int)pipe.ClientSafePipeHandle.DangerousGetHandle());
        pipe.DisposeLocalCopyOfClientHandle();
        if (log >= 0)
            _ = Syscall.close(log);
        var said = new List<byte>();
        for (int next; (next = pipe.ReadByte()) >= 0;)
        {
            if (next == 0)
                return 0;
            said.Add((byte)next);
        }
        Console.Error.Write(System.Text.Encoding.UTF8.GetString([.. said]));
        return program.WaitForExit(TimeSpan.FromSeconds(10)) ?? 1;
    }
}
