using System.Text;
using Testbed.Core;
using Testbed.Reports.Figures;
using Testbed.Reports.Statistics;

namespace Testbed.Reports;

/// <summary>
/// Figures and tables in a venue's sizes, to be included as they are: <c>NAME.pdf</c> over both columns with all links,
/// <c>NAME-LINK.pdf</c> in one column for each link, <c>figures.tex</c> with captions, and <c>tables.tex</c>.
/// </summary>
public static class PaperFigures
{
    /// <summary>The formats, by extension.</summary>
    public static IReadOnlyList<string> Formats => FigureList.Formats;

    /// <summary>Writes them into <paramref name="directory"/>; files of other names there are left alone.</summary>
    /// <param name="directory">Made when it is not there.</param>
    /// <param name="style">The venue's style.</param>
    /// <param name="context">What was run, for the files' comments and the PDFs' properties.</param>
    /// <param name="results">What came of it.</param>
    /// <param name="formats">Some of pdf, svg, png.</param>
    /// <returns>How many figures were written.</returns>
    public static int Write(string directory, FigureStyle style, ReportContext context, IReadOnlyList<RunResult> results, IReadOnlyList<string> formats)
    {
        IReadOnlyList<Summary> summaries = Summary.Of(results);
        string[] policies = [.. summaries.Select(s => s.Run.Policy).Distinct()];
        Directory.CreateDirectory(directory);
        // A line end within would end the comment.
        string traces = string.Join(", ", context.Traces.Select(t => $"{t.Path} {t.Hash}"));
        string origin = $"% {Printable.Of(context.CommandLine)}\n% commit {Printable.Of(context.Commit)}, seed {context.Seed}, {Printable.Of(traces)}\n";
        var tex = new StringBuilder(origin + "% Needs \\usepackage{graphicx}. Each figure* spans both columns; the one of one link alone fits one.\n\n");
        int count = 0;
        var workloads = summaries.GroupBy(s => s.Run.Workload).ToList();
        foreach (var workload in workloads)
        {
            MemoryImage? image = context.Traces.FirstOrDefault(t => t.Workload == workload.Key)?.Image;
            var all = new FigureData(workload.Key, [.. workload], image, policies)
            {
                Style = style,
                Fidelity = FidelityPair.Of([.. results.Where(r => r.Workload == workload.Key)]),
            };
            string prefix = workloads.Count > 1 ? LatexTable.Label(workload.Key) + "-" : "";
            foreach (RunMode mode in workload.Select(s => s.Run.Mode).Distinct().Order())
            {
                string suffix = mode == RunMode.Live ? "-live" : "";
                foreach (IFigure figure in FigureList.OfOneMode)
                    count += Save(figure, all.Only(mode), prefix + figure.Name + suffix, mode == RunMode.Live ? ", live" : "");
            }
            foreach (IFigure figure in FigureList.OfBothModes)
                count += Save(figure, all, prefix + figure.Name, "");
        }
        File.WriteAllText(Path.Combine(directory, "figures.tex"), tex.ToString());
        File.WriteAllText(Path.Combine(directory, "tables.tex"), origin + "% Needs \\usepackage{booktabs}.\n\n" + LatexTable.Format(summaries));
        return count;

        int Save(IFigure figure, FigureData data, string name, string of)
        {
            if (!figure.Applies(data))
                return 0;
            FigureSheet sheet = figure.Draw(data);
            FigureList.Save(sheet, Path.Combine(directory, name), figure.Title + of, context.Date, formats);
            string star = sheet.PrintWidth > style.ColumnWidth ? "*" : "";
            tex.Append($"\\begin{{figure{star}}}\n  \\centering\n  \\includegraphics{{{name}}}\n  \\caption{{{LatexTable.Escape($"{figure.Title}{of}. {figure.Caption}")}}}\n  \\label{{fig:{name}}}\n\\end{{figure{star}}}\n\n");
            int written = 1;
            foreach (string link in data.Links.Count > 1 ? data.Links : [])
            {
                FigureData one = data.Only(link);
                if (!figure.Applies(one) || figure.Draw(one) is not { } column || column.PrintWidth > style.ColumnWidth)
                    continue;
                FigureList.Save(column, Path.Combine(directory, $"{name}-{LatexTable.Label(link)}"), $"{figure.Title}{of}, {FigureData.TitleOf(link)}", context.Date, formats);
                written++;
            }
            return written;
        }
    }
}
