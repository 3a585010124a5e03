using System.ComponentModel;
using System.Reflection;
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
    UseStringEnumConverter = true,
    Converters = [typeof(DurationConverter), typeof(ByteSizeConverter), typeof(LinkConverter)],
    ReadCommentHandling = JsonCommentHandling.Skip,
    WriteIndented = true)]
[JsonSerializable(typeof(Scenario))]
[JsonSerializable(typeof(WorkloadFile))]
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
            json = File.ReadAllBytes(file);
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
            throw new BadInputException($"{file}: {Explain(e)}", e);
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
        (string Form, string Pattern)? text = context.TypeInfo.Converter switch
        {
            TextConverter<Duration> c => (c.Form, c.Pattern),
            TextConverter<ByteSize> c => (c.Form, c.Pattern),
            TextConverter<LinkSpec> c => (c.Form, c.Pattern),
            _ => null,
        };
        if (text is { } t)
            o = new JsonObject { ["type"] = "string", ["pattern"] = t.Pattern, ["description"] = t.Form };
        if (context.PropertyInfo?.AttributeProvider?.GetCustomAttributes(typeof(DescriptionAttribute), inherit: false) is [DescriptionAttribute about, ..])
        {
            o.Remove("description");
            o.Insert(0, "description", text is null ? about.Description : $"{about.Description}: {text.Value.Form}");
        }
        return o.Count == 0 ? schema : o;
    }

    /// <summary>The serializer's messages speak to programmers; these speak to the writer of the file.</summary>
    private static string Explain(JsonException e)
    {
        string path = e.Path ?? "$";
        string message = e.Message;
        if (Unmapped().Match(message) is { Success: true } unknown)
            return $"{path}: unknown field \"{unknown.Groups[1].Value}\"; expected {Fields(unknown.Groups[2].Value)}";
        if (Missing().Match(message) is { Success: true } missing)
            return $"{path}: missing field {missing.Groups[2].Value.Replace('\'', '"')}; expected {Fields(missing.Groups[1].Value)}";
        if (Doubled().Match(message) is { Success: true } doubled)
            return $"{path}: field \"{doubled.Groups[1].Value}\" is given twice; expected once";
        if (WrongType().Match(message) is { Success: true } wrong)
            return $"{path}: a value of the wrong type or out of range; expected {FriendlyType(wrong.Groups[1].Value)}";
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

    private static string FriendlyType(string type)
    {
        if (typeof(StrictJson).Assembly.GetType(type) is { IsEnum: true } names)
            return "one of " + string.Join(", ", Enum.GetNames(names).Select(n => $"\"{JsonNamingPolicy.CamelCase.ConvertName(n)}\""));
        return type switch
        {
            "System.String" => "a string",
            "System.Int32" or "System.Int64" => "a whole number",
            "System.UInt64" => "a whole number, not negative",
            "System.Double" => "a number",
            "System.Boolean" => "true or false",
            _ when type.Contains("Dictionary", StringComparison.Ordinal) => "an object with string values",
            _ when type.Contains("List", StringComparison.Ordinal) || type.EndsWith("[]", StringComparison.Ordinal) => "an array",
            _ => "an object",
        };
    }

    [GeneratedRegex(@"^The JSON property '(.*?)' could not be mapped to any \.NET member contained in type '(.*?)'")]
    private static partial Regex Unmapped();

    [GeneratedRegex(@"^JSON deserialization for type '(.*?)' was missing required properties including: (.*?)\.?( Path:.*)?$")]
    private static partial Regex Missing();

    [GeneratedRegex(@"^Duplicate property '(.*?)'")]
    private static partial Regex Doubled();

    [GeneratedRegex(@"^The JSON value could not be converted to (.*?)\. Path:")]
    private static partial Regex WrongType();
}
