using Testbed.Core;

namespace Testbed.Scenarios;

/// <summary>A link as typed: rate and round-trip delay, or a name for both.</summary>
/// <param name="Text">As typed; it labels tables and figures.</param>
/// <param name="Parameters">What it means.</param>
public readonly record struct LinkSpec(string Text, LinkParameters Parameters)
{
    /// <summary>What a link looks like, for messages and schemas.</summary>
    public const string Form = "RATE,ROUND-TRIP such as \"1Gbit/s,1ms\", or one of 10g, 1g, 100m, local";

    // A rack, a metro and a wide-area link: the three that papers on post-copy measure over.
    private static readonly Dictionary<string, string> Named = new(StringComparer.Ordinal)
    {
        ["10g"] = "10Gbit/s,50us",
        ["1g"] = "1Gbit/s,1ms",
        ["100m"] = "100Mbit/s,20ms",
        ["local"] = "unlimited,0s",
    };

    /// <summary>The names that stand for a link.</summary>
    public static IReadOnlyCollection<string> Names => Named.Keys;

    /// <summary>Understands <c>1Gbit/s,1ms</c> (rate, round trip) and the names <c>10g</c>, <c>1g</c>, <c>100m</c>, <c>local</c>.</summary>
    /// <exception cref="BadInputException">Anything else.</exception>
    public static LinkSpec Parse(string text)
    {
        string[] parts = Named.GetValueOrDefault(text, text).Split(',');
        if (parts.Length != 2)
            throw new BadInputException($"\"{text}\" is not a link; expected {Form}");
        return new LinkSpec(text, new LinkParameters(Units.ParseRate(parts[0].Trim()), Units.ParseDuration(parts[1].Trim())));
    }

    /// <summary>As typed.</summary>
    public override string ToString() => Text;
}
