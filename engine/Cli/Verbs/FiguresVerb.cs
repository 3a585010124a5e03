using System.CommandLine;
using Testbed.Core;
using Testbed.Replay;
using Testbed.Reports;
using Testbed.Reports.Figures;
using Testbed.Scenarios;
using Testbed.Traces;

namespace Testbed.Cli.Verbs;

/// <summary>testbed figures</summary>
internal static class FiguresVerb
{
    public static Command Create()
    {
        var file = new Argument<string>("SCENARIO") { Description = "a scenario file that names a trace, or with --live a workload" };
        var style = new Option<string>("--style", "-s")
        {
            Description = "whose columns the figures fit: " + string.Join(", ", FigureStyle.All.Select(s => s.Name)),
            DefaultValueFactory = _ => "acm",
        };
        style.CompletionSources.Add([.. FigureStyle.All.Select(s => s.Name)]);
        var format = new Option<string>("--format", "-f") { Description = "some of pdf, svg, png, with commas", DefaultValueFactory = _ => "pdf" };
        var live = new Option<bool>("--live") { Description = "run the workload for real as well, and show live beside replay" };
        var output = Options.Output("directory for the files; default: reports/out/NAME-STYLE");
        var command = new Command("figures", """
            Replay a scenario, and write its figures and tables as a paper takes them: in the sizes of the venue's columns, PDF with
            fonts embedded, LaTeX with captions and booktabs. NAME.pdf spans both columns with all links; NAME-LINK.pdf fits one.

            Examples:
              testbed figures scenarios/demo.json --style acm
              testbed figures scenarios/demo-live-redis.json --live --style usenix --format pdf,png
            """)
        { file, style, format, live, output };
        command.SetAction(parsed => Figures(
            parsed.GetRequiredValue(file), FigureStyle.Parse(parsed.GetRequiredValue(style)), ParseFormats(parsed.GetRequiredValue(format)), parsed.GetValue(live), parsed.GetValue(output)));
        return command;
    }

    private static void Figures(string file, FigureStyle style, IReadOnlyList<string> formats, bool live, string? output)
    {
        Scenario scenario = Scenario.FromFile(file);
        string directory = output ?? Path.Combine("reports", "out", $"{scenario.Name}-{style.Name}");
        Calibration calibration = Experiment.CalibrationFor(scenario);
        (Trace trace, IReadOnlyList<RunResult> results) = live ? Live(scenario, directory) : Replayed(scenario, file);
        ReportContext context = Experiment.ContextOf(
            scenario.Description, $"./testbed figures {file} --style {style.Name}{(live ? " --live" : "")}", scenario, calibration, [trace]);
        int count = PaperFigures.Write(directory, style, context, results, formats);
        Console.WriteLine($"{count} figures, figures.tex and tables.tex in {Path.GetRelativePath(Environment.CurrentDirectory, directory)}, for {style.Name}: one column {style.ColumnWidth / 72:0.00} in, both {style.PageWidth / 72:0.00} in");
    }

    private static (Trace Trace, IReadOnlyList<RunResult> Results) Replayed(Scenario scenario, string file)
    {
        string path = scenario.TraceFile ?? throw new BadInputException($"{file}: trace: missing; expected the trace to replay, or --live to run the workload");
        var trace = Trace.Load(path);
        return (trace, Experiment.Replay(TraceWorkload.From(trace), scenario, Experiment.CalibrationFor(scenario)));
    }

    private static (Trace Trace, IReadOnlyList<RunResult> Results) Live(Scenario scenario, string directory)
    {
        using var interrupt = new Interrupt();
        using var progress = new Progress();
        LiveOutcome outcome = new LiveExperiment(scenario, directory + "-traces", progress, interrupt.Token).Run(() => Experiment.CalibrationFor(scenario));
        progress.Clear();
        return (outcome.Capture, outcome.Results);
    }

    private static string[] ParseFormats(string text)
    {
        string[] formats = text.Split(',', StringSplitOptions.TrimEntries);
        if (formats.FirstOrDefault(f => !PaperFigures.Formats.Contains(f)) is { } unknown)
            throw new BadInputException($"--format {text}: no format \"{unknown}\"; expected some of pdf, svg, png");
        return formats;
    }
}
