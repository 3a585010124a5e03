using Testbed.Core;

namespace Testbed.Reports.Figures;

/// <summary>What a venue's style gives a figure: room, and the size of its text in print.</summary>
/// <param name="Name">What one types after <c>--style</c>.</param>
/// <param name="ColumnWidth">One column, in points of 1/72 inch.</param>
/// <param name="PageWidth">Both columns, in points.</param>
/// <param name="TextSize">Of labels, in points.</param>
/// <param name="Source">Where the widths come from.</param>
public sealed record FigureStyle(string Name, float ColumnWidth, float PageWidth, float TextSize, string Source)
{
    private const float TexPoint = 72 / 72.27f;

    /// <summary>The styles: the first is what reports use.</summary>
    public static IReadOnlyList<FigureStyle> All { get; } =
    [
        new("report", 240, 504, Palette.TextSize, "3.33 and 7 inches"),
        new("acm", 241.14749f * TexPoint, 506.295f * TexPoint, 7.5f, "acmart, sigconf: \\columnwidth 241.14749pt, \\textwidth 506.295pt"),
        new("ieee", 252 * TexPoint, 516 * TexPoint, 8, "IEEEtran, conference: \\columnwidth 252.0pt, \\textwidth 516.0pt"),
        new("usenix", 240.12f, 504, 8, "usenix2019_v3: \\textwidth 7in, \\columnsep 0.33in"),
    ];

    /// <summary>What reports use.</summary>
    public static FigureStyle Report => All[0];

    /// <summary>A style by its name.</summary>
    /// <exception cref="BadInputException">There is none of that name.</exception>
    public static FigureStyle Parse(string name) =>
        All.FirstOrDefault(s => s.Name == name) ?? throw new BadInputException($"--style {name}: no such style; expected one of {string.Join(", ", All.Select(s => s.Name))}");
}
