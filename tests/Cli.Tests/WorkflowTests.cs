using System.Diagnostics;
using System.Runtime.Versioning;
using System.Text.RegularExpressions;
using System.Xml.Linq;
using NUnit.Framework;

namespace Testbed.Cli.Tests;

/// <summary>The sample workflow as a runner would run it: its own shell block, in a repository as it describes.</summary>
[SupportedOSPlatform("linux")]
public sealed partial class WorkflowTests
{
    private const string Policy = """
        using Testbed.Core;

        [Policy("block", "the aligned block around each fault; nothing while idle")]
        public sealed class BlockPolicy([PolicyOption("pages in a block", Min = 2, Max = 512)] int pages = 32) : IPolicy
        {
            public void OnFault(in PolicyFault fault, PageMap map, Plan plan) =>
                plan.Add(fault.Index - (fault.Index % pages), pages, Cause.Prefetch);

            public void OnIdle(PageMap map, Plan plan) { }
        }
        """;

    private DirectoryInfo _repository = null!;

    [SetUp]
    public void MakeRepository()
    {
        _repository = Directory.CreateTempSubdirectory("testbed-workflow-");
        Write("gate/block.json", """
            {
              "name": "block", "description": "My policy", "trace": "python.trace",
              "policyFiles": ["BlockPolicy.cs"], "policies": ["block"], "links": ["1g"]
            }
            """);
        Write("gate/BlockPolicy.cs", Policy);
        File.Copy(Path.Combine(TestbedProgram.Root, "traces", "python-dict.trace"), At("gate/python.trace"));
        // In the place of the launcher: what it starts.
        Write("testbed/testbed", $"#!/bin/sh\nexec dotnet '{Path.Combine(AppContext.BaseDirectory, "testbed.dll")}' \"$@\"\n");
        File.SetUnixFileMode(At("testbed/testbed"), UnixFileMode.UserRead | UnixFileMode.UserExecute);
    }

    [TearDown]
    public void RemoveRepository() => _repository.Delete(recursive: true);

    [Test]
    public void AWorsePolicyInSourceFailsTheJobAndAnUnchangedOnePasses()
    {
        Outcome first = Shell("testbed/testbed regress gate/block.json --baseline gate/baseline/block.json --update");
        Assert.That(first.ExitCode, Is.Zero, first.Errors);
        Assert.That(Gate().ExitCode, Is.Zero, "unchanged");
        Assert.That(File.ReadAllText(At("summary.md")), Does.Contain("✅ block: no regression"));

        // As somebody would break it: at one page in twenty, next to nothing is prefetched.
        Write("gate/BlockPolicy.cs", Policy.Replace(", pages, Cause", ", fault.Index % 20 == 0 ? 2 : pages, Cause", StringComparison.Ordinal));
        Outcome worse = Gate();
        Assert.That(worse.ExitCode, Is.EqualTo(1), worse.Output + worse.Errors);
        Match change = Regressed().Match(worse.Output);
        Assert.That(change.Success, Is.True, worse.Output);
        Assert.That(double.Parse(change.Groups[1].Value, System.Globalization.CultureInfo.InvariantCulture), Is.InRange(4, 7), "about 5 per cent");
        Assert.That(worse.Output, Does.Match(@"(?m)^::error file=gate/block\.json,title=block%3A block over 1g regressed::"));
        Assert.That(XDocument.Load(At("regress-block.xml")).Descendants("failure"), Has.Exactly(1).Items);
        Assert.That(File.ReadAllText(At("summary.md")), Does.Contain("✅").And.Contain("❌ block: "), "the step's summary is appended to");

        File.Delete(At("gate/baseline/block.json"));
        Assert.That(Gate().ExitCode, Is.EqualTo(2), "no baseline");
    }

    private Outcome Gate() => Shell(Block().Match(File.ReadAllText(Path.Combine(TestbedProgram.Root, "reports/baselines/github-actions.yml"))).Groups[1].Value);

    private Outcome Shell(string script)
    {
        // GitHub's default shell.
        var start = new ProcessStartInfo("bash", ["--noprofile", "--norc", "-eo", "pipefail", "-c", script])
        {
            WorkingDirectory = _repository.FullName,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        start.Environment["GITHUB_ACTIONS"] = "true";
        start.Environment["GITHUB_STEP_SUMMARY"] = At("summary.md");
        using Process process = Process.Start(start)!;
        Task<string> errors = process.StandardError.ReadToEndAsync();
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return new Outcome(process.ExitCode, output, errors.Result);
    }

    private string At(string path) => Path.Combine(_repository.FullName, path);

    private void Write(string path, string text)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(At(path))!);
        File.Delete(At(path));
        File.WriteAllText(At(path), text);
    }

    [GeneratedRegex(@"        run: \|\n(.*?)(?=\n      - |\z)", RegexOptions.Singleline)]
    private static partial Regex Block();

    [GeneratedRegex(@"total stall .* \+([0-9.]+) %  REGRESSED")]
    private static partial Regex Regressed();
}
