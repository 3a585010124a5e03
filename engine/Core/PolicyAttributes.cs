namespace Testbed.Core;

/// <summary>
/// Names a policy for the catalog. The options are the constructor's parameters: numbers, booleans and enums with
/// their defaults; a parameter of type <see cref="PolicyEnvironment"/> is given what the policy may know.
/// </summary>
[AttributeUsage(AttributeTargets.Class, Inherited = false)]
public sealed class PolicyAttribute(string name, string summary) : Attribute
{
    /// <summary>What one types.</summary>
    public string Name { get; } = name;

    /// <summary>One line.</summary>
    public string Summary { get; } = summary;

    /// <summary>The paper or kernel source it follows.</summary>
    public string Source { get; init; } = "";

    /// <summary>Whether it belongs to CRIU's way of carrying requests, <see cref="TransferOptions.Criu"/>.</summary>
    public bool CriuTransfer { get; init; }
}

/// <summary>Describes an option, and the numbers it takes.</summary>
[AttributeUsage(AttributeTargets.Parameter)]
public sealed class PolicyOptionAttribute(string summary) : Attribute
{
    /// <summary>One line.</summary>
    public string Summary { get; } = summary;

    /// <summary>The smallest value.</summary>
    public long Min { get; init; } = long.MinValue;

    /// <summary>The largest value.</summary>
    public long Max { get; init; } = long.MaxValue;
}

/// <summary>What a policy may know beside the faults.</summary>
/// <param name="Map">The memory that it will serve.</param>
/// <param name="Recording">The first touches of an earlier run, in order, by dump address; <see cref="Recordings"/> of several; empty when there is none.</param>
/// <param name="Seed">For policies that need randomness: they seed a generator of their own.</param>
public sealed record PolicyEnvironment(PageMap Map, IReadOnlyList<PageNumber> Recording, ulong Seed);
