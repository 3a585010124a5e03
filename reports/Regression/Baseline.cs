using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;
using Testbed.Core;

namespace Testbed.Reports.Regression;

/// <summary>
/// What a scenario gave when somebody last agreed with it. A committed file: one run a line, so that a change of a policy is a diff
/// that a reviewer can read.
/// </summary>
public sealed record Baseline
{
    private static readonly JsonSerializerOptions s_json = new(JsonSerializerOptions.Strict)
    {
        PropertyNamingPolicy = JsonNamingPolicy.KebabCaseLower,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    /// <summary>The scenario's name.</summary>
    public required string Scenario { get; init; }

    /// <summary>The hash of the trace's bytes.</summary>
    public required string Trace { get; init; }

    /// <summary>The costs of the host that the replay was charged.</summary>
    public required string Costs { get; init; }

    /// <summary>The seed.</summary>
    public required ulong Seed { get; init; }

    /// <summary>One per policy and link, in the scenario's order.</summary>
    public required IReadOnlyList<BaselineRun> Runs { get; init; }

    /// <summary>The baseline that these results make.</summary>
    public static Baseline Of(string scenario, string trace, string costs, ulong seed, IReadOnlyList<RunResult> results) => new()
    {
        Scenario = scenario,
        Trace = trace,
        Costs = costs,
        Seed = seed,
        Runs = [.. results.Select(BaselineRun.Of)],
    };

    /// <summary>Reads a baseline file.</summary>
    /// <exception cref="BadInputException">It is not there, or is no baseline.</exception>
    public static Baseline Load(string file)
    {
        try
        {
            using FileStream stream = File.OpenRead(file);
            return JsonSerializer.Deserialize<Baseline>(SmallFile.Read(stream.Read, file), s_json)
                ?? throw new BadInputException($"{file}: null; expected a baseline");
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            throw new BadInputException($"{file}: no such baseline; testbed regress SCENARIO --update writes one", e);
        }
        catch (Exception e) when (e is JsonException or IOException or UnauthorizedAccessException)
        {
            throw new BadInputException($"{file}: not a baseline: {e.Message.Split(" Path:")[0].TrimEnd('.')}; when it is removed, testbed regress SCENARIO --update writes one", e);
        }
    }

    /// <summary>Writes it beside and renames it: a half-written baseline is never under the name.</summary>
    public void Save(string file)
    {
        string path = Path.GetFullPath(file), part = $"{path}.part-{Environment.ProcessId}";
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        string head = JsonSerializer.Serialize(this with { Runs = [] }, s_json);
        string runs = string.Join(",\n", Runs.Select(r => "    " + JsonSerializer.Serialize(r, s_json)));
        File.WriteAllText(part, head.Replace(",\"", ",\n  \"", StringComparison.Ordinal).Replace("{\"", "{\n  \"", StringComparison.Ordinal)
            .Replace("[]}", $"[\n{runs}\n  ]\n}}\n", StringComparison.Ordinal));
        File.Move(part, path, overwrite: true);
    }
}

/// <summary>The numbers of one policy over one link.</summary>
public sealed record BaselineRun
{
    /// <summary>As typed.</summary>
    public required string Policy { get; init; }

    /// <summary>As typed.</summary>
    public required string Link { get; init; }

    /// <summary>By <see cref="GateMetric.Name"/>: nanoseconds, or a count. What a run does not have is not here.</summary>
    public required IReadOnlyDictionary<string, long> Numbers { get; init; }

    /// <summary>The numbers of a result.</summary>
    public static BaselineRun Of(RunResult run) => new()
    {
        Policy = run.Policy,
        Link = run.Link,
        Numbers = GateMetric.All.Where(m => m.Value(run) is not null).ToDictionary(m => m.Name, m => m.Value(run)!.Value),
    };
}
