using System.ComponentModel;
using System.Text.Json.Serialization;
using System.Text.RegularExpressions;
using Testbed.Core;

namespace Testbed.Scenarios;

/// <summary>
/// An experiment: what is run, under which policies, over which links. One JSON file each; the fields are those below
/// in camelCase, described in scenario.schema.json.
/// </summary>
public sealed partial record Scenario
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

    /// <summary>The trace to replay, relative to the scenario file; null when there is none yet.</summary>
    [Description("The trace to replay, relative to this file")]
    public string? Trace { get; init; }

    /// <summary>The workload to run live, by name; null when the scenario is for replay alone.</summary>
    [Description("The workload to run live: a file of this name in workloads/")]
    public string? Workload { get; init; }

    /// <summary>The policies with their options, as typed: <c>next-n:n=16</c>.</summary>
    [Description("The policies with their options, for example next-n:n=16")]
    public required IReadOnlyList<string> Policies { get; init; }

    /// <summary>Files of outside policies (.cs or .dll), relative to the scenario file.</summary>
    [Description("Files of outside policies, .cs or .dll, relative to this file")]
    public IReadOnlyList<string> PolicyFiles { get; set; } = [];

    /// <summary>Earlier traces for record-and-prefetch policies, relative to the scenario file; none: the trace itself.</summary>
    [Description("Earlier traces for record-and-prefetch policies, relative to this file; when absent, the trace itself")]
    public IReadOnlyList<string> Recordings { get; set; } = [];

    /// <summary>The links.</summary>
    [Description("The links between page server and daemon")]
    public required IReadOnlyList<LinkSpec> Links { get; init; }

    /// <summary>How requests are carried, for all policies; null: as each policy has it by default.</summary>
    [Description("How requests are carried, for all policies; when absent, as each policy has it by default")]
    public TransferSettings? Transfer { get; init; }

    /// <summary>What the host of the replays charges: a calibration by name; null: the reference.</summary>
    [Description("What the host of the replays charges: a file of this name in calibrations/; when absent, the reference")]
    public string? Calibration { get; init; }

    /// <summary>Seeds every random choice.</summary>
    [Description("Seeds every random choice")]
    public ulong Seed { get; set; } = 1;

    /// <summary>How the live part is run.</summary>
    [Description("How the live part is run")]
    public LiveSettings Live { get; set; } = new();

    /// <summary>The file that it was read from, as an absolute path.</summary>
    [JsonIgnore]
    public string File { get; private init; } = "";

    /// <summary>The trace's absolute path, or null.</summary>
    [JsonIgnore]
    public string? TraceFile => Trace is null ? null : Path.GetFullPath(Path.Combine(Path.GetDirectoryName(File)!, Trace));

    /// <summary>The calibration's absolute path, or null.</summary>
    [JsonIgnore]
    public string? CalibrationFile => Calibration is null ? null
        : Path.Combine(Path.GetDirectoryName(File)!, "calibrations", Calibration + ".json");

    /// <summary>The absolute paths of files that are given relative to the scenario file.</summary>
    public IReadOnlyList<string> Resolve(IReadOnlyList<string> files) =>
        [.. files.Select(f => Path.GetFullPath(Path.Combine(Path.GetDirectoryName(File)!, f)))];

    /// <summary>Reads and checks a scenario file. The trace need not be there yet; the workload file must.</summary>
    /// <exception cref="BadInputException">Names file, field, what is wrong and what is expected.</exception>
    public static Scenario FromFile(string file)
    {
        Scenario scenario = StrictJson.Load(file, ScenarioJson.Default.Scenario) with { File = Path.GetFullPath(file) };
        scenario.Check(file);
        return scenario;
    }

    /// <summary>The workload's file, loaded, with the connections that the scenario asks for; null when it names none.</summary>
    /// <exception cref="BadInputException">As <see cref="WorkloadFile.FromFile"/>.</exception>
    public WorkloadFile? LoadWorkload()
    {
        if (Workload is null)
            return null;
        var workload = WorkloadFile.FromFile(Path.Combine(Path.GetDirectoryName(File)!, "workloads", Workload + ".json"));
        return Live.Connections is { } connections ? workload with { Load = workload.Load with { Connections = connections } } : workload;
    }

    /// <summary>The JSON schema of scenario files.</summary>
    public static string JsonSchema => StrictJson.Schema(ScenarioJson.Default.Scenario, "Scenario");

    /// <summary>A policy text with lists of values (<c>next-n:n=4|16</c>, for sweeps), as one text for each combination.</summary>
    public static IEnumerable<string> Expand(string policy)
    {
        int colon = policy.IndexOf(':', StringComparison.Ordinal);
        if (colon < 0 || !policy.Contains('|', StringComparison.Ordinal))
            return [policy];
        IEnumerable<string> texts = [policy[..colon]];
        char joint = ':';
        foreach (string pair in policy[(colon + 1)..].Split(','))
        {
            int equals = pair.IndexOf('=', StringComparison.Ordinal);
            string[] values = equals < 0 ? [""] : pair[(equals + 1)..].Split('|');
            string name = equals < 0 ? pair : pair[..(equals + 1)];
            char between = joint;
            texts = [.. texts.SelectMany(t => values.Select(v => $"{t}{between}{name}{v}"))];
            joint = ',';
        }
        return texts;
    }

    private void Check(string file)
    {
        var field = new FieldCheck(file);
        field.Name("name", Name);
        field.Require("description", Description.Length > 0, "empty", "one sentence for people");
        field.Require("trace", Trace is not null || Workload is not null, "neither trace nor workload", "at least one of them");
        field.Require("trace", Trace is null || (Trace.Length > 0 && !Path.IsPathRooted(Trace)), $"\"{Trace}\"", "a path relative to the scenario file");
        if (Workload is not null)
            field.Name("workload", Workload);
        if (Calibration is not null)
            field.Name("calibration", Calibration);
        field.Unique("policies", Policies);
        for (int i = 0; i < Policies.Count; i++)
            field.Require($"policies[{i}]", PolicyForm().IsMatch(Policies[i]), $"\"{Policies[i]}\"", "name or name:option=value,option=value, combined by +, then and limit");
        field.Unique("links", [.. Links.Select(l => l.Text)]);
        Transfer?.Check(field);
        field.Range("live.repetitions", Live.Repetitions, 1, 1000);
        field.Range("live.duration", Live.Duration, Duration.FromMilliseconds(100), Duration.FromSeconds(86400));
        field.Range("live.requests", Live.Requests, 1, 1_000_000_000_000);
        field.Range("live.connections", Live.Connections ?? 1, 1, 256);
        _ = Workload is null ? null : field.Require("workload", WorkloadFile.Exists(
            Path.Combine(Path.GetDirectoryName(File)!, "workloads", Workload + ".json")), $"\"{Workload}\" has no file", $"workloads/{Workload}.json beside the scenario");
    }

    private const string Option = @"[a-z][a-z0-9-]*=[^,=\s]+";
    private const string OnePolicy = $@"[a-z][a-z0-9-]*(:{Option}(,{Option})*)?(\s+limit\s+[0-9]+)?";

    [GeneratedRegex($@"\A{OnePolicy}((\s*\+\s*|\s+then\s+){OnePolicy})*\z")]
    private static partial Regex PolicyForm();
}

