using Testbed.Core;

namespace Testbed.Cli;

/// <content>Native code has no runtime to load into: the launcher gives such calls to the whole program.</content>
internal static partial class PolicyFileOption
{
    public static void Load(IReadOnlyList<string> files)
    {
        if (files.Count > 0)
            throw new BadInputException("--policy-file: this daemon is native code and loads none; expected to be started as ./testbed lazy-pages, which runs the whole program then");
    }
}
