using System.Diagnostics;
using NUnit.Framework;

namespace Testbed.Criu.Tests;

/// <summary>What a program gave.</summary>
internal sealed record Outcome(int ExitCode, string Output, string Errors);

/// <summary>The CRIU that scenarios/setup/criu.sh installed, our program, and how they are run.</summary>
internal static class RealCriu
{
    private static readonly string Folder = Path.Combine(Root(), "artifacts", "criu");

    public static string Program => Path.Combine(Folder, "criu");

    public static string Decoder => Path.Combine(Folder, "crit");

    public static string Testbed => Path.Combine(AppContext.BaseDirectory, "testbed.dll");

    /// <summary>Our daemon and server, as a command line: the native program where the launcher built it, as its users have it.</summary>
    public static string[] Daemon => Environment.GetEnvironmentVariable("TESTBED_DAEMON") is { Length: > 0 } native ? [native] : ["dotnet", Testbed];

    /// <summary>Runs our daemon or server to its end.</summary>
    public static Outcome RunDaemon(params string[] arguments) => Run(Daemon[0], [.. Daemon[1..], .. arguments]);

    /// <summary>Starts our daemon or server.</summary>
    public static Process StartDaemon(params string[] arguments) => Start(Daemon[0], [.. Daemon[1..], .. arguments]);

    /// <summary>Skips loudly where CRIU was not set up; once it was, what is missing fails under CI.</summary>
    public static void Require()
    {
        if (!File.Exists(Program))
            Assert.Ignore("SKIPPED: CRIU is not set up; run: sh scenarios/setup/criu.sh");
        string? missing = Environment.UserName != "root" ? "root is needed to dump and to restore"
            : !File.Exists("/usr/bin/redis-server") ? "redis-server is not installed"
            : Run("unshare", ["-p", "-m", "-f", "--mount-proc", "true"]).ExitCode != 0 ? "namespaces cannot be made here"
            : Run(Program, ["check"]).ExitCode != 0 ? "criu check fails on this kernel" : null;
        if (missing is null)
            return;
        if (Environment.GetEnvironmentVariable("CI") == "true")
            Assert.Fail($"CI cannot run this test: {missing}");
        Assert.Ignore($"SKIPPED: {missing}");
    }

    /// <summary>Runs a program to its end, and until nobody holds its output any more.</summary>
    public static Outcome Run(string program, string[] arguments, int seconds = 60)
    {
        using Process process = Start(program, arguments);
        process.StandardInput.Close();
        Task<string> output = process.StandardOutput.ReadToEndAsync(), errors = process.StandardError.ReadToEndAsync();
        if (!Task.WaitAll([output, errors], TimeSpan.FromSeconds(seconds)))
        {
            process.Kill();
            throw new TimeoutException($"{program} {string.Join(' ', arguments)}");
        }
        process.WaitForExit();
        return new Outcome(process.ExitCode, output.Result, errors.Result);
    }

    public static Process Start(string program, string[] arguments) => Process.Start(new ProcessStartInfo(program, arguments)
    {
        RedirectStandardInput = true,
        RedirectStandardOutput = true,
        RedirectStandardError = true,
    })!;

    public static string Root()
    {
        DirectoryInfo? folder = new(AppContext.BaseDirectory);
        while (folder is not null && !File.Exists(Path.Combine(folder.FullName, "Testbed.sln")))
            folder = folder.Parent;
        return folder?.FullName ?? throw new InvalidOperationException("Testbed.sln is not above the test assembly; run the tests from a clone");
    }
}

/// <summary>
/// One side of a migration: namespaces for pids and mounts of its own, so that a process can be restored here with the pid
/// that it has, or had, on the other side. The network is the machine's.
/// </summary>
internal sealed class Side : IDisposable
{
    private readonly Process _unshare;
    private readonly string _init;

    public Side()
    {
        _unshare = RealCriu.Start("unshare", ["-p", "-m", "-f", "--mount-proc", "sleep", "600"]);
        string children = $"/proc/{_unshare.Id}/task/{_unshare.Id}/children";
        // Its child is there before it runs sleep, and has mounted its /proc by then.
        while ((_init = File.ReadAllText(children).Trim()).Length == 0 || File.ReadAllText($"/proc/{_init}/comm").Trim() != "sleep")
            Thread.Sleep(10);
    }

    public Outcome Run(params string[] command) => RealCriu.Run("nsenter", Enter(command));

    public Process Start(params string[] command) => StartIn(null, command);

    /// <summary>The same, in another network namespace (a file of /proc).</summary>
    public Process StartIn(string? network, params string[] command) =>
        RealCriu.Start("nsenter", [.. network is null ? (string[])[] : [$"--net={network}"], .. Enter(command)]);

    /// <summary>Starts a program in the background, with a pid that is free on any side, and no descriptor from outside.</summary>
    public void Launch(string command) => Run("bash", "-c", $$"""
        for fd in /proc/self/fd/*; do fd=${fd##*/}; [ $fd -le 2 ] || eval "exec $fd>&-"; done
        echo 1000 >/proc/sys/kernel/ns_last_pid
        cd /
        setsid {{command}} </dev/null >/dev/null 2>&1 &
        """);

    /// <summary>The processes that were launched here, as the machine numbers them.</summary>
    public IEnumerable<int> Processes =>
        File.ReadAllText($"/proc/{_init}/task/{_init}/children").Split(' ', StringSplitOptions.RemoveEmptyEntries).Select(int.Parse);

    public void Dispose()
    {
        // The first process of the namespace takes all others with it.
        using Process kill = Process.Start("kill", ["-9", _init]);
        kill.WaitForExit();
        _unshare.WaitForExit();
        _unshare.Dispose();
    }

    private string[] Enter(string[] command) => ["-t", _init, "-p", "-m", "--", .. command];
}