/// <summary>How requests are carried. What is absent is as <see cref="TransferOptions"/> has it.</summary>
public sealed record TransferSettings
{
    /// <summary>Connections to the page server, 1 to 16.</summary>
    [Description("Connections to the page server, 1 to 16")]
    public int? Lanes { get; init; }

    /// <summary>How much prefetch, and again background transfer, may be in flight.</summary>
    [Description("How much prefetch, and again background transfer, may be in flight")]
    public ByteSize? MaxInFlight { get; init; }

    /// <summary>The largest single request: whole pages.</summary>
    [Description("The largest single request, in whole pages of 4 KiB")]
    public ByteSize? RequestSize { get; init; }

    /// <summary>The options, with what is absent here taken from <paramref name="fallback"/>.</summary>
    public TransferOptions ToOptions(TransferOptions fallback) => fallback with
    {
        Lanes = Lanes ?? fallback.Lanes,
        MaxInFlight = MaxInFlight?.Bytes ?? fallback.MaxInFlight,
        MaxRequest = RequestSize?.Bytes ?? fallback.MaxRequest,
    };

    internal void Check(FieldCheck field)
    {
        field.Range("transfer.lanes", Lanes ?? 1, 1, 16);
        field.Pages("transfer.maxInFlight", MaxInFlight);
        field.Pages("transfer.requestSize", RequestSize);
    }
}

/// <summary>How the live part of a scenario is run.</summary>
public sealed record LiveSettings
{
    /// <summary>How often each policy and link is measured, 1 to 1,000.</summary>
    [Description("How often each policy and link is measured, 1 to 1000")]
    public int Repetitions { get; set; } = 3;

    /// <summary>How long the load runs in each, 100 ms to a day.</summary>
    [Description("How long the load runs in each, 100ms to a day")]
    public Duration Duration { get; set; } = Duration.FromSeconds(20);

    /// <summary>After how many requests the built-in load ends, if its time is not up before, 1 to a trillion.</summary>
    [Description("After how many requests the built-in load ends, if its time is not up before, 1 to a trillion")]
    public long Requests { get; set; } = 1_000_000_000_000;

    /// <summary>Connections of the built-in load, 1 to 256; null: as the workload says.</summary>
    [Description("Connections of the built-in load, 1 to 256, instead of the workload's")]
    public int? Connections { get; init; }
}
