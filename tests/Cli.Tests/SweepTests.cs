using System.Diagnostics;
using System.Globalization;
using System.Text.RegularExpressions;
using NUnit.Framework;

namespace Testbed.Cli.Tests;

/// <summary>A sweep that is stopped goes on, and runs nothing twice.</summary>
public sealed class SweepTests
{
    private DirectoryInfo _folder = null!;

    [SetUp]
    public void MakeFolder() => _folder = Directory.CreateTempSubdirectory("testbed-sweep-");

    [TearDown]
    public void RemoveFolder() => _folder.Delete(recursive: true);

    [Test]
    public void RunsEveryCombinationOnceAndAfterACutWhatIsMissing()
    {
        string scenario = Scenario("\"next-n:n=4|16,background=true|false\", \"demand\"", "\"1g\", \"100m\"");
        string output = Path.Combine(_folder.FullName, "out"), journal = Path.Combine(output, "sweep.journal"), csv = Path.Combine(output, "sweep.csv");
        Assert.That(Sweep(scenario, output), Does.StartWith("10 replays, 10 run and 0 kept"));
        string whole = File.ReadAllText(csv);
        foreach (string policy in (string[])["next-n:n=4,background=true", "next-n:n=4,background=false", "next-n:n=16,background=true", "next-n:n=16,background=false"])
            Assert.That(whole.Split($"\"{policy}\""), Has.Length.EqualTo(3), "once for each link");
        Assert.That(Sweep(scenario, output), Does.StartWith("10 replays, 0 run and 10 kept"));

        // As a kill in the middle of a line leaves it.
        string[] lines = File.ReadAllLines(journal);
        File.WriteAllText(journal, string.Join('\n', lines[..6]) + "\n" + lines[6][..40]);
        File.Delete(csv);
        Assert.That(Sweep(scenario, output), Does.StartWith("10 replays, 4 run and 6 kept"));
        Assert.That(File.ReadAllText(csv), Is.EqualTo(whole));

        Assert.That(Sweep(Scenario("\"next-n:n=4|32\", \"demand\"", "\"1g\", \"100m\""), output), Does.StartWith("6 replays, 4 run and 2 kept"), "what did not change is not run");
        Assert.That(File.Exists(Path.Combine(output, "sweep.parquet")));
    }

    [Test]
    public void KilledInTheMiddleItGoesOnWhereItWas()
    {
        const int All = 96;
        string scenario = Scenario("\"next-n:n=1|2|3|4|5|6|7|8|9|10|11|12|13|14|15|16\", \"bubbling:chunk=1|2|3|4|5|6|7|8|9|10|11|12|13|14|15|16\"", "\"1g\", \"100m\", \"10g\"");
        string output = Path.Combine(_folder.FullName, "killed"), journal = Path.Combine(output, "sweep.journal");
        using (Process sweep = TestbedProgram.Start("sweep", scenario, "-o", output))
        {
            while (!sweep.HasExited && (!File.Exists(journal) || new FileInfo(journal).Length < 2000))
                Thread.Sleep(1);
            Assert.That(sweep.HasExited, Is.False, "killed in the middle of it");
            sweep.Kill();
            sweep.WaitForExit();
            Assert.That(sweep.ExitCode, Is.EqualTo(128 + 9));
        }
        Assert.That(Path.Combine(output, "sweep.csv"), Does.Not.Exist);
        Match counts = Regex.Match(Sweep(scenario, output), @"^(\d+) replays, (\d+) run and (\d+) kept");
        int[] count = [.. counts.Groups.Values.Skip(1).Select(g => int.Parse(g.Value, CultureInfo.InvariantCulture))];
        Assert.That(count[0], Is.EqualTo(All));
        Assert.That(count[1] + count[2], Is.EqualTo(All));
        Assert.That(count[2], Is.InRange(1, All - 1), "what was done is kept, and it was not all");
        string whole = Path.Combine(_folder.FullName, "whole");
        Assert.That(Sweep(scenario, whole), Does.StartWith("96 replays, 96 run"));
        Assert.That(File.ReadAllText(Path.Combine(output, "sweep.csv")), Is.EqualTo(File.ReadAllText(Path.Combine(whole, "sweep.csv"))));
    }

    [Test]
    public void OutsidePoliciesAreSweptAndRunAgainWhenTheirFileChanged()
    {
        string policy = Path.Combine(_folder.FullName, "MyPolicy.cs"), output = Path.Combine(_folder.FullName, "out");
        Assert.That(TestbedProgram.Run("policies", "--new", policy).ExitCode, Is.Zero);
        string scenario = Scenario("\"demand\", \"my-policy + hot-first:region=64|128\"", "\"1g\"");
        string[] arguments = [scenario, "-o", output, "--policy-file", policy];
        Assert.That(Sweep(arguments), Does.StartWith("3 replays, 3 run and 0 kept"));
        Assert.That(Sweep(arguments), Does.StartWith("3 replays, 0 run and 3 kept"));
        File.AppendAllText(policy, "// changed\n");
        Assert.That(Sweep(arguments), Does.StartWith("3 replays, 2 run and 1 kept"));
    }

    [Test]
    public void AValueOutOfRangeIsOneLineBeforeAnythingRuns()
    {
        Outcome outcome = TestbedProgram.Run("sweep", Scenario("\"next-n:n=4|0\"", "\"1g\""), "-o", Path.Combine(_folder.FullName, "out"));
        Assert.That(outcome.ExitCode, Is.EqualTo(2));
        Assert.That(outcome.Errors, Does.Contain("n=0; expected 1 to 65536"));
        Assert.That(Directory.Exists(Path.Combine(_folder.FullName, "out")), Is.False);
    }

    private static string Sweep(string scenario, string output) => Sweep([scenario, "-o", output]);

    private static string Sweep(string[] arguments)
    {
        Outcome outcome = TestbedProgram.Run(["sweep", .. arguments]);
        Assert.That(outcome.ExitCode, Is.Zero, outcome.Errors);
        return outcome.Output;
    }

    private string Scenario(string policies, string links)
    {
        string file = Path.Combine(_folder.FullName, "small.json");
        string trace = Path.GetRelativePath(_folder.FullName, Path.Combine(TestbedProgram.Root, "traces", "python-dict.trace"));
        File.WriteAllText(file, $$"""{ "name": "small", "description": "x", "trace": "{{trace}}", "policies": [{{policies}}], "links": [{{links}}] }""");
        return file;
    }
}
