using System.Text;
using Testbed.Core;
using Testbed.Reports.Figures;
using Testbed.Reports.Statistics;

namespace Testbed.Reports;

/// <summary>A figure that was drawn for this report.</summary>
/// <param name="Name">The name of its files.</param>
/// <param name="Title">Its heading.</param>
/// <param name="Caption">How to read it.</param>
/// <param name="Inline">The svg element.</param>
/// <param name="Width">In points.</param>
internal sealed record DrawnFigure(string Name, string Title, string Caption, string Inline, float Width);

/// <summary>
/// Writes a report: <c>index.html</c>, <c>results.csv</c>, <c>figures/NAME.{png,svg,pdf}</c> and <c>latencies/NAME.hgrm</c>. Same results
/// and context, same bytes.
/// </summary>
public static class Report
{
    /// <summary>Writes the report into <paramref name="directory"/>, in place of one that is there.</summary>
    /// <returns>The path of index.html.</returns>
    /// <exception cref="BadInputException">There is no result, or the directory holds something else than a report.</exception>
    public static string Write(string directory, ReportContext context, IReadOnlyList<RunResult> results)
    {
        if (results.Count == 0)
            throw new BadInputException($"report {directory}: no results; expected at least one run");
        if (Directory.Exists(directory) && Directory.EnumerateFileSystemEntries(directory).Any() && !File.Exists(Path.Combine(directory, "index.html")))
            throw new BadInputException($"report {directory}: the directory holds something else; expected an empty or new one, or an earlier report");
        string target = Path.TrimEndingDirectorySeparator(Path.GetFullPath(directory));
        string part = $"{target}.part-{Environment.ProcessId}";
        Directory.CreateDirectory(Path.Combine(part, "figures"));
        try
        {
            WriteInto(part, context, results);
            Replace(part, target);
        }
        finally
        {
            if (Directory.Exists(part))
                Directory.Delete(part, true);
        }
        return Path.Combine(directory, "index.html");
    }

    private static void WriteInto(string directory, ReportContext context, IReadOnlyList<RunResult> results)
    {
        IReadOnlyList<Summary> summaries = Summary.Of(results);
        string[] policies = [.. summaries.Select(s => s.Run.Policy).Distinct()];
        var figures = new List<DrawnFigure>();
        var workloads = summaries.GroupBy(s => s.Run.Workload).ToList();
        foreach (var workload in workloads)
        {
            MemoryImage? image = context.Traces.FirstOrDefault(t => t.Workload == workload.Key)?.Image;
            var all = new FigureData(workload.Key, [.. workload], image, policies)
            {
                Fidelity = FidelityPair.Of([.. results.Where(r => r.Workload == workload.Key)]),
            };
            // One workload needs no name in front, and replay is what a report has unless it says live.
            string prefix = workloads.Count > 1 ? FileName(workload.Key) + "-" : "", title = workloads.Count > 1 ? workload.Key + ": " : "";
            foreach (RunMode mode in workload.Select(s => s.Run.Mode).Distinct().Order())
            {
                FigureData data = all.Only(mode);
                foreach (IFigure figure in FigureList.OfOneMode.Where(f => f.Applies(data)))
                    figures.Add(Save(directory, figure, data, prefix, title, mode == RunMode.Live ? "live" : "", context.Date));
            }
            foreach (IFigure figure in FigureList.OfBothModes.Where(f => f.Applies(all)))
                figures.Add(Save(directory, figure, all, prefix, title, "", context.Date));
        }
        LatencyFiles.Write(Path.Combine(directory, "latencies"), summaries);
        string csv = ResultsCsv.Format(summaries);
        File.WriteAllText(Path.Combine(directory, "results.csv"), csv);
        File.WriteAllText(Path.Combine(directory, "index.html"), HtmlReport.Format(context, summaries, figures, csv), new UTF8Encoding(false));
    }

    private static DrawnFigure Save(string directory, IFigure figure, FigureData data, string prefix, string title, string mode, DateTimeOffset date)
    {
        string name = prefix + figure.Name + (mode.Length > 0 ? "-" + mode : "");
        string heading = title + figure.Title + (mode.Length > 0 ? ", " + mode : "");
        FigureSheet sheet = figure.Draw(data);
        FigureList.Save(sheet, Path.Combine(directory, "figures", name), heading, date, FigureList.Formats);
        return new DrawnFigure(name, heading, figure.Caption, FigureWriter.Inline(sheet, heading, name), sheet.PrintWidth);
    }

    private static string FileName(string workload) =>
        string.Concat(workload.Select(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '_' or '.' ? c : '-'));

    /// <summary>Puts a finished directory in the place of an older one: at no time is a half-written report under the name.</summary>
    private static void Replace(string part, string target)
    {
        string old = $"{target}.old-{Environment.ProcessId}";
        if (Directory.Exists(target))
            Directory.Move(target, old);
        Directory.Move(part, target);
        if (Directory.Exists(old))
            Directory.Delete(old, true);
    }
}
