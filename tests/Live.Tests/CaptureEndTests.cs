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
        server = socket.socket(socket.AF_UNIX)
        server.bind(sys.argv[1])
        server.listen(16)
        memory = [bytes([i % 250 + 1]) * 4096 for i in range(3000)]
        while True:
            client, _ = server.accept()
            for line in client.makefile('rb'):
                if sys.argv[2] == 'fill' and line.startswith(b'SET') or sys.argv[2] == 'away' and ' um ' in open('/proc/self/smaps').read():
                    open(sys.argv[1] + '.silent', 'w').close()
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

    private Cli Capture(string silentAt, params string[] more)
    {
        string file = Path.Combine(_folder, "silent.json");
        File.WriteAllText(file, $$"""
            {
              "name": "silent", "description": "answers, and then no more", "programs": { "/usr/bin/python3": "python3" },
              "command": "/usr/bin/python3", "arguments": ["-u", "{here}/silent.py", "{unixsocket}", "{{silentAt}}"],
              "protocol": "line", "keys": 20, "valueSize": "10B", "firstResponse": "PING", "fill": { "request": "SET {n} {value}" },
              "load": { "request": "GET {n}", "connections": 1, "requests": 100 }, "check": { "request": "CHECK" }
            }
            """);
        return new Cli(["capture", file, "-o", Path.Combine(_folder, "out.trace"), .. more]);
    }

    private static bool IsSilent(Cli capture) => Directory.EnumerateFiles(capture.Temporary, "*.silent", SearchOption.AllDirectories).Any();

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
}
