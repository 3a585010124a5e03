using System.CommandLine;
using Testbed.Core;
using Testbed.Traces;
using Testbed.Traces.Exchange;

namespace Testbed.Cli.Verbs;

/// <summary>testbed trace import, export</summary>
internal static class TraceExchangeVerb
{
    public static Command CreateImport()
    {
        var file = new Argument<string>("FILE") { Description = "what another tool has written" };
        var from = new Option<string?>("--from") { Description = Formats(export: false) };
        var output = new Option<string>("--output", "-o") { Description = "the trace to write", Required = true };
        var command = new Command("import", $"""
            Make a trace of what another tool has seen.

            {Listed(export: false)}

            Example:
              perf record -e exceptions:page_fault_user -o f.data -- PROGRAM; perf script -i f.data > f.txt
              testbed trace import f.txt --from perf-script -o f.trace
            """)
        { file, from, output };
        command.SetAction(parsed => Import(parsed.GetRequiredValue(file), parsed.GetValue(from), parsed.GetRequiredValue(output)));
        return command;
    }

    public static Command CreateExport()
    {
        var file = new Argument<string>("TRACE") { Description = "a trace" };
        var to = new Option<string?>("--to") { Description = Formats(export: true) };
        var output = new Option<string>("--output", "-o") { Description = "the file to write; its extension tells the format", Required = true };
        var command = new Command("export", $"""
            Write a trace in a format that other tools read.

            {Listed(export: true)}

            Example:
              testbed trace export traces/redis.1.trace -o redis.pftrace      (open it in ui.perfetto.dev)
            """)
        { file, to, output };
        command.SetAction(parsed => Export(parsed.GetRequiredValue(file), parsed.GetValue(to), parsed.GetRequiredValue(output)));
        return command;
    }

    private static IEnumerable<ExchangeFormat> Able(bool export) => ExchangeFormat.All.Where(f => export ? f.Export is not null : f.Import is not null);

    private static string Formats(bool export) => $"the format: {string.Join(", ", Able(export).Select(f => f.Name))}; default: as the extension tells";

    private static string Listed(bool export) => string.Join("\n", Able(export).Select(f => $"{f.Name,-15} {f.About}"));

    private static void Import(string file, string? from, string output)
    {
        ExchangeFormat format = from is null ? ExchangeFormat.OfFile(file, export: false) : ExchangeFormat.Named(from, export: false);
        Trace trace;
        try
        {
            using FileStream stream = File.OpenRead(file);
            trace = format.Import!(stream, file);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new BadInputException($"{file}: cannot be read: {e.Message}", e);
        }
        trace.Save(output);
        Console.WriteLine($"{output}: {trace.Faults.Length} faults on {trace.Image.PresentPages} pages by {trace.Threads.Count} threads in {trace.Duration}");
        SayLost(format, "not known");
    }

    private static void Export(string file, string? to, string output)
    {
        ExchangeFormat format = to is null ? ExchangeFormat.OfFile(output, export: true) : ExchangeFormat.Named(to, export: true);
        Trace trace = Trace.Load(file);
        string part = output + ".part";
        try
        {
            using (FileStream stream = File.Create(part))
                format.Export!(trace, stream);
            File.Move(part, output, overwrite: true);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            if (File.Exists(part))
                File.Delete(part);
            throw new BadInputException($"{output}: cannot be written: {e.Message}", e);
        }
        Console.WriteLine($"{output}: {trace.Faults.Length} faults, {new FileInfo(output).Length} bytes");
        SayLost(format, "left out");
    }

    private static void SayLost(ExchangeFormat format, string verb)
    {
        if (format.Lost.Length > 0)
            Console.WriteLine($"{verb}: {format.Lost}");
    }
}
