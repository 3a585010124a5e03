using System.Text.RegularExpressions;
using NUnit.Framework;
using Testbed.Policies;

namespace Testbed.Cli.Tests;

/// <summary>The program as a person meets it: what it says, where it says it, and how it ends.</summary>
public sealed partial class CommandLineTests
{
    private const string Trace = "traces/python-dict.trace";

    private DirectoryInfo _folder = null!;

    [SetUp]
    public void MakeFolder() => _folder = Directory.CreateTempSubdirectory("testbed-cli-");

    [TearDown]
    public void RemoveFolder() => _folder.Delete(recursive: true);

    [TestCase("bogus", "testbed --help")]
    [TestCase("replay", "TRACE")]
    [TestCase("replay nothing.trace", "nothing.trace")]
    [TestCase("trace info Testbed.sln", "not a trace")]
    [TestCase("trace verify engine", "SHA256SUMS")]
    [TestCase("trace verify nowhere", "no such directory")]
    [TestCase("trace stats engine", "no traces there")]
    [TestCase("trace import Testbed.sln -o {out}", "--from")]
    [TestCase("trace import README.md --from lackey -o {out}", "README.md: line 1: ")]
    [TestCase("trace import README.md --from nope -o {out}", "expected one of criu-log")]
    [TestCase("trace import nothing.csv -o {out}", "nothing.csv: cannot be read")]
    [TestCase("trace export " + Trace + " -o {out}", "--to")]
    [TestCase("trace export " + Trace + " -o {out}/no/where.csv", "cannot be written")]
    [TestCase("trace export README.md -o {out}.csv", "not a trace")]
    [TestCase("capture scenarios/workloads/redis-benchmark.json --small -o {out}", "$.small")]
    [TestCase("capture scenarios/workloads/redis.json --inputs 0 -o {out}", "1 to 100")]
    [TestCase("replay " + Trace + " --policy nope", "expected one of")]
    [TestCase("replay " + Trace + " --policy next-n:n=0", "1 to 65536")]
    [TestCase("replay " + Trace + " --link 1", "RATE,ROUND-TRIP")]
    [TestCase("replay " + Trace + " --policy-file nothing.cs", "no such file")]
    [TestCase("replay " + Trace + " --policy-file global.json", "expected a C# file")]
    [TestCase("policies --new {folder}/my-policy.cs", "named like a class")]
    [TestCase("compare nothing.json", "nothing.json")]
    [TestCase("compare global.json", "unknown field")]
    [TestCase("regress scenarios/demo.json --guard speed", "no metric \"speed\"; expected some of p50")]
    [TestCase("regress scenarios/demo.json --baseline {out}", "no such baseline")]
    [TestCase("regress scenarios/demo.json --baseline global.json", "not a baseline")]
    [TestCase("regress scenarios/demo-live-redis.json", "trace: missing")]
    [TestCase("regress scenarios/demo-live-redis.json --against /nowhere/testbed", "cannot be started")]
    [TestCase("figures scenarios/demo.json --style nature -o {out}", "expected one of report, acm, ieee, usenix")]
    [TestCase("figures scenarios/demo.json --format gif -o {out}", "no format \"gif\"")]
    [TestCase("record --pid 999999999 -o {out}", "no such process")]
    [TestCase("record --pid many -o {out}", "--pid")]
    [TestCase("page-server -D nowhere", "--images-dir")]
    [TestCase("page-server -D {folder} --lazy-pages", "no pagemap-PID.img")]
    [TestCase("page-server -D {folder} --address nobody", "expected an IP address")]
    [TestCase("page-server -D {folder} --port 70000 -d", "expected 0 to 65535")]
    [TestCase("page-server -D {folder} --status-fd 77", "--status-fd 77")]
    [TestCase("page-server -D {folder} -vx", "-vx: expected")]
    [TestCase("page-server -D {folder} --sessions -1", "--sessions")]
    [TestCase("page-server -D {folder} --ps-socket 77", "--ps-socket 77")]
    [TestCase("lazy-pages -D {folder} --page-server --ps-socket 77", "--ps-socket 77")]
    [TestCase("-D {folder} --no-such lazy-pages", "--no-such: no such option")]
    public void BadInputIsOneLineAndExitCode2(string line, string said)
    {
        string output = Path.Combine(_folder.FullName, "out");
        Outcome outcome = TestbedProgram.Run(line.Replace("{out}", output, StringComparison.Ordinal).Replace("{folder}", _folder.FullName, StringComparison.Ordinal).Split(' '));
        Assert.That(outcome.Errors, Does.StartWith("testbed: ").And.Contains(said));
        Assert.That(outcome.Errors.TrimEnd('\n'), Does.Not.Contain("\n"), "one line");
        Assert.That(outcome.Output, Is.Empty);
        Assert.That(outcome.ExitCode, Is.EqualTo(2));
        Assert.That(_folder.GetFileSystemInfos(), Is.Empty, "nothing half-written");
    }

