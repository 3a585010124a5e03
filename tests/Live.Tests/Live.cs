using System.Diagnostics;
using System.IO.Pipes;
using NUnit.Framework;
using Testbed.Uffd;

namespace Testbed.Live.Tests;

/// <summary>What live tests need, and what they do without it.</summary>
internal static class Live
{
    /// <summary>Skips loudly, and fails under CI: there, everything must be able to run.</summary>
    public static void Missing(string what)
    {
        if (Environment.GetEnvironmentVariable("CI") == "true")
            Assert.Fail($"CI cannot run this test: {what}");
        Assert.Ignore($"SKIPPED: {what}");
    }

    public static void RequireRoot()
    {
        if (Environment.UserName != "root")
            Missing("root is needed to trace and to use userfaultfd");
    }

    public static void RequireProgram(string name)
    {
        if (Find(name) is null)
            Missing($"{name} is not installed");
    }

    public static string? Find(string name) =>
        (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':').Append("/usr/bin").Select(d => Path.Combine(d, name)).FirstOrDefault(File.Exists);

    /// <summary>Compiles a C program of this project, once.</summary>
    public static string Build(string name)
    {
        RequireProgram("gcc");
        string source = Path.Combine(AppContext.BaseDirectory, "Programs", name + ".c");
        string program = Path.Combine(AppContext.BaseDirectory, name);
        if (!File.Exists(program) || File.GetLastWriteTimeUtc(program) < File.GetLastWriteTimeUtc(source))
        {
            using Process gcc = Process.Start("gcc", ["-O2", "-pthread", "-o", program, source]);
            gcc.WaitForExit();
            Assert.That(gcc.ExitCode, Is.Zero, "gcc");
        }
        return program;
    }

    /// <summary>Whether the capture with images in this directory has come to the point where the process runs.</summary>
    public static bool Serves(string images)
    {
        if (!ChangeJournal.Exists(images))
            return false;
        using ChangeJournal journal = ChangeJournal.Open(images);
        return journal.Phase == CapturePhase.Serving && !ProcessInfo.ThreadIds(journal.Pid).Any(tid => ProcessInfo.ThreadState(journal.Pid, tid) == 't');
    }

    /// <summary>Runs a command to its end.</summary>
    public static string Run(string program, params string[] arguments)
    {
        ProcessStartInfo start = new(program, arguments) { RedirectStandardOutput = true };
        using Process process = Process.Start(start)!;
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return output.Trim();
    }
}

/// <summary>A process that takes commands on its standard input and answers each with a line.</summary>
internal sealed class Subject : IDisposable
{
    private readonly AnonymousPipeServerStream _input = new(PipeDirection.Out), _output = new(PipeDirection.In);
    private readonly StreamWriter _writer;
    private readonly StreamReader _reader;
    private readonly LaunchedProgram _program;

    public Subject(string program, params string[] arguments)
    {
        _program = LaunchedProgram.Start(program, arguments,
            (int)_input.ClientSafePipeHandle.DangerousGetHandle(), (int)_output.ClientSafePipeHandle.DangerousGetHandle());
        _input.DisposeLocalCopyOfClientHandle();
        _output.DisposeLocalCopyOfClientHandle();
        (_writer, _reader) = (new StreamWriter(_input) { AutoFlush = true }, new StreamReader(_output));
    }

    /// <summary>The C program with so many pages in each of its four areas; with waiting threads, or alone.</summary>
    public static Subject Start(int pages, bool threads)
    {
        Subject subject = new(Live.Build("target"), pages.ToString(), threads ? "1" : "0");
        Assert.That(subject.ReadLine(), Is.EqualTo("ready"));
        return subject;
    }

    public int Pid => _program.Pid;

    public LaunchedProgram Program => _program;

    public void Send(string command) => _writer.WriteLine(command);

    public string? ReadLine()
    {
        Task<string?> line = _reader.ReadLineAsync();
        return line.Wait(TimeSpan.FromSeconds(30)) ? line.Result : throw new TimeoutException($"no answer from {Pid} (state {File.ReadAllText($"/proc/{Pid}/stat").Split(')')[^1][..2]})");
    }

    public string? Ask(string command)
    {
        Send(command);
        return ReadLine();
    }

    /// <summary>Everything about it that a capture must leave as it was.</summary>
    public string Traces()
    {
        IEnumerable<string> fds = Directory.EnumerateFileSystemEntries($"/proc/{Pid}/fd")
            .Select(fd => $"{Path.GetFileName(fd)} {new FileInfo(fd).LinkTarget}").Order();
        // Not SigQ: it counts the signals of all processes of the user.
        IEnumerable<string> status = File.ReadLines($"/proc/{Pid}/status")
            .Where(l => (l.StartsWith("Sig", StringComparison.Ordinal) && !l.StartsWith("SigQ", StringComparison.Ordinal)) || l.StartsWith("Shd", StringComparison.Ordinal) || l.StartsWith("Tracer", StringComparison.Ordinal) || l.StartsWith("Threads", StringComparison.Ordinal));
        return string.Join('\n', [.. File.ReadLines($"/proc/{Pid}/maps"), .. fds, .. status]);
    }

    public void Dispose()
    {
        _program.Kill();
        _program.WaitForExit(TimeSpan.FromSeconds(10));
        _program.Dispose();
        _output.Dispose();
        _input.Dispose();
    }
}
