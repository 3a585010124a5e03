using System.Reflection;
using System.Text.Json;
using System.Text.Json.Serialization;
using System.Text.RegularExpressions;
using Testbed.Core;

namespace Testbed.Replay;

/// <summary>A cost that was measured several times.</summary>
/// <param name="Median">Over the repetitions, in nanoseconds.</param>
/// <param name="Low">The least of them.</param>
/// <param name="High">The greatest.</param>
public sealed record MeasuredCost(double Median, double Low, double High)
{
    /// <summary>Of one value per repetition.</summary>
    public static MeasuredCost Of(IReadOnlyList<double> nanoseconds)
    {
        double[] sorted = [.. nanoseconds.Order().Select(v => Math.Round(v))];
        return new MeasuredCost(sorted[sorted.Length / 2], sorted[0], sorted[^1]);
    }
}

/// <summary>
/// What a host charges, as <c>testbed calibrate</c> measured it, and which host that was. A JSON file; times are in
/// nanoseconds. The names of the costs are those of <see cref="HostCosts"/> in camelCase.
/// </summary>
public sealed partial record Calibration
{
    private static readonly Lazy<Calibration> s_reference = new(LoadReference);

    // What came later: files made before have none.
    private static readonly HashSet<string> s_later = ["bulkThink"];

    /// <summary>What the host is, in words.</summary>
    public required string Host { get; init; }

    /// <summary>When it was measured.</summary>
    public required DateTimeOffset Date { get; init; }

    /// <summary>The testbed's version and commit.</summary>
    public required string Version { get; init; }

    /// <summary>How often everything was measured.</summary>
    public required int Repetitions { get; init; }

    /// <summary>The costs by name.</summary>
    public required IReadOnlyDictionary<string, MeasuredCost> Costs { get; init; }

    /// <summary>Deviations of a page's way from its median, unshaped link.</summary>
    public required IReadOnlyList<int> LocalDelays { get; init; }

    /// <summary>And over an emulated link.</summary>
    public required IReadOnlyList<int> ShapedDelays { get; init; }

    /// <summary>The committed one, of the host that the testbed was built on.</summary>
    public static Calibration Reference => s_reference.Value;

    /// <summary>Reads a file.</summary>
    /// <exception cref="BadInputException">It cannot be read, or is no calibration.</exception>
    public static Calibration FromFile(string file)
    {
        try
        {
            using FileStream stream = File.OpenRead(file);
            return Parse(SmallFile.Read(stream.Read, file), file);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new BadInputException($"{file}: cannot be read: {e.Message}", e);
        }
    }

    /// <summary>Writes a file, beside and renamed.</summary>
    /// <exception cref="BadInputException">It cannot be written.</exception>
    public void Save(string file)
    {
        try
        {
            string part = file + ".part";
            // A thousand numbers in a row, not in a column.
            string json = JsonSerializer.Serialize(this, CalibrationJson.Default.Calibration);
            File.WriteAllText(part, NumberArray().Replace(json, array => Spaces().Replace(array.Value, "").Replace(",", ", ", StringComparison.Ordinal)) + "\n");
            File.Move(part, file, overwrite: true);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new BadInputException($"{file}: cannot be written: {e.Message}", e);
        }
    }

    /// <summary>The medians, as replays use them.</summary>
    public HostCosts ToCosts()
    {
        Duration Of(string name) => Costs.TryGetValue(name, out MeasuredCost? cost) ? new((long)cost.Median) : default;
        return new HostCosts
        {
            FaultDelivery = Of("faultDelivery"),
            IdleWake = Of("idleWake"),
            BulkThink = Of("bulkThink"),
            ThreadWake = Of("threadWake"),
            RequestSend = Of("requestSend"),
            HostDelay = Of("hostDelay"),
            ShaperDelay = Of("shaperDelay"),
            ServerPerRequest = Of("serverPerRequest"),
            ServerPerPage = Of("serverPerPage"),
            ReceivePerCall = Of("receivePerCall"),
            ReceivePerPage = Of("receivePerPage"),
            InstallPerCall = Of("installPerCall"),
            InstallPerPage = Of("installPerPage"),
            InstallWake = Of("installWake"),
            LocalInterval = Of("localInterval"),
            ShapedInterval = Of("shapedInterval"),
            LocalDelays = new DelaySample(LocalDelays),
            ShapedDelays = new DelaySample(ShapedDelays),
        };
    }

    /// <summary>The names of all costs.</summary>
    public static IReadOnlyList<string> CostNames { get; } =
        [.. typeof(HostCosts).GetProperties(BindingFlags.Public | BindingFlags.Instance)
            .Where(p => p.PropertyType == typeof(Duration)).Select(p => JsonNamingPolicy.CamelCase.ConvertName(p.Name))];

    private static Calibration Parse(byte[] json, string file)
    {
        Calibration read;
        try
        {
            read = JsonSerializer.Deserialize(json, CalibrationJson.Default.Calibration)
                ?? throw new BadInputException($"{file}: null; expected a calibration (testbed calibrate)");
        }
        catch (JsonException e)
        {
            throw new BadInputException($"{file}: {e.Message.ReplaceLineEndings(" ")} Expected a calibration (testbed calibrate)", e);
        }
        foreach (string name in CostNames)
        {
            bool isThere = read.Costs.TryGetValue(name, out MeasuredCost? cost);
            if ((isThere || !s_later.Contains(name)) && cost is not { Median: >= 0 and < 1e12 })
                throw new BadInputException($"{file}: costs.{name}: {(cost is null ? "missing" : $"median {cost.Median}")}; expected nanoseconds, 0 to 1e12");
        }
        foreach ((string field, IReadOnlyList<int> values) in new[] { ("localDelays", read.LocalDelays), ("shapedDelays", read.ShapedDelays) })
        {
            if (values.Zip(values.Skip(1)).Any(pair => pair.First > pair.Second))
                throw new BadInputException($"{file}: {field}: not in ascending order; expected the quantiles of the deviations");
        }
        return read;
    }

    [GeneratedRegex(@"\[[-0-9,\s]*\]")]
    private static partial Regex NumberArray();

    [GeneratedRegex(@"\s+")]
    private static partial Regex Spaces();

    private static Calibration LoadReference()
    {
        using Stream stream = typeof(Calibration).Assembly.GetManifestResourceStream("reference.json")
            ?? throw new InvalidOperationException("the reference calibration is not in the assembly");
        var bytes = new MemoryStream();
        stream.CopyTo(bytes);
        return Parse(bytes.ToArray(), "reference.json");
    }
}

[JsonSourceGenerationOptions(JsonSerializerDefaults.Strict, PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, WriteIndented = true)]
[JsonSerializable(typeof(Calibration))]
internal sealed partial class CalibrationJson : JsonSerializerContext;
