using System.Globalization;
using Testbed.Core;

namespace Testbed.Traces;

/// <summary>Memory of a process that its capture did not take, for one reason.</summary>
/// <param name="Reason">Why, in words.</param>
/// <param name="Bytes">How much was resident when the process was stopped.</param>
public readonly record struct LeftReason(string Reason, long Bytes)
{
    /// <summary>The property of a trace's header that holds them.</summary>
    public const string Property = "left-in-place";

    /// <summary>The program file and its libraries.</summary>
    public const string Programs = "program and libraries";

    /// <summary>The value of the property: <c>BYTES REASON</c>, with semicolons between.</summary>
    public static string Format(IEnumerable<LeftReason> reasons) =>
        string.Join("; ", reasons.Select(r => string.Create(CultureInfo.InvariantCulture, $"{r.Bytes} {r.Reason}")));

    /// <summary>The reasons in that property, or none when it is absent or another program wrote it otherwise.</summary>
    public static IReadOnlyList<LeftReason> Parse(IReadOnlyDictionary<string, string> properties)
    {
        var reasons = new List<LeftReason>();
        foreach (string part in properties.GetValueOrDefault(Property, "").Split("; ", StringSplitOptions.RemoveEmptyEntries))
        {
            int blank = part.IndexOf(' ', StringComparison.Ordinal);
            if (blank <= 0 || !long.TryParse(part.AsSpan(0, blank), NumberStyles.None, CultureInfo.InvariantCulture, out long bytes))
                return [];
            reasons.Add(new LeftReason(part[(blank + 1)..], bytes));
        }
        return reasons;
    }

    /// <summary>For people: <c>191 MiB shared memory, 3.1 MiB mapped files</c>.</summary>
    public static string Describe(IEnumerable<LeftReason> reasons) =>
        string.Join(", ", reasons.Select(r => $"{TraceSummary.Size(r.Bytes)} {r.Reason}"));
}
