using System.CommandLine;
using Testbed.Traces;

namespace Testbed.Cli.Verbs;

/// <summary>testbed trace info</summary>
internal static class TraceVerb
{
    public static Command Create()
    {
        var file = new Argument<string>("FILE") { Description = "a trace" };
        var info = new Command("info", """
            Show where a trace came from, what is in it, and a picture of address over time.

            Example:
              testbed trace info traces/python-dict.trace
            """) { file };
        info.SetAction(parsed => Info(parsed.GetRequiredValue(file)));
        return new Command("trace", "Look into traces.") { info };
    }

    private static void Info(string file)
    {
        Trace trace = Trace.Load(file);
        if (trace.IncompleteReason is { } reason)
            Console.Error.WriteLine($"testbed: {reason}");
        Console.WriteLine(new TraceSummary(trace).Render());
        Console.WriteLine(TracePicture.Render(trace));
    }
}
