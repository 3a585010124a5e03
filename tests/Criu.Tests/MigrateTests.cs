using NUnit.Framework;

namespace Testbed.Criu.Tests;

/// <summary>The verb migrate: programs of several processes, and hosts that are reached by ssh. It checks all data itself.</summary>
[NonParallelizable]
public sealed class MigrateTests
{
    private DirectoryInfo _folder = null!;

    [SetUp]
    public void Prepare()
    {
        RealCriu.Require();
        _folder = Directory.CreateTempSubdirectory("testbed-migrations-");
    }

    [TearDown]
    public void Remove() => _folder?.Delete(recursive: true);

    /// <summary>Its processes fork, move, unmap, drop and split their memory, and take signals, while it is away.</summary>
    [Test]
    public void ATreeThatChangesItsMemory() => Succeeds(Migrate(Scenario(_folder, "tree", small: false, """["testbed+criu"]""", requests: 14)));

    [Test]
    public void ATreeOverTls() => Succeeds(Migrate(Scenario(_folder, "tree", small: false, """["testbed+testbed"]""", requests: 14, """, "tls": true""")));

    /// <summary>Another user's processes, System V shared memory, and a fork for each client.</summary>
    [Test]
    public void APostgresWithAllItsProcesses() =>
        Succeeds(Migrate(Scenario(_folder, "postgres-server", small: false, """["testbed+testbed"]""", requests: 2000)));

    [Test]
    public void HostsThatAreReachedBySsh()
    {
        if (!File.Exists("/usr/sbin/sshd"))
            Assert.Ignore("SKIPPED: openssh-server is not installed");
        // Each of these hosts has a TMPDIR of its own.
        DirectoryInfo shared = Directory.CreateDirectory(Path.Combine(AppContext.BaseDirectory, "ssh"));
        string[] hosts = ["--source", "root@10.78.0.1", "--destination", "root@10.78.0.2", "--criu", RealCriu.Program, "--testbed", string.Join(' ', RealCriu.Daemon)];
        try
        {
            string file = Scenario(shared, "memcached", small: true, """["testbed+criu"]""", requests: 2000);
            Succeeds(RealCriu.Run(Path.Combine(RealCriu.Root(), "tests", "Criu.Tests", "two-ssh-hosts.sh"),
                ["dotnet", RealCriu.Testbed, "migrate", file, "-o", Path.Combine(shared.FullName, "out"), .. hosts], 240));
        }
        finally
        {
            shared.Delete(recursive: true);
        }
    }

    [Test]
    public void Migration_falls_back_to_the_next_congestion_control_and_says_so()
    {
        string file = Scenario(_folder, "memcached", small: true, """["testbed+testbed"]""", requests: 500, """, "congestionControl": ["nosuch", "reno"]""");
        Outcome outcome = Migrate(file);
        Succeeds(outcome);
        Assert.That(outcome.Errors, Does.Contain("testbed: warning: congestionControl: the scenario prefers nosuch, and the hosts used reno"));
        string report = Path.Combine(Path.GetDirectoryName(file)!, "out");
        Assert.That(File.ReadAllText(Path.Combine(report, "index.html")), Does.Contain("the scenario prefers nosuch, and the hosts used reno"));
        Assert.That(File.ReadAllLines(Path.Combine(report, "migrations.csv"))[1], Does.EndWith(",reno"));
    }

    [Test]
    public void Migration_is_refused_when_no_congestion_control_of_the_scenario_may_be_used()
    {
        Outcome outcome = Migrate(Scenario(_folder, "memcached", small: true, """["testbed+testbed"]""", requests: 10, """, "congestionControl": "nosuch" """));
        Assert.That(outcome.ExitCode, Is.EqualTo(2));
        string said = outcome.Errors.Trim().Split('\n')[^1];
        Assert.That(said, Does.StartWith("testbed: congestionControl: ").And.Contain("\"nosuch\"").And.Contain("reno").And.Contain("sysctl -w net.ipv4.tcp_allowed_congestion_control="));
    }

    [Test]
    public void OneHostAloneIsNotEnough()
    {
        Outcome outcome = Migrate(Scenario(_folder, "memcached", small: true, """["testbed+testbed"]""", requests: 10), "--source", "root@10.78.0.1");
        Assert.That(outcome.ExitCode, Is.EqualTo(2));
        Assert.That(outcome.Errors.Trim().Split('\n'), Has.Length.EqualTo(1).And.Some.Contains("expected both"));
    }

    /// <summary>A scenario file beside the shipped workloads.</summary>
    internal static string Scenario(DirectoryInfo folder, string workload, bool small, string pairs, int requests, string more = "")
    {
        string file = Path.Combine(folder.CreateSubdirectory("migrations").FullName, "test.json");
        Directory.CreateSymbolicLink(Path.Combine(folder.FullName, "workloads"), Path.Combine(RealCriu.Root(), "scenarios", "workloads"));
        File.WriteAllText(file, $$"""
            { "name": "test", "description": "a test", "workload": "{{workload}}", "small": {{(small ? "true" : "false")}}, "pairs": {{pairs}}, "rounds": 1, "requests": {{requests}}{{more}} }
            """);
        return file;
    }

    internal static Outcome Migrate(string file, params string[] more) => RealCriu.Run(
        "dotnet", [RealCriu.Testbed, "migrate", file, "-o", Path.Combine(Path.GetDirectoryName(file)!, "out"), .. more], 240);

    internal static void Succeeds(Outcome outcome)
    {
        Assert.That(outcome.ExitCode, Is.Zero, outcome.Errors + outcome.Output);
        Assert.That(outcome.Output, Does.Contain("All data equal"));
    }
}
