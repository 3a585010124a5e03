using System.Diagnostics;

namespace Testbed.Cli.Tests;

/// <summary>What a run of the program gave.</summary>
internal sealed record Outcome(int ExitCode, string Output, string Errors);

/// <summary>The program, run from the repository's root as a process of its own.</summary>
internal static class TestbedProgram
{
    public static string Root { get; } = Find();

    public static Outcome Run(params string[] arguments)
    {
        using Process process = Start(arguments);
        Task<string> errors = process.StandardError.ReadToEndAsync();
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return new Outcome(process.ExitCode, output, errors.Result);
    }

    /// <summary>Starts it; input is at its end, output and errors can be read.</summary>
    public static Process Start(params string[] arguments)
    {
        var start = new ProcessStartInfo("dotnet", [Path.Combine(AppContext.BaseDirectory, "testbed.dll"), .. arguments])
        {
            WorkingDirectory = Root,
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        Process process = Process.Start(start)!;
        process.StandardInput.Close();
        return process;
    }

    private static string Find()
    {
        for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            if (File.Exists(Path.Combine(folder.FullName, "Testbed.sln")))
                return folder.FullName;
        }
        throw new InvalidOperationException("Testbed.sln is not above the test assembly; run the tests from a clone");
    }
}