    /// <summary>A device has no length, and no end: what is read as a small file is read up to a limit.</summary>
    [TestCase("regress", "/dev/zero")]
    [TestCase("live", "/dev/zero")]
    [TestCase("regress", "scenarios/redis.json", "--baseline", "/dev/zero")]
    public void File_without_an_end_is_refused_in_one_line(params string[] arguments)
    {
        Outcome outcome = TestbedProgram.Run(arguments);
        Assert.That(outcome.ExitCode, Is.EqualTo(2), outcome.Errors);
        Assert.That(outcome.Errors.TrimEnd('\n'), Does.Contain("/dev/zero: more than 16777216 bytes").And.Not.Contain("\n"));
    }

    [Test]
    public void PoliciesListsTheCatalog()
    {
        Outcome outcome = TestbedProgram.Run("policies");
        Assert.That(outcome.ExitCode, Is.Zero, outcome.Errors);
        foreach (string name in PolicyCatalog.Names)
            Assert.That(outcome.Output, Does.Match($@"(?m)^\s*{name}\s"));
    }

    [Test]
    public void APolicyFileGoesFromTheTemplateToTheFigure()
    {
        string file = Path.Combine(_folder.FullName, "StripePolicy.cs"), output = Path.Combine(_folder.FullName, "report");
        Assert.That(TestbedProgram.Run("policies", "--new", file).ExitCode, Is.Zero);
        Outcome replay = TestbedProgram.Run("replay", Trace, "--policy-file", file);
        Assert.That(replay.Output, Does.Match(@"(?m)^\s*stripe-policy\s"), replay.Errors);
        Outcome compare = TestbedProgram.Run("compare", "scenarios/demo.json", "--policy-file", file, "-o", output);
        Assert.That(compare.Output, Does.Match(@"(?m)^\s*stripe-policy\s"), compare.Errors);
        Assert.That(File.ReadAllText(Path.Combine(output, "results.csv")), Does.Contain("stripe-policy"));
        File.WriteAllText(file, File.ReadAllText(file).Replace("_last = fault", "_lost = fault; _lost2 = fault", StringComparison.Ordinal));
        Outcome broken = TestbedProgram.Run("replay", Trace, "--policy-file", file);
        Assert.That(broken.ExitCode, Is.EqualTo(2));
        Assert.That(broken.Errors.TrimEnd().Split('\n'), Has.Length.EqualTo(2).And.All.Match(@"^testbed: .*StripePolicy\.cs\(\d+,\d+\): error CS0103: "));
    }

    [Test]
    public void HelpIsAPageForEachVerbWithExamplesThatAreUnderstood()
    {
        string root = TestbedProgram.Run("--help").Output;
        Assert.That(root, Does.Contain("Exit codes:").And.Contain("130  interrupted"));
        string[] verbs = [.. Regex.Match(root, @"Commands:\n(.*?)\n\n", RegexOptions.Singleline).Groups[1].Value.Split('\n')
            .Where(l => l.StartsWith("  ", StringComparison.Ordinal) && char.IsAsciiLetter(l[2])).Select(l => l.Trim().Split(' ')[0])];
        Assert.That(verbs, Does.Contain("regress").And.Contain("page-server").And.Length.GreaterThan(10));
        foreach (string verb in verbs.Where(v => v != "trace"))
        {
            string help = TestbedProgram.Run(verb, "--help").Output;
            Assert.That(help, Does.Match(@"Examples?:\n  (sudo |source <\()?testbed " + verb), $"{verb} has no example");
            Assert.That(help.IndexOf("Options:", StringComparison.Ordinal), Is.LessThan(help.IndexOf("\nExample", StringComparison.Ordinal)), $"{verb}: examples come last");
        }
    }

    [Test]
    public void CompletionKnowsVerbsAndPolicies()
    {
        foreach (string shell in (string[])["bash", "zsh", "fish"])
            Assert.That(TestbedProgram.Run("completion", shell).Output, Does.Contain("[suggest:").And.Contain("_testbed"), shell);
        Assert.That(TestbedProgram.Run("[suggest:13]", "testbed regre").Output.Split('\n'), Does.Contain("regress"));
        Assert.That(TestbedProgram.Run("[suggest:32]", "testbed replay x.trace --policy ").Output.Split('\n'), Does.Contain("next-n"));
    }

