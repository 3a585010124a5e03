using NUnit.Framework;
using Testbed.Core;

namespace Testbed.Scenarios.Tests;

/// <summary>Each mistake in a file is one line that names file, field, what was wrong and what is expected.</summary>
public sealed class BadInputTests
{
    private const string Good = """
        { "name": "s", "description": "d", "trace": "t.trace", "policies": ["demand"], "links": ["1Gbit/s,1ms"],
          "transfer": { "lanes": 2, "maxInFlight": "256KiB" }, "seed": 7, "live": { "repetitions": 2, "duration": "5s" } }
        """;

    private static readonly TestCaseData[] Scenarios =
    [
        Case("\"seed\"", "\"sead\"", "$.sead", "unknown field", "seed"),
        Case("\"lanes\"", "\"lane\"", "$.transfer.lane", "unknown field", "lanes"),
        Case("\"name\": \"s\",", "", "$", "missing field", "name"),
        Case("\"seed\": 7", "\"seed\": \"7\"", "$.seed", "wrong type", "whole number"),
        Case("\"seed\": 7", "\"seed\": -7", "$.seed", "out of range", "not negative"),
        Case("\"seed\": 7", "\"seed\": 7, \"seed\": 8", "$.seed", "given twice", "once"),
        Case("\"lanes\": 2", "\"lanes\": 0", "$.transfer.lanes", "0", "1 to 16"),
        Case("\"lanes\": 2", "\"lanes\": 2.5", "$.transfer.lanes", "wrong type", "whole number"),
        Case("256KiB", "256", "$.transfer.maxInFlight", "\"256\"", "\"64KiB\""),
        Case("256KiB", "5000B", "$.transfer.maxInFlight", "5kB", "4KiB"),
        Case("\"256KiB\"", "256", "$.transfer.maxInFlight", "a number where a string belongs", "\"64KiB\""),
        Case("1Gbit/s,1ms", "1Gbit/s", "$.links[0]", "\"1Gbit/s\"", "RATE,ROUND-TRIP"),
        Case("1Gbit/s,1ms", "1Gb,1ms", "$.links[0]", "\"1Gb\"", "100Mbit/s"),
        Case("1Gbit/s,1ms", "0Gbit/s,1ms", "$.links[0]", "zero", "unlimited"),
        Case("1Gbit/s,1ms", "1Gbit/s,1sec", "$.links[0]", "unknown unit", "50us"),
        Case("[\"1Gbit/s,1ms\"]", "[]", "$.links", "empty", "at least one"),
        Case("[\"1Gbit/s,1ms\"]", "\"10g\"", "$.links", "wrong type", "an array"),
        Case("[\"demand\"]", "[\"demand\", \"demand\"]", "$.policies[1]", "twice", "once"),
        Case("[\"demand\"]", "[\"next n\"]", "$.policies[0]", "next n", "name:option=value"),
        Case("[\"demand\"]", "[null]", "$.policies[0]", "null", "a string"),
        Case("[\"demand\"]", "null", "$.policies", "null", "value"),
        Case("\"repetitions\": 2", "\"repetitions\": 0", "$.live.repetitions", "0", "1 to 1000"),
        Case("\"5s\"", "\"5ms\"", "$.live.duration", "5ms", "100ms"),
        Case("\"trace\": \"t.trace\",", "", "$.trace", "neither", "at least one"),
        Case("\"t.trace\"", "\"/t.trace\"", "$.trace", "/t.trace", "relative"),
        Case("\"trace\": \"t.trace\"", "\"workload\": \"nothing\"", "$.workload", "nothing", "workloads/nothing.json"),
        Case("\"name\": \"s\"", "\"name\": \"S 1\"", "$.name", "S 1", "small letters"),
        Case("{ \"name\"", "{ name", "line 1", "not JSON", ""),
    ];

    private static TestCaseData Case(string good, string bad, string path, string wrong, string expected) =>
        new TestCaseData(good, bad, path, wrong, expected).SetArgDisplayNames(bad, path);

    [TestCaseSource(nameof(Scenarios))]
    public void ScenarioMistakeIsNamed(string good, string bad, string path, string wrong, string expected)
    {
        Assert.That(Good.Contains(good, StringComparison.Ordinal), "the table is stale");
        string message = MessageOf(Good.Replace(good, bad, StringComparison.Ordinal), f => Scenario.FromFile(f));
        Assert.That(message, Does.Contain(path + ":").And.Contains(wrong).And.Contains(expected));
    }

    [Test]
    public void GoodScenarioOfTheTableIsRead()
    {
        using var file = new TemporaryFile(Good);
        Scenario scenario = Scenario.FromFile(file.Name);
        Assert.That(scenario.Seed, Is.EqualTo(7));
        Assert.That(scenario.Live.Duration, Is.EqualTo(Duration.FromSeconds(5)));
        Assert.That(scenario.Links[0].Parameters.RoundTrip, Is.EqualTo(Duration.FromMilliseconds(1)));
        TransferOptions transfer = scenario.Transfer!.ToOptions(TransferOptions.Criu);
        Assert.That(transfer, Is.EqualTo(TransferOptions.Criu with { Lanes = 2, MaxInFlight = 256 * 1024 }));
    }

