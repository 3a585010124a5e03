using System.Text.Json;
using System.Text.Json.Serialization;
using Testbed.Core;

namespace Testbed.Scenarios;

/// <summary>The documented form of a value that JSON holds as a string.</summary>
internal interface ITextForm
{
    /// <summary>What is expected, in words.</summary>
    string Form { get; }

    /// <summary>The same as a regular expression, for editors that know JSON schemas.</summary>
    string Pattern { get; }
}

/// <summary>A value that JSON holds as a string of a documented form.</summary>
internal abstract class TextConverter<T>(string form, string pattern) : JsonConverter<T>, ITextForm
{
    public string Form => form;

    public string Pattern => pattern;

    protected abstract T Parse(string text);

    protected abstract string Format(T value);

    public override T Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options)
    {
        if (reader.TokenType != JsonTokenType.String)
            throw new JsonException($"{StrictJson.Describe(reader.TokenType)} where a string belongs; expected {form}");
        try
        {
            return Parse(reader.GetString()!);
        }
        catch (BadInputException e)
        {
            throw new JsonException(e.Message, e);
        }
    }

    public override void Write(Utf8JsonWriter writer, T value, JsonSerializerOptions options) =>
        writer.WriteStringValue(Format(value));
}

internal sealed class DurationConverter() : TextConverter<Duration>(Units.DurationForm, @"^[0-9]+(\.[0-9]+)? ?(ns|us|µs|ms|s|min|h)$")
{
    protected override Duration Parse(string text) => Units.ParseDuration(text);

    protected override string Format(Duration value) => Units.Format(value);
}

internal sealed class ByteSizeConverter() : TextConverter<ByteSize>(Units.SizeForm, @"^[0-9]+(\.[0-9]+)? ?([kKMGT]?B|[KMGT]iB)$")
{
    protected override ByteSize Parse(string text) => Units.ParseSize(text);

    protected override string Format(ByteSize value) => value.ToString();
}

internal sealed class LinkConverter() : TextConverter<LinkSpec>(LinkSpec.Form, "^([^,]+,[^,]+|10g|1g|100m|local)$")
{
    protected override LinkSpec Parse(string text) => LinkSpec.Parse(text);

    protected override string Format(LinkSpec value) => value.Text;
}

/// <summary>Enum members by their names in camelCase, never by number.</summary>
internal sealed class NameConverter<T>() : JsonStringEnumConverter<T>(JsonNamingPolicy.CamelCase, allowIntegerValues: false) where T : struct, Enum;
