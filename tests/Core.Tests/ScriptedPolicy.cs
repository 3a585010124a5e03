using Testbed.Core;

namespace Core.Tests;

/// <summary>A policy that does what the test says.</summary>
internal sealed class ScriptedPolicy : IPolicy
{
    public Action<PolicyFault, PageMap, Plan> Fault { get; set; } = (_, _, _) => { };

    public Action<PageMap, Plan> Idle { get; set; } = (_, _) => { };

    public void OnFault(in PolicyFault fault, PageMap map, Plan plan) => Fault(fault, map, plan);

    public void OnIdle(PageMap map, Plan plan) => Idle(map, plan);
}
