using System.CommandLine;
using Testbed.Cli.Verbs;

namespace Testbed.Cli;

/// <summary>
/// The two verbs that take the place of CRIU's own servers, and nothing else: compiled to native code, they are ready as fast as those, and
/// no fault ever waits for the compiler.
/// </summary>
internal static class Program
{
    private static int Main(string[] args) => CommandLine.Run(
        new RootCommand("The lazy-restore testbed: serve post-copy memory in CRIU's place.") { PageServerVerb.Create(), LazyPagesVerb.Create() }, args);
}
