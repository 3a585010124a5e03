using System.ComponentModel;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Schema;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using System.Text.RegularExpressions;
using Testbed.Core;

namespace Testbed.Scenarios;

[JsonSourceGenerationOptions(JsonSerializerDefaults.Strict,
    PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase,
    Converters = [typeof(DurationConverter), typeof(ByteSizeConverter), typeof(LinkConverter)],
    ReadCommentHandling = JsonCommentHandling.Skip,
    WriteIndented = true)]
[JsonSerializable(typeof(Scenario))]
[JsonSerializable(typeof(WorkloadFile))]
[JsonSerializable(typeof(MigrationScenario))]
internal sealed partial class ScenarioJson : JsonSerializerContext;

/// <summary>
/// Reads the data files so that no mistake goes unseen: an unknown, missing or doubled field, or a value of the wrong
/// type, is one line with the file, the field's path, what was wrong and what is expected.
/// </summary>
internal static partial class StrictJson
{
    public static T Load<T>(string file, JsonTypeInfo<T> type) where T : class
    {
        byte[] json;
        try
        {
            using FileStream stream = File.OpenRead(file);
            json = SmallFile.Read(stream.Read, file);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new BadInputException($"{file}: cannot be read: {e.Message}", e);
        }
        try
        {
            return JsonSerializer.Deserialize(json, type)
                ?? throw new BadInputException($"{file}: $: null; expected an object");
        }
        catch (JsonException e)
        {
            throw new BadInputException($"{file}: {Explain(e, type)}", e);
        }
    }

    /// <summary>The JSON schema of a data file, with each field's description.</summary>
    public static string Schema(JsonTypeInfo type, string title)
    {
        var exporter = new JsonSchemaExporterOptions { TreatNullObliviousAsNonNullable = true, TransformSchemaNode = DescribeNode };
        var schema = (JsonObject)type.GetJsonSchemaAsNode(exporter);
        schema.Insert(0, "$schema", "https://json-schema.org/draft/2020-12/schema");
        schema.Insert(1, "title", title);
        return schema.ToJsonString(new JsonSerializerOptions { WriteIndented = true, Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping }) + "\n";
    }

    public static string Describe(JsonTokenType token) => token switch
    {
        JsonTokenType.StartObject => "an object",
        JsonTokenType.StartArray => "an array",
        JsonTokenType.Number => "a number",
        JsonTokenType.True or JsonTokenType.False => "true or false",
        JsonTokenType.Null => "null",
        _ => "a string",
    };

    private static JsonNode DescribeNode(JsonSchemaExporterContext context, JsonNode schema)
    {
        if (schema is not JsonObject o)
            o = [];
        JsonObject? text = TextForm(Nullable.GetUnderlyingType(context.TypeInfo.Type) ?? context.TypeInfo.Type);
        if (text is not null)
            o = text;
        if (context.PropertyInfo?.AttributeProvider?.GetCustomAttributes(typeof(JsonConverterAttribute), inherit: false) is
            [JsonConverterAttribute { ConverterType: { } converter }] && converter == typeof(NameListConverter))
            o = NameListConverter.Schema;
        if (context.TypeInfo is { Kind: JsonTypeInfoKind.Enumerable, ElementType: { } element } && TextForm(element) is { } items)
            o["items"] = items;
        if (context.PropertyInfo?.AttributeProvider?.GetCustomAttributes(typeof(DescriptionAttribute), inherit: false) is [DescriptionAttribute about, ..])
        {
            string form = o.Remove("description", out JsonNode? known) ? $": {known}" : "";
            o.Insert(0, "description", about.Description + form);
        }
        return o.Count == 0 ? schema : o;
    }

    private static JsonObject? TextForm(Type type) => ScenarioJson.Default.Options.GetConverter(type) is ITextForm text
        ? new JsonObject { ["description"] = text.Form, ["type"] = "string", ["pattern"] = text.Pattern }
        : null;

    /// <summary>The serializer's messages speak to programmers; these speak to the writer of the file.</summary>
    private static string Explain(JsonException e, JsonTypeInfo root)
    {
        string path = e.Path ?? "$";
        string message = e.Message;
        if (Unmapped().Match(message) is { Success: true } unknown)
            return $"{path}: unknown field \"{unknown.Groups[1].Value}\"; expected {Fields(unknown.Groups[2].Value)}";
        if (Missing().Match(message) is { Success: true } missing)
            return $"{path}: missing field {missing.Groups[2].Value.Replace('\'', '"')}; expected {Fields(missing.Groups[1].Value)}";
        if (Doubled().Match(message) is { Success: true } doubled)
            return $"{path}: field \"{doubled.Groups[1].Value}\" is given twice; expected once";
        if (message.StartsWith("The JSON value could not be converted", StringComparison.Ordinal))
            return $"{path}: a value of the wrong type or out of range; expected {FriendlyType(TypeAt(root, path))}";
        if (message.Contains("Null", StringComparison.Ordinal) || message.Contains("null", StringComparison.Ordinal))
            return $"{path}: null; expected a value";
        return e.InnerException is BadInputException || !message.Contains("LineNumber", StringComparison.Ordinal)
            ? $"{path}: {message}"
            : $"line {e.LineNumber + 1}: not JSON: {message.Split(" Path:")[0].Split(" LineNumber:")[0]}";
    }

    private static string Fields(string typeName)
    {
        Type? type = typeof(StrictJson).Assembly.GetType(typeName);
        JsonTypeInfo? info = type is null ? null : ScenarioJson.Default.GetTypeInfo(type);
        return info is null ? "the fields of the schema"
            : "the fields " + string.Join(", ", info.Properties.Where(p => p.Name[0] != '$').Select(p => p.IsRequired ? p.Name : $"[{p.Name}]"));
    }

    /// <summary>The type that belongs at a path: the message may name the one around it.</summary>
    private static Type TypeAt(JsonTypeInfo root, string path)
    {
        Type type = root.Type;
        foreach (Match step in PathStep().Matches(path))
        {
            JsonTypeInfo? info = ScenarioJson.Default.GetTypeInfo(Nullable.GetUnderlyingType(type) ?? type);
            type = info?.ElementType ?? info?.Properties.FirstOrDefault(p => p.Name == step.Groups[1].Value)?.PropertyType ?? type;
        }
        return Nullable.GetUnderlyingType(type) ?? type;
    }

    private static string FriendlyType(Type type)
    {
        if (type.IsEnum)
            return "one of " + string.Join(", ", Enum.GetNames(type).Select(n => $"\"{JsonNamingPolicy.CamelCase.ConvertName(n)}\""));
        if (type == typeof(string))
            return "a string";
        if (type == typeof(ulong))
            return "a whole number, not negative";
        if (type == typeof(int) || type == typeof(long))
            return "a whole number";
        if (type == typeof(double))
            return "a number";
        return ScenarioJson.Default.GetTypeInfo(type)?.Kind switch
        {
            JsonTypeInfoKind.Enumerable => "an array",
            JsonTypeInfoKind.Dictionary => "an object with string values",
            _ => "an object",
        };
    }

    [GeneratedRegex(@"^The JSON property '(.*?)' could not be mapped to any \.NET member contained in type '(.*?)'")]
    private static partial Regex Unmapped();

    [GeneratedRegex(@"^JSON deserialization for type '(.*?)' was missing required properties including: (.*?)\.?( Path:.*)?$")]
    private static partial Regex Missing();

    [GeneratedRegex(@"^Duplicate property '(.*?)'")]
    private static partial Regex Doubled();

    [GeneratedRegex(@"\.([^.\[\]]+)|\[")]
    private static partial Regex PathStep();
}
