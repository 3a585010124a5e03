using System.Text.RegularExpressions;
using NUnit.Framework;

namespace Testbed.Cli.Tests;

/// <summary>Traces through the program: characterised, exchanged with other tools, and captured.</summary>
public sealed class TraceTests
{
    private DirectoryInfo _folder = null!;

    [SetUp]
    public void MakeFolder() => _folder = Directory.CreateTempSubdirectory("testbed-cli-");

    [TearDown]
    public void RemoveFolder() => _folder.Delete(recursive: true);

    [Test]
    public void StatsWritesTableAndFigure()
    {
        string output = In("corpus");
        Outcome outcome = TestbedProgram.Run("trace", "stats", "traces/memcached-small.1.trace", "traces/memcached-small.2.trace", "-o", output);
        Assert.That(outcome.ExitCode, Is.Zero, outcome.Errors);
        Assert.That(outcome.Output, Does.Match(@"(?m)^memcached-small\.2\s.*\s0\.[0-9]{2}\s"), "with a Jaccard index: they are captures of one process");
        Assert.That(Directory.GetFiles(output).Select(Path.GetFileName), Is.EquivalentTo(new[] { "table.csv", "table.md", "characterisation.png", "characterisation.svg", "characterisation.pdf" }));
        byte[] first = File.ReadAllBytes(Path.Combine(output, "characterisation.svg"));
        TestbedProgram.Run("trace", "stats", "traces/memcached-small.1.trace", "traces/memcached-small.2.trace", "-o", output);
        Assert.That(File.ReadAllBytes(Path.Combine(output, "characterisation.svg")), Is.EqualTo(first), "same traces, same bytes");
    }

    [TestCase("csv")]
    [TestCase("parquet")]
    [TestCase("arrow")]
    public void OutAndInAgainReplaysAlike(string format)
    {
        const string trace = "traces/node-small.1.trace";
        string table = In("t." + format), back = In("back.trace");
        Assert.That(TestbedProgram.Run("trace", "export", trace, "-o", table).Output, Does.Contain("left out: "), "it says what the format cannot hold");
        Outcome imported = TestbedProgram.Run("trace", "import", table, "-o", back);
        Assert.That(imported.ExitCode, Is.Zero, imported.Errors);
        Assert.That(_folder.GetFiles().Select(f => f.Name), Is.EquivalentTo(new[] { "t." + format, "back.trace" }), "nothing half-written stays");
        // Under demand only what is touched counts: a table without the other pages tells the same.
        Assert.That(Stall(back), Is.EqualTo(Stall(trace)));
    }

    [Test]
    public void CaptureOfTwoInputsIsOfOneProcess()
    {
        if (Environment.UserName != "root")
            Assert.Ignore("SKIPPED: root is needed to capture");
        Outcome outcome = TestbedProgram.Run("capture", "scenarios/workloads/stress-threads.json", "--small", "--inputs", "2", "-o", In("s.trace"));
        Assert.That(outcome.ExitCode, Is.Zero, outcome.Errors);
        Assert.That(outcome.Output, Does.Match("(?s)s.1.trace.*data equal.*s.2.trace.*data equal"));
        Assert.That(_folder.GetFiles().Select(f => f.Name), Is.EquivalentTo(new[] { "s.1.trace", "s.2.trace" }));
        string stats = TestbedProgram.Run("trace", "stats", _folder.FullName).Output;
        Assert.That(stats, Does.Match(@"(?m)^s\.1 .* 0\.[0-9]{2} "), "a Jaccard index: other places, the same addresses");
        string info = TestbedProgram.Run("trace", "info", In("s.2.trace")).Output;
        Assert.That(info, Does.Contain("2 of 2 from one process").And.Contain("workload-sha256").And.Contain("content-compressed-bytes"));
    }

    /// <summary>Whatever verb prints it: names from a trace, and from the command line in an error, reach the terminal as text.</summary>
    [Test]
    public void Terminal_is_not_steered_when_a_trace_has_hostile_names()
    {
        const string hostile = "\u001b[2J\u202eevil\u009b";
        string csv = In("plain.csv"), trace = In($"{hostile}.trace");
        Assert.That(TestbedProgram.Run("trace", "export", "traces/node-small.1.trace", "-o", csv).ExitCode, Is.Zero);
        File.Move(csv, In($"{hostile}.csv"));
        foreach (string[] arguments in (string[][])
            [["trace", "import", In($"{hostile}.csv"), "-o", trace], ["trace", "info", trace], ["trace", "stats", trace], ["replay", trace], ["trace", "info", In($"no{hostile}")], ["replay", trace, "--policy", hostile]])
        {
            Outcome outcome = TestbedProgram.Run(arguments);
            string said = outcome.Output + outcome.Errors;
            Assert.That(said.Where(c => char.IsControl(c) && c != '\n' || c == '\u202e'), Is.Empty, said);
            Assert.That(said, Does.Contain("\\u{1b}[2J"), string.Join(' ', arguments));
        }
    }

    private string In(string name) => Path.Combine(_folder.FullName, name);

    private static string Stall(string trace)
    {
        Outcome outcome = TestbedProgram.Run("replay", trace, "--policy", "demand", "--link", "1g");
        Assert.That(outcome.ExitCode, Is.Zero, outcome.Errors);
        string[] cells = Regex.Split(outcome.Output.Split('\n').Single(l => l.TrimStart().StartsWith("demand ", StringComparison.Ordinal)).Trim(), " {2,}");
        // Demand faults, and the total stall.
        return $"{cells[1]} {cells[8]}";
    }
}
