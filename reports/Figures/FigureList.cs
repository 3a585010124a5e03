using System.Text;

namespace Testbed.Reports.Figures;

/// <summary>All figures, in the order in which a report shows them, and how one becomes files.</summary>
internal static class FigureList
{
    /// <summary>Figures of one mode, live or replay.</summary>
    public static IReadOnlyList<IFigure> OfOneMode { get; } =
    [
        new StallByPolicy(), new StallHeatMap(), new TimesTheBound(), new LatencyEcdf(), new LatencyCcdf(), new LatencyOverTime(),
        new ResidencyOverTime(), new PrefetchQuality(), new Sensitivity(), new AddressOverTime(),
    ];

    /// <summary>Figures that need both.</summary>
    public static IReadOnlyList<IFigure> OfBothModes { get; } = [new LiveBesideReplay(), new FidelityFigure()];

    /// <summary>The formats, by extension.</summary>
    public static IReadOnlyList<string> Formats { get; } = ["pdf", "svg", "png"];

    /// <summary>Writes a drawn figure as <c>path.FORMAT</c>, in each format.</summary>
    public static void Save(FigureSheet sheet, string path, string title, DateTimeOffset date, IEnumerable<string> formats)
    {
        foreach (string format in formats)
        {
            File.WriteAllBytes($"{path}.{format}", format switch
            {
                "pdf" => FigureWriter.Pdf(sheet, title, date),
                "svg" => new UTF8Encoding(false).GetBytes(FigureWriter.Svg(sheet, title)),
                _ => FigureWriter.Png(sheet),
            });
        }
    }
}
