using System.Diagnostics;
using NUnit.Framework;

namespace Testbed.Live.Tests;

/// <summary>A capture of a workload can be interrupted while it is filled and while its first response is waited for.</summary>
[NonParallelizable]
public sealed class CaptureEndTests
{
    private const int Interrupt = 2, Terminate = 15;

    /// <summary>Answers each line, until it is told to fill, or until its memory is missing: then never again.</summary>
    private const string Program = """
        import socket, sys, time
        where, silent_at, marker = sys.argv[1:]
        if where.startswith('/'):
            server = socket.socket(socket.AF_UNIX)
            server.bind(where)
        else:
            server = socket.create_server((where.split(':')[0], int(where.split(':')[1])))
        server.listen(16)
        memory = [bytes([i % 250 + 1]) * 4096 for i in range(3000)]
        def is_silent(line):
            if silent_at == 'fill':
                return line.startswith(b'SET')
            return ' um ' in open('/proc/self/smaps').read()
        while True:
            client, _ = server.accept()
            for line in client.makefile('rb'):
                if is_silent(line):
                    open(marker, 'w').close()
                    time.sleep(3600)
                client.sendall(b'ok\n')
        """;

    private string _folder = "";

    [SetUp]
    public void Prepare()
    {
        Live.RequireRoot();
        Live.RequireProgram("python3");
        _folder = Directory.CreateTempSubdirectory("capture-end-").FullName;
        File.WriteAllText(Path.Combine(_folder, "silent.py"), Program);
    }

    [TearDown]
    public void Clean() => Directory.Delete(_folder, recursive: true);

    private Cli Capture(string silentAt, params string[] more) =>
        new(["capture", Workload(_folder, "{unixsocket}", silentAt), "-o", Path.Combine(_folder, "out.trace"), .. more]);

    private string Workload(string directory, string where, string silentAt)
    {
        string file = Path.Combine(directory, "silent.json");
        File.WriteAllText(file, $$"""
            {
              "name": "silent", "description": "answers, and then no more",
              "programs": { "/usr/bin/python3": "python3" }, "command": "/usr/bin/python3",
              "arguments": ["-u", "{{_folder}}/silent.py", "{{where}}", "{{silentAt}}", "{dir}/x.silent"],
              "protocol": "line", "keys": 20, "valueSize": "10B",
              "firstResponse": "PING", "fill": { "request": "SET {n} {value}" },
              "load": { "request": "GET {n}", "connections": 1, "requests": 100 }, "check": { "request": "CHECK" }
            }
            """);
        return file;
    }

    private static bool IsSilent(Cli capture) => Directory.EnumerateFiles(capture.Temporary, "*.silent", SearchOption.AllDirectories).Any();

    /// <summary>A process whose command line names the temporary directory, as the program's marker does; 0: there is none.</summary>
    private static int ProgramOf(Cli capture) => Directory.EnumerateDirectories("/proc").Select(Path.GetFileName)
        .Where(name => int.TryParse(name, out _)).Select(name => int.Parse(name!))
        .FirstOrDefault(pid => CommandLine(pid).Contains(capture.Temporary, StringComparison.Ordinal) && CommandLine(pid).StartsWith("/usr/bin/python3", StringComparison.Ordinal));

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

    private void AssertNothingIsLeft(Cli capture)
    {
        Assert.That(ProgramOf(capture), Is.Zero, "the program");
        Assert.That(Directory.EnumerateFileSystemEntries(capture.Temporary, "testbed-*"), Is.Empty);
        Assert.That(Directory.EnumerateFiles(_folder, "out*"), Is.Empty, "no half-written output");
    }

    [Test]
    public void Capture_ends_at_a_signal_while_it_fills([Values(Interrupt, Terminate)] int signal)
    {
        using Cli capture = Capture("fill");
        Redis.WaitFor(() => IsSilent(capture));
        long asked = Stopwatch.GetTimestamp();
        capture.Signal(signal);
        Assert.That(capture.WaitForExit(60), Is.EqualTo(130), capture.Error);
        Assert.That(Stopwatch.GetElapsedTime(asked).TotalSeconds, Is.LessThan(20), "not the two minutes of an answer that does not come");
        Assert.That(capture.Error, Does.Contain("testbed: interrupted"));
        AssertNothingIsLeft(capture);
    }

    [Test]
    public void Capture_ends_at_a_signal_while_it_waits_for_the_first_response()
    {
        using Cli capture = Capture("away");
        Redis.WaitFor(() => IsSilent(capture));
        long asked = Stopwatch.GetTimestamp();
        capture.Signal(Interrupt);
        capture.Signal(Interrupt);
        Assert.That(capture.WaitForExit(60), Is.EqualTo(130), capture.Error);
        Assert.That(Stopwatch.GetElapsedTime(asked).TotalSeconds, Is.LessThan(20));
        Assert.That(capture.Error, Does.Match("testbed: interrupted; giving the process its memory back: [0-9]+ pages"));
        AssertNothingIsLeft(capture);
    }

    [Test]
    public void Capture_waits_no_longer_for_the_first_response_than_for_the_load()
    {
        using Cli capture = Capture("away", "--for", "2s");
        Assert.That(capture.WaitForExit(60), Is.EqualTo(2), capture.Error);
        Assert.That(capture.Error, Does.Contain("no first response within 2"));
        AssertNothingIsLeft(capture);
    }

    [Test]
    public void Migrate_ends_at_a_signal_while_it_fills()
    {
        if (Scenarios.CriuSetup.Find() is null)
            Live.Missing("CRIU is not here (sh scenarios/setup/criu.sh)");
        string scenarios = Directory.CreateDirectory(Path.Combine(_folder, "migrations")).FullName;
        Workload(Directory.CreateDirectory(Path.Combine(_folder, "workloads")).FullName, "{address}:{port}", "fill");
        string scenario = Path.Combine(scenarios, "silent.json");
        File.WriteAllText(scenario, """
            { "name": "silent", "description": "never moves", "workload": "silent", "pairs": ["testbed+testbed"], "rounds": 1, "requests": 1 }
            """);
        using var migrate = new Cli("migrate", scenario, "--output", Path.Combine(_folder, "out"));
        Redis.WaitFor(() => IsSilent(migrate));
        long asked = Stopwatch.GetTimestamp();
        migrate.Signal(Terminate);
        Assert.That(migrate.WaitForExit(60), Is.EqualTo(130), migrate.Error);
        Assert.That(Stopwatch.GetElapsedTime(asked).TotalSeconds, Is.LessThan(20));
        Assert.That(migrate.Error, Does.Contain("interrupted; testbed+testbed, round 1: both hosts"));
        Assert.That(ProgramOf(migrate), Is.Zero, "the program");
        Assert.That(Directory.EnumerateFileSystemEntries(migrate.Temporary, "testbed-*"), Is.Empty);
        Assert.That(Directory.EnumerateFiles(_folder, "migrations.csv", SearchOption.AllDirectories), Is.Empty);
    }
}
