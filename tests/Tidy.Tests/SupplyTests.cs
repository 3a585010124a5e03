using System.Text.RegularExpressions;
using NUnit.Framework;

namespace Testbed.Tidy.Tests;

/// <summary>What comes from elsewhere is the very thing that somebody looked at: packages by hash, workflow actions by commit.</summary>
public sealed partial class SupplyTests
{
    // Its compiler is a package of the SDK's version: its project file tells.
    private const string Unlocked = "engine/Daemon/Testbed.Daemon.csproj";

    private static IEnumerable<string> Workflows => Repository.FilesNamed(".yml", ".yaml")
        .Where(f => f.StartsWith(".github/workflows/", StringComparison.Ordinal) || f == "reports/baselines/github-actions.yml");

    [Test]
    public void Packages_are_locked_in_each_project()
    {
        IEnumerable<string> open = Repository.FilesNamed(".csproj").Where(p => p != Unlocked)
            .Where(p => !Repository.Files.Contains(Path.Combine(Path.GetDirectoryName(p)!, "packages.lock.json")));
        Assert.That(open, Is.Empty, "dotnet restore writes packages.lock.json: commit it");
        Assert.That(Repository.Read("Directory.Build.props"), Does.Contain("<NuGetAudit>true<").And.Contains("RestoreLockedMode"));
    }

    [Test]
    public void Package_that_a_project_names_is_in_its_lock_file()
    {
        foreach (string project in Repository.FilesNamed(".csproj").Where(p => p != Unlocked))
        {
            string locked = Repository.Read(Path.Combine(Path.GetDirectoryName(project)!, "packages.lock.json"));
            IEnumerable<string> missing = Reference().Matches(Repository.Read(project)).Select(m => m.Groups[1].Value).Where(name => !locked.Contains($"\"{name}\"", StringComparison.Ordinal));
            Assert.That(missing, Is.Empty, $"{project}: dotnet restore brings its packages.lock.json up to date");
        }
    }

    [Test]
    public void Actions_are_pinned_by_commit_in_each_workflow()
    {
        Assert.That(Workflows.Count(), Is.GreaterThanOrEqualTo(2));
        Assert.That(Repository.Matches(Workflows, LooseAction()), Is.Empty, "a tag can be moved: name the commit, and the tag in a comment behind");
    }

    [Test]
    public void Workflow_may_read_and_nothing_else()
    {
        foreach (string workflow in Workflows)
        {
            string text = Repository.Read(workflow);
            Assert.That(text, Does.Match(@"(?m)^permissions:\n  contents: read$"), workflow);
            Assert.That(text, Does.Not.Match(@":\s*write\b|write-all|pull_request_target"), workflow);
            Assert.That(Checkout().Count(text), Is.EqualTo(Regex.Count(text, "persist-credentials: false")), $"{workflow}: what a step runs must not find the token");
        }
    }

    /// <summary>Each job in a privileged container says that it does not run a stranger's code.</summary>
    [Test]
    public void Privileged_job_does_not_run_when_a_fork_asks()
    {
        foreach (string job in Workflows.SelectMany(w => Job().Split(Repository.Read(w))).Where(j => j.Contains("--privileged", StringComparison.Ordinal)))
            Assert.That(job, Does.Contain("if: github.event_name == 'push' || github.event.pull_request.head.repo.full_name == github.repository"));
    }

    [GeneratedRegex("<PackageReference Include=\"([^\"]+)\"")]
    private static partial Regex Reference();

    [GeneratedRegex(@"uses:\s*(?!\./)[^@\s]+(@(?![0-9a-f]{40}\b)|\s*$)")]
    private static partial Regex LooseAction();

    [GeneratedRegex(@"uses:\s*actions/checkout@")]
    private static partial Regex Checkout();

    [GeneratedRegex(@"(?m)^  (?=[a-z]+:$)")]
    private static partial Regex Job();
}
