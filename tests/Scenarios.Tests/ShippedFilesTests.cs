using NUnit.Framework;
using Testbed.Policies;

namespace Testbed.Scenarios.Tests;

/// <summary>Every data file in the repository is valid, and says what the others say.</summary>
public sealed class ShippedFilesTests
{
    private static IEnumerable<string> ScenarioFiles => Repository.JsonFiles("scenarios");

    private static IEnumerable<string> WorkloadFiles => Repository.JsonFiles("scenarios", "workloads");

    [TestCaseSource(nameof(ScenarioFiles))]
    public void ScenarioIsValid(string file)
    {
        Scenario scenario = Scenario.FromFile(Path.Combine(Repository.Root, file));
        Assert.That(scenario.Name, Is.EqualTo(Path.GetFileNameWithoutExtension(file)), "a scenario is named as its file");
        Assert.That(() => scenario.LoadWorkload(), Throws.Nothing);
        foreach (string policy in scenario.Policies.SelectMany(Scenario.Expand))
            Assert.That(() => PolicyCatalog.Parse(policy), Throws.Nothing);
    }

    private static IEnumerable<string> MigrationFiles => Repository.JsonFiles("scenarios", "migrations");

    [TestCaseSource(nameof(MigrationFiles))]
    public void MigrationIsValid(string file)
    {
        MigrationScenario migration = MigrationScenario.FromFile(Path.Combine(Repository.Root, file));
        Assert.That(migration.Name, Is.EqualTo(Path.GetFileNameWithoutExtension(file)), "a scenario is named as its file");
        Assert.That(() => migration.LoadWorkload(), Throws.Nothing);
    }

    [TestCaseSource(nameof(WorkloadFiles))]
    public void WorkloadIsValid(string file)
    {
        WorkloadFile workload = WorkloadFile.FromFile(Path.Combine(Repository.Root, file));
        string setup = File.ReadAllText(Path.Combine(Repository.Scenarios, "setup", "debian.sh"));
        foreach (string package in workload.Programs.Values.Where(p => p.Length > 0))
            Assert.That(setup, Does.Contain($"\n{package}:"), $"scenarios/setup/debian.sh does not install {package}");
    }

    [Test]
    public void ASmallSizeIsTheSameButForItsSize()
    {
        WorkloadFile full = WorkloadFile.FromFile(Repository.Workload("redis")), small = WorkloadFile.FromFile(Repository.Workload("redis-small"));
        Assert.That((small.Name, small.Keys, small.Load.Requests), Is.EqualTo(("redis-small", 60_000L, 8_000L)));
        Assert.That(small.Arguments, Is.EqualTo(full.Arguments));
        Assert.That(small.Load with { Requests = full.Load.Requests }, Is.EqualTo(full.Load));
    }

    [Test]
    public void DemoComparesEveryPolicyOfTheCatalogThatNeedsNoOptions()
    {
        Scenario demo = Scenario.FromFile(Path.Combine(Repository.Scenarios, "demo.json"));
        string[] policies = [.. demo.Policies.Select(p => PolicyCatalog.Parse(p).About.Name)];
        Assert.That(policies, Is.SupersetOf(new[] { "demand", "criu", "next-n", "bubbling", "working-set" }));
        Assert.That(demo.Links, Has.Count.EqualTo(3));
        Assert.That(demo.TraceFile, Does.EndWith("/traces/redis-get-uniform.trace"));
    }

    [TestCase("scenario.schema.json")]
    [TestCase("workload.schema.json")]
    [TestCase("migration.schema.json")]
    public void SchemaFileIsThatOfTheTypes(string name)
    {
        string file = Path.Combine(Repository.Scenarios, name);
        string expected = name.StartsWith("scenario", StringComparison.Ordinal) ? Scenario.JsonSchema
            : name.StartsWith("migration", StringComparison.Ordinal) ? MigrationScenario.JsonSchema : WorkloadFile.JsonSchema;
        if (Environment.GetEnvironmentVariable("TESTBED_UPDATE") == "1")
            File.WriteAllText(file, expected);
        Assert.That(File.Exists(file) ? File.ReadAllText(file) : "", Is.EqualTo(expected),
            $"scenarios/{name} is not what the types say; write it anew with TESTBED_UPDATE=1 dotnet test tests/Scenarios.Tests");
    }
}