    [Test]
    public void RegressHasThreeExitCodes()
    {
        string baseline = Path.Combine(_folder.FullName, "base.json"), junit = Path.Combine(_folder.FullName, "j.xml"), markdown = Path.Combine(_folder.FullName, "m.md");
        Outcome Regress(params string[] more) => TestbedProgram.Run(["regress", "scenarios/python.json", "--baseline", baseline, .. more]);
        Assert.That(Regress("--update").ExitCode, Is.Zero);
        string good = File.ReadAllText(baseline);
        Outcome same = Regress("--junit", junit, "--markdown", markdown);
        Assert.That((same.ExitCode, File.Exists(junit), File.Exists(markdown)), Is.EqualTo((0, true, true)), same.Errors);
        // A twentieth less than it is: what is now is 5 % worse.
        Match p99 = Regex.Match(good, @"""p99"":(\d+)");
        File.WriteAllText(baseline, good[..p99.Groups[1].Index] + (long)(long.Parse(p99.Groups[1].Value) / 1.05) + good[(p99.Index + p99.Length)..]);
        Outcome worse = Regress();
        Assert.That(worse.ExitCode, Is.EqualTo(1));
        Assert.That(worse.Output, Does.Match(@"p99 .* \+5\.00 %  REGRESSED"));
        File.WriteAllText(baseline, good.Replace("\"seed\":1", "\"seed\":2", StringComparison.Ordinal));
        Assert.That(Regress().ExitCode, Is.EqualTo(2));
    }

    [Test]
    public void ReplayOfTheSameIsTheSame()
    {
        string First(string seed) => CommandHash().Match(TestbedProgram.Run("replay", Trace, "--policy", "bubbling", "--link", "1g", "--seed", seed).Output).Groups[1].Value;
        string hash = First("1");
        Assert.That(hash, Has.Length.EqualTo(16));
        Assert.That(First("1"), Is.EqualTo(hash));
        string other = CommandHash().Match(TestbedProgram.Run("replay", Trace, "--policy", "demand", "--link", "1g").Output).Groups[1].Value;
        Assert.That(other, Is.Not.EqualTo(hash), "the hash tells one policy's commands from another's");
    }

    [Test]
    public void CompareOfTheSameScenarioWritesTheSameResults()
    {
        byte[] Compare(string folder)
        {
            string output = Path.Combine(_folder.FullName, folder);
            Outcome outcome = TestbedProgram.Run("compare", "scenarios/demo.json", "-o", output);
            Assert.That(outcome.ExitCode, Is.Zero, outcome.Errors);
            Assert.That(File.ReadAllText(Path.Combine(output, "index.html")), Does.Contain("</html>"));
            Assert.That(Directory.GetFiles(Path.Combine(output, "figures"), "*.svg"), Is.Not.Empty);
            return File.ReadAllBytes(Path.Combine(output, "results.csv"));
        }
        byte[] first = Compare("first");
        Assert.That(first.Count(b => b == '\n'), Is.GreaterThan(15), "five policies over three links");
        Assert.That(Compare("second"), Is.EqualTo(first));
    }

    [Test]
    public void TheReadmesTableOfOrdersIsWhatCompareSays()
    {
        Outcome outcome = TestbedProgram.Run("compare", "scenarios/orders.json", "-o", Path.Combine(_folder.FullName, "orders"));
        Assert.That(outcome.ExitCode, Is.Zero, outcome.Errors);
        MatchCollection rows = Order().Matches(File.ReadAllText(Path.Combine(TestbedProgram.Root, "README.md")));
        Assert.That(rows, Has.Count.EqualTo(5));
        foreach (Match row in rows)
        {
            string line = outcome.Output.Split('\n').Single(l => l.StartsWith($"  {row.Groups[1].Value} ", StringComparison.Ordinal)) + " ";
            foreach (string number in row.Groups[2].Value.Split('|', StringSplitOptions.TrimEntries))
                Assert.That(line, Does.Match($" {Regex.Escape(number)}[* ]"), row.Value);
        }
    }

    [GeneratedRegex(@"(?m)^\|[^|]*\| `([a-z-]+)` \| ([^|]*\|[^|]*\|[^|]*) \|$")]
    private static partial Regex Order();

    [GeneratedRegex("command hash ([0-9a-f]+)")]
    private static partial Regex CommandHash();
}
