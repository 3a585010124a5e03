using System.CommandLine;
using Testbed.Core;
using Testbed.Reports;
using Testbed.Traces;

namespace Testbed.Cli.Verbs;

/// <summary>testbed trace info, verify, stats; import and export are in <see cref="TraceExchangeVerb"/>.</summary>
internal static class TraceVerb
{
    public static Command Create() => new("trace", "Look into traces, check a corpus of them, and exchange them with other tools.")
    {
        CreateInfo(), CreateVerify(), CreateStats(), TraceExchangeVerb.CreateImport(), TraceExchangeVerb.CreateExport(),
    };

    private static Command CreateInfo()
    {
        var file = new Argument<string>("FILE") { Description = "a trace" };
        var command = new Command("info", """
            Show where a trace came from, what is in it, and a picture of address over time.

            Example:
              testbed trace info traces/redis.1.trace
            """)
        { file };
        command.SetAction(parsed => Info(parsed.GetRequiredValue(file)));
        return command;
    }

    private static Command CreateVerify()
    {
        var folder = new Argument<string>("FOLDER") { Description = $"a folder of traces with a {Corpus.HashList}", DefaultValueFactory = _ => "traces" };
        var command = new Command("verify", """
            Check a corpus: every trace has the hash of the list, is complete, is a demand-only capture, and says where it comes from.
            Exit code 1 when one does not.

            Example:
              testbed trace verify traces
            """)
        { folder };
        command.SetAction(parsed => Verify(parsed.GetRequiredValue(folder)));
        return command;
    }

    private static Command CreateStats()
    {
        var files = new Argument<string[]>("FILE") { Description = "traces, or folders of them", Arity = ArgumentArity.OneOrMore };
        var markdown = new Option<bool>("--markdown") { Description = "the table in Markdown" };
        var output = Options.Output("also write table.csv, table.md and the figure (PNG, SVG, PDF) into this directory");
        var command = new Command("stats", """
            Characterise traces: footprint, first touches over time, think times, contiguity, what two captures of one process have in common,
            and what the pages hold.

            Example:
              testbed trace stats traces -o reports/out/corpus
            """)
        { files, markdown, output };
        command.SetAction(parsed => Stats(parsed.GetRequiredValue(files), parsed.GetValue(markdown), parsed.GetValue(output)));
        return command;
    }

    private static void Info(string file)
    {
        Trace trace = Trace.Load(file);
        if (trace.IncompleteReason is { } reason)
            Console.Error.WriteLine($"testbed: {reason}");
        Console.WriteLine(new TraceSummary(trace).Render());
        Console.WriteLine(TracePicture.Render(trace));
    }

    private static int Verify(string folder)
    {
        if (!Directory.Exists(folder))
            throw new BadInputException($"{folder}: no such directory; expected a folder of traces");
        int good = 0;
        int bad = 0;
        foreach (CorpusFinding finding in Corpus.Verify(folder))
        {
            if (finding.Problem is null)
                good++;
            else
                Console.WriteLine($"{finding.File}: {finding.Problem}");
            bad += finding.Problem is null ? 0 : 1;
        }
        Console.WriteLine($"{folder}: {good} traces are good, {bad} are not");
        return bad == 0 && good > 0 ? 0 : 1;
    }

    private static void Stats(string[] names, bool markdown, string? output)
    {
        string[] files = [.. names.SelectMany(n => !Directory.Exists(n) ? (IEnumerable<string>)[n] : Directory.GetFiles(n, "*.trace").Order(StringComparer.Ordinal))];
        if (files.Length == 0)
            throw new BadInputException($"{string.Join(", ", names)}: no traces there; expected files that end in .trace");
        using var progress = new Progress();
        var traces = new List<TraceCharacter>();
        foreach (string file in files)
        {
            traces.Add(new TraceCharacter(Trace.Load(file)));
            progress.Show("reading", traces.Count, files.Length, " traces");
        }
        progress.Clear();
        Console.Write(markdown ? CharacterTable.Markdown(traces) : CharacterTable.Plain(traces));
        if (output is not null)
            Console.WriteLine($"{CorpusReport.Write(output, traces)}");
    }
}
