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
        var recordings = Options.Recordings();
        var policyFiles = PolicyFileOption.Create();
        var calibration = Options.Calibration();
        var command = new Command("figures", """
            Replay a scenario, and write its figures and tables as a paper takes them: in the sizes of the venue's columns, PDF with
            fonts embedded, LaTeX with captions and booktabs. NAME.pdf spans both columns with all links; NAME-LINK.pdf fits one. With
            --live the scenario's workload is run for real first, captured and replayed (as testbed live does), and each figure is there
            twice, NAME.pdf of the replays and NAME-live.pdf of the live runs, with one that shows both side by side.

            Examples:
              testbed figures scenarios/demo.json --style acm
              testbed figures scenarios/demo-live-redis.json --live --style usenix --format pdf,png
            """)
        { file, style, format, live, output, recordings, policyFiles, calibration };
        command.SetAction(parsed => Figures(
            Experiment.WithPolicies(Scenario.FromFile(parsed.GetRequiredValue(file)), parsed.GetRequiredValue(policyFiles)), parsed.GetValue(calibration),
            FigureStyle.Parse(parsed.GetRequiredValue(style)), ParseFormats(parsed.GetRequiredValue(format)), parsed.GetValue(live),
            parsed.GetRequiredValue(recordings), parsed.GetValue(output)));
        return command;
    }

    private static void Figures(
        Scenario scenario, string? calibrationFile, FigureStyle style, IReadOnlyList<string> formats, bool live, string[] recordings, string? output)
    {
        if (live && recordings.Length > 0)
            throw new BadInputException("--recording: with --live, record-and-prefetch policies get the capture made just before");
        string directory = output ?? Path.Combine("reports", "out", $"{scenario.Name}-{style.Name}");
        Calibration calibration = Experiment.CalibrationFor(scenario, calibrationFile);
        (Trace trace, IReadOnlyList<RunResult> results) = live
            ? Live(scenario, calibration, directory)
            : Experiment.ReplayTrace(scenario, calibration, recordings);
        int count = PaperFigures.Write(directory, style, Experiment.ContextOf(scenario, calibration, [trace]), results, formats);
        Console.WriteLine($"{count} figures, figures.tex and tables.tex in {Path.GetRelativePath(Environment.CurrentDirectory, directory)}, for {style.Name}: one column {style.ColumnWidth / 72:0.00} in, both {style.PageWidth / 72:0.00} in");
    }

    private static (Trace Trace, IReadOnlyList<RunResult> Results) Live(Scenario scenario, Calibration calibration, string directory)
    {
        using var interrupt = new Interrupt();
        using var progress = new Progress();
        LiveOutcome outcome = new LiveExperiment(scenario, directory + "-traces", progress, interrupt.Token).Run(() => calibration);
        interrupt.Token.ThrowIfCancellationRequested();
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
