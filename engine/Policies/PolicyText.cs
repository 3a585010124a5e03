using System.Globalization;
using System.Text.RegularExpressions;
using Testbed.Core;

namespace Testbed.Policies;

/// <summary>
/// What one types for a policy. From the loosest to the tightest: <c>A then B</c>, <c>A + B</c>, <c>A limit N</c>,
/// <c>name:option=value,option=value</c>. A policy before <c>then</c> or <c>+</c> leaves the rest to the one behind it: its
/// option <c>background</c>, where it has one, is false unless given.
/// </summary>
internal static partial class PolicyText
{
    /// <summary>The form in a line, for messages and help.</summary>
    public const string Form = "NAME or NAME:OPTION=VALUE,..., combined by \"A + B\", \"A then B\", \"A limit N\"";

    public static PolicySpec Parse(string text)
    {
        string[] parts = Then().Split(text.Trim());
        PolicySpec spec = Sum(text, parts[^1], isLast: true);
        for (int i = parts.Length - 2; i >= 0; i--)
            spec = Join(Sum(text, parts[i], isLast: false), spec, secondOnFaults: true);
        return Named(spec, text.Trim());
    }

    private static PolicySpec Sum(string whole, string text, bool isLast)
    {
        string[] parts = Plus().Split(text);
        if (parts.Length > 2)
            throw new BadInputException($"policy {whole}: {parts.Length} policies joined by +; expected two: prefetch + background");
        PolicySpec last = Unit(whole, parts[^1], isLast);
        return parts.Length == 1 ? last : Join(Unit(whole, parts[0], isLast: false), last, secondOnFaults: false);
    }

    private static PolicySpec Join(PolicySpec first, PolicySpec second, bool secondOnFaults) => new(
        first.Text, first.About, environment => new FirstThenSecond(first.Create(environment), second.Create(environment), secondOnFaults));

    private static PolicySpec Unit(string whole, string text, bool isLast)
    {
        Match limit = Limit().Match(text);
        if (!limit.Success)
            return PolicyCatalog.ParseOne(whole, text.Trim(), isLast);
        string number = limit.Groups["pages"].Value;
        if (!long.TryParse(number, NumberStyles.None, CultureInfo.InvariantCulture, out long pages) || pages > 1 << 30)
            throw new BadInputException($"policy {whole}: limit {number}; expected 0 to {1 << 30} pages");
        PolicySpec policy = PolicyCatalog.ParseOne(whole, limit.Groups["policy"].Value.Trim(), isLast);
        return new PolicySpec(policy.Text, policy.About, environment => new Limited(policy.Create(environment), pages));
    }

    private static PolicySpec Named(PolicySpec spec, string text) => new(text, spec.About, spec.Create);

    [GeneratedRegex(@"\s+then\s+")]
    private static partial Regex Then();

    // Not the sign of a number.
    [GeneratedRegex(@"\s*\+\s*(?=[a-z]|$)")]
    private static partial Regex Plus();

    [GeneratedRegex(@"\A(?<policy>.*?)\s+limit\s+(?<pages>\S+)\s*\z")]
    private static partial Regex Limit();
}
