using Testbed.Core;

namespace Testbed.Policies;

/// <summary>Every page when it is touched, one at a time, and nothing else: what a capture runs, and the worst case.</summary>
[Policy("demand", "each page when it is touched; no prefetch, no background transfer", Source = "Denning, Virtual Memory, Computing Surveys 1970")]
public sealed class DemandPolicy : IPolicy
{
    /// <inheritdoc/>
    public bool ProposesNothing => true;

    /// <inheritdoc/>
    public void OnFault(in PolicyFault fault, PageMap map, Plan plan) { }

    /// <inheritdoc/>
    public void OnIdle(PageMap map, Plan plan) { }
}
