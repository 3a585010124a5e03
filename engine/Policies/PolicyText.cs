using System.Globalization;
using Testbed.Core;

namespace Testbed.Policies;

/// <summary>
/// What one types for a policy. From the loosest to the tightest: <c>A then B</c>, <c>A + B</c>, <c>A limit N</c>,
/// <c>name:option=value,option=value</c>. A policy before <c>then</c> or <c>+</c> leaves the rest to the one behind it: its
/// option <c>background</c>, where it has one, is false unless given.
/// </summary>
internal static class PolicyText
{
    public static PolicySpec Parse(string text)
    {
        // One space between words, none at the ends.
        string words = string.Join(' ', text.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries));
        string[] parts = words.Split(" then ");
        PolicySpec spec = Sum(text, parts[^1], isLast: true);
        for (int i = parts.Length - 2; i >= 0; i--)
            spec = Join(Sum(text, parts[i], isLast: false), spec, secondOnFaults: true);
        return Named(spec, text.Trim());
    }

    private static PolicySpec Sum(string whole, string text, bool isLast)
    {
        List<string> parts = Summands(text);
        if (parts.Count > 2)
            throw new BadInputException($"policy {whole}: {parts.Count} policies joined by +; expected two: prefetch + background");
        PolicySpec last = Unit(whole, parts[^1], isLast);
        return parts.Count == 1 ? last : Join(Unit(whole, parts[0], isLast: false), last, secondOnFaults: false);
    }

    private static PolicySpec Join(PolicySpec first, PolicySpec second, bool secondOnFaults) => new(
        first.Text, first.About, environment => new FirstThenSecond(first.Create(environment), second.Create(environment), secondOnFaults));

    /// <summary>Splits at each + before a letter or the end; before a digit it is the sign of a number.</summary>
    private static List<string> Summands(string text)
    {
        var parts = new List<string>();
        int from = 0;
        for (int i = 0; i < text.Length; i++)
        {
            string rest = text[i] == '+' ? text[(i + 1)..].TrimStart() : "0";
            if (rest.Length > 0 && !char.IsAsciiLetter(rest[0]))
                continue;
            parts.Add(text[from..i]);
            from = i + 1;
        }
        parts.Add(text[from..]);
        return parts;
    }

    private static PolicySpec Unit(string whole, string text, bool isLast)
    {
        int limit = text.IndexOf(" limit ", StringComparison.Ordinal);
        if (limit < 0)
            return PolicyCatalog.ParseOne(whole, text.Trim(), isLast);
        string number = text[(limit + " limit ".Length)..].Trim();
        if (!long.TryParse(number, NumberStyles.None, CultureInfo.InvariantCulture, out long pages) || pages > 1 << 30)
            throw new BadInputException($"policy {whole}: limit {number}; expected 0 to {1 << 30} pages");
        PolicySpec policy = PolicyCatalog.ParseOne(whole, text[..limit].Trim(), isLast);
        return new PolicySpec(policy.Text, policy.About, environment => new Limited(policy.Create(environment), pages));
    }

    private static PolicySpec Named(PolicySpec spec, string text) => new(text, spec.About, spec.Create);
}
