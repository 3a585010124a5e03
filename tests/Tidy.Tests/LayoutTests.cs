using System.Xml.Linq;
using NUnit.Framework;

namespace Testbed.Tidy.Tests;

/// <summary>Where things are, and who may know whom.</summary>
public sealed class LayoutTests
{
    private static readonly string[] TopLevel =
    [
        "engine/", "scenarios/", "traces/", "notebooks/", "reports/", "tests/", ".ci/", ".github/",
        "Testbed.sln", "README.md", "ARCHITECTURE.md", "SECURITY.md", "LICENSE", "testbed",
        ".editorconfig", ".gitignore", ".gitattributes", "global.json", "Directory.Build.props", "Directory.Build.targets", "Directory.Packages.props",
    ];

    /// <summary>Who may see whom, at any distance. Dependencies point inwards: nobody sees Cli; Core sees nobody.</summary>
    private static readonly Dictionary<string, string[]> MayKnow = new()
    {
        ["Core"] = [],
        ["Policies"] = ["Core"],
        ["PolicyFiles"] = ["Core", "Policies"],
        ["PageXfer"] = ["Core"],
        ["Traces"] = ["Core"],
        ["Scenarios"] = ["Core"],
        ["Uffd"] = ["Core", "PageXfer"],
        ["Replay"] = ["Core", "Policies", "Traces"],
        ["Live"] = ["Core", "Policies", "PageXfer", "Uffd", "Traces"],
        ["Reports"] = ["Core", "Policies", "PageXfer", "Uffd", "Traces", "Replay", "Scenarios", "Live"],
        ["Daemon"] = ["Core", "Policies", "PageXfer", "Uffd", "Traces", "Live"],
        ["Cli"] = ["Core", "Policies", "PolicyFiles", "PageXfer", "Uffd", "Traces", "Replay", "Scenarios", "Live", "Reports"],
    };

    private static IEnumerable<string> Projects => Repository.FilesNamed(".csproj");

    private static IEnumerable<string> ProductProjects => Projects.Where(p => !p.StartsWith("tests/", StringComparison.Ordinal));

    [Test]
    public void TopLevelHoldsOnlyWhatANewcomerLooksFor()
    {
        IEnumerable<string> found = Repository.Files.Select(f => f.Contains('/', StringComparison.Ordinal) ? f[..(f.IndexOf('/', StringComparison.Ordinal) + 1)] : f).Distinct();
        Assert.That(found.Except(TopLevel), Is.Empty, "put it into the folder that it belongs to (ARCHITECTURE.md says which)");
    }

    [TestCaseSource(nameof(ProductProjects))]
    public void DependenciesPointInwards(string project)
    {
        string name = NameOf(project);
        Assert.That(MayKnow, Does.ContainKey(name), $"a new assembly: say in {nameof(LayoutTests)}.{nameof(MayKnow)} what it may see");
        Assert.That(Closure(project).Select(NameOf).Except(MayKnow[name]), Is.Empty,
            $"{name} must not see these, not even through others: hand the data in through a type of Core");
    }

    [TestCaseSource(nameof(Projects))]
    public void ProjectIsInTheSolution(string project) =>
        Assert.That(Repository.Read("Testbed.sln").Replace('\\', '/'), Does.Contain($"\"{project}\""),
            $"or nobody builds it: dotnet sln add {project}");

    [TestCaseSource(nameof(ProductProjects))]
    public void AssemblyHasItsTests(string project)
    {
        string name = NameOf(project);
        Assert.That(Projects, Does.Contain($"tests/{name}.Tests/{name}.Tests.csproj"), $"{name} has no test project of its own");
    }

    [TestCaseSource(nameof(Projects))]
    public void PackageVersionsAreCentral(string project)
    {
        IEnumerable<string?> bad = XDocument.Parse(Repository.Read(project)).Descendants("PackageReference")
            .Where(p => p.Attribute("Version") is not null || p.Attribute("VersionOverride") is not null).Select(p => p.Attribute("Include")?.Value);
        Assert.That(bad, Is.Empty, "versions belong in Directory.Packages.props");
    }

    private static string NameOf(string project) => Path.GetFileNameWithoutExtension(project).Replace("Testbed.", "", StringComparison.Ordinal);

    private static HashSet<string> Closure(string project)
    {
        var seen = new HashSet<string>();
        var open = new Stack<string>([project]);
        while (open.TryPop(out string? next))
        {
            foreach (XElement reference in XDocument.Parse(Repository.Read(next)).Descendants("ProjectReference"))
            {
                string path = Path.Combine(Repository.Root, Path.GetDirectoryName(next)!, reference.Attribute("Include")!.Value.Replace('\\', '/'));
                string target = Path.GetRelativePath(Repository.Root, Path.GetFullPath(path));
                if (seen.Add(target))
                    open.Push(target);
            }
        }
        return seen;
    }
}
