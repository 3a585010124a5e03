using Testbed.Core;

namespace Testbed.Policies;

/// <summary>A policy, or a combination of some, with all options set, ready to be made for each address space.</summary>
public sealed class PolicySpec
{
    private readonly Func<PolicyEnvironment, IPolicy> _create;

    internal PolicySpec(string text, PolicyAttribute about, Func<PolicyEnvironment, IPolicy> create) =>
        (Text, About, _create) = (text, about, create);

    /// <summary>As typed: <c>next-n:n=16</c>, <c>leap + hot-first</c>.</summary>
    public string Text { get; }

    /// <summary>Name, summary, source; of a combination, those of its first policy.</summary>
    public PolicyAttribute About { get; }

    /// <summary>The transfer configuration that belongs to it.</summary>
    public TransferOptions DefaultTransfer => About.CriuTransfer ? TransferOptions.Criu : new TransferOptions();

    /// <summary>A new policy object for one address space.</summary>
    public IPolicy Create(PolicyEnvironment environment) => _create(environment);
}
