using System.ComponentModel;
using System.Text.Json.Serialization;
using Testbed.Core;

namespace Testbed.Scenarios;

/// <summary>
/// A lazy migration of a real program between two hosts by CRIU, with CRIU's daemon and page server or ours: which pairs, how often,
/// under which load. One JSON file each, described in migration.schema.json.
/// </summary>
public sealed record MigrationScenario
{
    /// <summary>The schema that editors check against; not used otherwise.</summary>
    [JsonPropertyName("$schema")]
    public string? Schema { get; init; }

    /// <summary>A short name, used in file names.</summary>
    [Description("A short name, used in file names: small letters, digits and -")]
    public required string Name { get; init; }

    /// <summary>One sentence for people.</summary>
    [Description("One sentence for people")]
    public required string Description { get; init; }

    /// <summary>The workload, by name.</summary>
    [Description("The workload: a file of this name in ../workloads/")]
    public required string Workload { get; init; }

    /// <summary>Whether the workload runs in its small size.</summary>
    [Description("Whether the workload runs in its small size")]
    public bool Small { get; set; }

    /// <summary>Whose daemon and whose page server, as DAEMON+SERVER.</summary>
    [Description("Whose daemon and whose page server: criu or testbed, then +, then criu (its dump, which keeps the pages), criu-images (its page-server), testbed (ours, from images) or local (no server: images at the destination)")]
    public required IReadOnlyList<string> Pairs { get; init; }

    /// <summary>How often each pair is run; the pairs take turns.</summary>
    [Description("How often each pair is run, 1 to 100; the pairs take turns")]
    public int Rounds { get; set; } = 5;

    /// <summary>How many requests the load makes from the moment that the program answers.</summary>
    [Description("How many requests the load makes from the moment that the program answers; 0: none")]
    public long Requests { get; set; } = 20_000;

    /// <summary>The policy of our daemon; null: its default.</summary>
    [Description("The policy of our daemon; when absent, its default")]
    public string? Policy { get; init; }

    /// <summary>Whether the pages travel over TLS.</summary>
    [Description("Whether the pages travel over TLS, with certificates made for the run")]
    public bool Tls { get; set; }

    /// <summary>TCP's congestion control between two namespaces, in order of preference; null: this machine's.</summary>
    [Description("TCP's congestion control between hosts that are namespaces of this machine: cubic (what Linux has by default), bbr, ...; of several, the first that this machine lets namespaces use; when absent, what this machine has")]
    [JsonConverter(typeof(NameListConverter))]
    public IReadOnlyList<string>? CongestionControl { get; init; }

    /// <summary>The file that it was read from, as an absolute path.</summary>
    [JsonIgnore]
    public string File { get; private init; } = "";

    /// <summary>Reads and checks a file.</summary>
    /// <exception cref="BadInputException">Names file, field, what is wrong and what is expected.</exception>
    public static MigrationScenario FromFile(string file)
    {
        MigrationScenario scenario = StrictJson.Load(file, ScenarioJson.Default.MigrationScenario) with { File = Path.GetFullPath(file) };
        var field = new FieldCheck(file);
        field.Name("name", scenario.Name);
        field.Require("description", scenario.Description.Length > 0, "empty", "one sentence for people");
        field.Name("workload", scenario.Workload);
        field.Require("workload", WorkloadFile.Exists(scenario.WorkloadPath), $"\"{scenario.Workload}\" has no file", $"../workloads/{scenario.Workload}.json");
        field.Unique("pairs", scenario.Pairs);
        for (int i = 0; i < scenario.Pairs.Count; i++)
        {
            bool known = scenario.Pairs[i].Split('+') is ["criu" or "testbed", "criu" or "criu-images" or "testbed" or "local"];
            field.Require($"pairs[{i}]", known, $"\"{scenario.Pairs[i]}\"", "criu or testbed, +, and criu, criu-images, testbed or local");
        }
        if (scenario.CongestionControl is { } preferred)
        {
            field.Unique("congestionControl", preferred);
            foreach (string name in preferred)
                field.CongestionControl("congestionControl", name);
        }
        field.Range("rounds", scenario.Rounds, 1, 100);
        field.Range("requests", scenario.Requests, 0, 1_000_000_000);
        return scenario;
    }

    /// <summary>The workload.</summary>
    /// <exception cref="BadInputException">As <see cref="WorkloadFile.FromFile"/>.</exception>
    public WorkloadFile LoadWorkload() => Small ? WorkloadFile.FromFile(WorkloadPath).InSmall() : WorkloadFile.FromFile(WorkloadPath);

    /// <summary>The JSON schema of such files.</summary>
    public static string JsonSchema => StrictJson.Schema(ScenarioJson.Default.MigrationScenario, "Migration");

    private string WorkloadPath => Path.GetFullPath(Path.Combine(Path.GetDirectoryName(File)!, "..", "workloads", Workload + ".json"));
}
