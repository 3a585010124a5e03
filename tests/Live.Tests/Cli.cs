using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Text;
using NUnit.Framework;

namespace Testbed.Live.Tests;

/// <summary>The real program, as a process of its own, with a temporary directory of its own.</summary>
internal sealed class Cli : IDisposable
{
    private readonly Process _process;
    private readonly string _temporary = Directory.CreateTempSubdirectory("live-cli-").FullName;
    private readonly StringBuilder _said = new();
    private readonly Task<string> _output, _error;

    public static string Program { get; } = Path.Combine(AppContext.BaseDirectory, "testbed.dll");

    public Cli(params string[] arguments)
        : this(["dotnet", Program], arguments) { }

    /// <summary>Run by a command that ends with the program.</summary>
    public Cli(string[] command, string[] arguments)
    {
        var start = new ProcessStartInfo(command[0], [.. command[1..], .. arguments]) { RedirectStandardOutput = true, RedirectStandardError = true };
        start.Environment["TMPDIR"] = _temporary;
        start.Environment["DOTNET_CLI_HOME"] = _temporary;
        _process = Process.Start(start)!;
        (_output, _error) = (_process.StandardOutput.ReadToEndAsync(), CollectAsync(_process.StandardError));
    }

    public int Pid => _process.Id;

    public string Output => _output.Result;

    public string Error => _error.Result;

    /// <summary>What it wrote to standard error up to now.</summary>
    public string ErrorSoFar
    {
        get
        {
            lock (_said)
                return _said.ToString();
        }
    }

    private async Task<string> CollectAsync(StreamReader reader)
    {
        var buffer = new char[4096];
        for (int n; (n = await reader.ReadAsync(buffer)) > 0;)
        {
            lock (_said)
                _said.Append(buffer, 0, n);
        }
        return ErrorSoFar;
    }

    /// <summary>What the guard said, once it had something to say.</summary>
    public string GuardLog => Path.Combine(_temporary, "testbed-guard.log") is var path && File.Exists(path) ? File.ReadAllText(path) : "";

    /// <summary>Its temporary directory, into which images go.</summary>
    public string Temporary => _temporary;

    public string? ImagesDirectory => Directory.EnumerateDirectories(_temporary, "testbed-images-*").FirstOrDefault();

    public int? Guard => Directory.EnumerateDirectories("/proc").Select(Path.GetFileName).Where(n => int.TryParse(n, out _)).Select(n => (int?)int.Parse(n!))
        .FirstOrDefault(pid => CommandLine(pid!.Value) is var line && line.Contains("\0guard\0", StringComparison.Ordinal) && line.Contains($"\0{Pid}\0", StringComparison.Ordinal));

    private static string CommandLine(int pid)
    {
        try
        {
            return File.ReadAllText($"/proc/{pid}/cmdline");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return "";
        }
    }

    public bool HasExited => _process.HasExited;

    public void Kill() => _process.Kill();

    public void Signal(int signal) => Assert.That(kill(_process.Id, signal), Is.Zero);

    public int WaitForExit(int seconds = 60)
    {
        if (!_process.WaitForExit(TimeSpan.FromSeconds(seconds)))
            throw new TimeoutException($"testbed does not end within {seconds} s");
        return _process.ExitCode;
    }

    public void Dispose()
    {
        if (!_process.HasExited)
            _process.Kill();
        _process.Dispose();
        Directory.Delete(_temporary, recursive: true);
    }

    [DllImport("libc")]
    private static extern int kill(int pid, int signal);
}
