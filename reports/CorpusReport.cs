using System.Text;
using Testbed.Reports.Figures;
using Testbed.Traces;

namespace Testbed.Reports;

/// <summary>Traces characterised: a table for people, one for programs, and a figure.</summary>
public static class CorpusReport
{
    private const string Name = "characterisation";

    /// <summary>Writes table.csv, table.md and the figure as PNG, SVG and PDF; what is there under these names is replaced.</summary>
    /// <returns>Where the figure is.</returns>
    public static string Write(string directory, IReadOnlyList<TraceCharacter> traces)
    {
        Directory.CreateDirectory(directory);
        FigureSheet sheet = TraceCharacterFigure.Draw(traces);
        Save("table.csv", Encoding.UTF8.GetBytes(CharacterTable.Csv(traces)));
        Save("table.md", Encoding.UTF8.GetBytes(CharacterTable.Markdown(traces)));
        Save(Name + ".svg", Encoding.UTF8.GetBytes(FigureWriter.Svg(sheet, TraceCharacterFigure.Title)));
        // The youngest trace, for the clock is not read: same traces, same bytes.
        Save(Name + ".pdf", FigureWriter.Pdf(sheet, TraceCharacterFigure.Title, traces.Max(t => t.Header.Recorded)));
        Save(Name + ".png", FigureWriter.Png(sheet));
        return Path.Combine(directory, Name + ".png");

        void Save(string name, byte[] bytes)
        {
            string path = Path.Combine(directory, name);
            File.WriteAllBytes(path + ".part", bytes);
            File.Move(path + ".part", path, overwrite: true);
        }
    }
}