    [TestCase("\"keys\": 600000", "\"keys\": 0", "$.keys", "1 to")]
    [TestCase("\"keys\": 60000,", "\"keys\": 0,", "$.small.keys", "1 to 600000")]
    [TestCase("\"requests\": 8000", "\"requests\": 0", "$.small.requests", "1 to")]
    [TestCase("\"protocol\": \"resp\"", "\"protocol\": \"output\"", "$.load.connections", "1:")]
    [TestCase("\"protocol\": \"resp\"", "\"protocol\": \"resp\", \"target\": \"CLIENT ID\"", "$.load.connections", "1:")]
    [TestCase("\"command\"", "\"prepare\": [{ \"command\": \"gcc\" }], \"command\"", "$.programs", "Debian package")]
    [TestCase("\"700B\"", "\"0B\"", "$.valueSize", "1B to 1MB")]
    [TestCase("GET {key}", "GET {kay}", "$.load.request", "{key}")]
    [TestCase("{port}", "6379", "$.arguments", "{unixsocket}")]
    [TestCase("\"resp\"", "\"http\"", "$.protocol", "\"memcached\"")]
    [TestCase("{ \"redis-server\": \"redis-server\" }", "{}", "$.programs", "Debian package")]
    [TestCase("\"fill\": { \"request\": \"SET {key} {value}\" }", "\"fill\": {}", "$.fill", "one of them")]
    public void WorkloadMistakeIsNamed(string good, string bad, string path, string expected)
    {
        string json = File.ReadAllText(Repository.Workload("redis"));
        Assert.That(json, Does.Contain(good), "the table is stale");
        string message = MessageOf(json.Replace(good, bad, StringComparison.Ordinal), f => WorkloadFile.FromFile(f), "redis.json");
        Assert.That(message, Does.Contain(path + ":").And.Contains(expected));
    }

    [TestCase("7", "a number where names belong", "a string, or an array of strings")]
    [TestCase("[\"cubic\", 7]", "a number in the array", "strings")]
    [TestCase("[[\"cubic\"]]", "an array in the array", "strings")]
    [TestCase("[]", "empty", "at least one")]
    [TestCase("[\"cubic\", \"cubic\"]", "twice", "each once")]
    [TestCase("[\"cubic\", \"$(reboot)\"]", "$(reboot)", "tcp_available_congestion_control")]
    [TestCase("\"\"", "\"\"", "tcp_available_congestion_control")]
    public void Migration_names_a_mistake_in_its_congestion_controls(string value, string wrong, string expected) =>
        Assert.That(() => Migration(value), Throws.TypeOf<BadInputException>().With.Message.Contains("s.json: $.congestionControl")
            .And.Message.Contains(wrong).And.Message.Contains("expected").And.Message.Contains(expected).And.Message.Not.Contains("\n"));

    [TestCase("\"cubic\"", "cubic")]
    [TestCase("[\"cubic\", \"reno\"]", "cubic reno")]
    [TestCase("null", "")]
    public void Migration_takes_one_congestion_control_or_several(string value, string expected) =>
        Assert.That(string.Join(' ', Migration(value).CongestionControl ?? []), Is.EqualTo(expected));

    private static MigrationScenario Migration(string congestionControl)
    {
        DirectoryInfo folder = Directory.CreateTempSubdirectory("testbed-test-");
        try
        {
            string file = Path.Combine(folder.CreateSubdirectory("migrations").FullName, "s.json");
            Directory.CreateSymbolicLink(Path.Combine(folder.FullName, "workloads"), Path.Combine(Repository.Scenarios, "workloads"));
            File.WriteAllText(file, $$"""{ "name": "s", "description": "d", "workload": "memcached", "pairs": ["criu+criu"], "congestionControl": {{congestionControl}} }""");
            return MigrationScenario.FromFile(file);
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    [Test]
    public void ASmallSizeThatIsNotThereIsNamed()
    {
        string json = File.ReadAllText(Repository.Workload("redis-benchmark"));
        using var file = new TemporaryFile(json, "redis-benchmark.json");
        Assert.That(() => WorkloadFile.FromFile(file.Name.Replace(".json", "-small.json", StringComparison.Ordinal)),
            Throws.TypeOf<BadInputException>().With.Message.Contains("$.small: missing"));
    }

    [Test]
    public void APatternIsChecked()
    {
        string json = File.ReadAllText(Repository.Workload("rocksdb")).Replace("\"ops/second\"", "\"(ops\"", StringComparison.Ordinal);
        Assert.That(MessageOf(json, f => WorkloadFile.FromFile(f), "rocksdb.json"), Does.Contain("$.firstResponse:").And.Contains("regular expression"));
    }

    [Test]
    public void AbsentFileIsNamed() =>
        Assert.That(() => Scenario.FromFile("nothing.json"), Throws.TypeOf<BadInputException>().With.Message.Contains("nothing.json"));

    private static string MessageOf(string json, Action<string> load, string name = "s.json")
    {
        using var file = new TemporaryFile(json, name);
        var e = Assert.Throws<BadInputException>(() => load(file.Name))!;
        Assert.That(e.Message, Does.StartWith(file.Name + ": ").And.Not.Contains("\n"));
        Assert.That(e.Message, Does.Contain("expected").Or.Contains("not JSON"));
        TestContext.Out.WriteLine(e.Message.Replace(file.Name, name, StringComparison.Ordinal));
        return e.Message;
    }

    private sealed class TemporaryFile : IDisposable
    {
        private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("testbed-test-");

        public TemporaryFile(string text, string name = "s.json")
        {
            Name = Path.Combine(_folder.FullName, name);
            File.WriteAllText(Name, text);
        }

        public string Name { get; }

        public void Dispose() => _folder.Delete(recursive: true);
    }
}
