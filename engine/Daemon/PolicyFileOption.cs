using System.CommandLine;
using Testbed.Core;

namespace Testbed.Cli;

/// <summary>Policies from outside, which need a runtime to be loaded into: the launcher gives those to the whole program.</summary>
internal static class PolicyFileOption
{
    public static Option<string[]> Create() => new("--policy-file")
    {
        Description = "a C# file (.cs, compiled on the spot) or class library (.dll) with policies of yours; may be given again",
        DefaultValueFactory = _ => [],
    };

    public static void Load(IReadOnlyList<string> files)
    {
        if (files.Count > 0)
            throw new BadInputException("--policy-file: this daemon is native code and loads none; expected to be started as ./testbed lazy-pages, which runs the whole program then");
    }
}
