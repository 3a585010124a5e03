using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;

namespace Testbed.Scenarios;

/// <summary>Names in order of preference: an array of strings in JSON, or one string.</summary>
internal sealed class NameListConverter : JsonConverter<IReadOnlyList<string>>
{
    /// <summary>The same for editors that know JSON schemas.</summary>
    public static JsonObject Schema => new()
    {
        ["type"] = new JsonArray("string", "array", "null"),
        ["items"] = new JsonObject { ["type"] = "string" },
        ["minItems"] = 1,
        ["uniqueItems"] = true,
    };

    public override IReadOnlyList<string> Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options)
    {
        if (reader.TokenType == JsonTokenType.String)
            return [reader.GetString()!];
        if (reader.TokenType != JsonTokenType.StartArray)
            throw new JsonException($"{StrictJson.Describe(reader.TokenType)} where names belong; expected a string, or an array of strings");
        var names = new List<string>();
        while (reader.Read() && reader.TokenType != JsonTokenType.EndArray)
        {
            if (reader.TokenType != JsonTokenType.String)
                throw new JsonException($"{StrictJson.Describe(reader.TokenType)} in the array; expected strings");
            names.Add(reader.GetString()!);
        }
        return names;
    }

    public override void Write(Utf8JsonWriter writer, IReadOnlyList<string> value, JsonSerializerOptions options)
    {
        writer.WriteStartArray();
        foreach (string name in value)
            writer.WriteStringValue(name);
        writer.WriteEndArray();
    }
}
