using System.CommandLine;

namespace Testbed.Cli;

/// <summary>Policies from outside. How they are loaded, the whole program and the native daemon each know for themselves.</summary>
internal static partial class PolicyFileOption
{
    public static Option<string[]> Create() => new("--policy-file")
    {
        Description = "a C# file (.cs, compiled on the spot) or class library (.dll) with policies of yours; may be given again",
        DefaultValueFactory = _ => [],
    };
}
