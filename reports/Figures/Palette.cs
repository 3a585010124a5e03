using ScottPlot;
using Testbed.Core;

namespace Testbed.Reports.Figures;

/// <summary>How the figures look: colours by Okabe and Ito ("Color Universal Design", 2008), which people with any
/// kind of colour vision tell apart, and a line pattern and marker with each for print in grey.</summary>
internal static class Palette
{
    // The report swaps these three for its dark theme, by value: each has one use.
    public static readonly Color Ink = Color.FromHex("#1a1a1a");
    public static readonly Color Grid = Color.FromHex("#e4e4e4");
    public static readonly Color Paper = Color.FromHex("#ffffff");
    public static readonly Color Muted = Color.FromHex("#767676");

    public const float TextSize = 7.5f;
    public const float TitleSize = 8;

    private static readonly Color[] s_colors =
    [
        Ink, Color.FromHex("#D55E00"), Color.FromHex("#0072B2"), Color.FromHex("#009E73"),
        Color.FromHex("#CC79A7"), Color.FromHex("#E69F00"), Color.FromHex("#56B4E9"),
    ];

    private static readonly LinePattern[] s_patterns =
    [
        LinePattern.Solid, new([5, 2], 0, "dash"), new([1.2f, 1.6f], 0, "dot"), new([6, 1.6f, 1.2f, 1.6f], 0, "dash dot"), new([2.5f, 1.5f], 0, "short dash"),
    ];

    private static readonly MarkerShape[] s_markers =
    [
        MarkerShape.FilledCircle, MarkerShape.FilledSquare, MarkerShape.FilledTriangleUp, MarkerShape.FilledDiamond,
        MarkerShape.FilledTriangleDown, MarkerShape.Cross, MarkerShape.Eks,
    ];

    /// <summary>The look of the i-th policy; lengths coprime, so that no two of the first 35 are alike.</summary>
    public static SeriesStyle Series(int i) =>
        new(s_colors[i % s_colors.Length], s_patterns[i % s_patterns.Length], s_markers[i % s_markers.Length]);

    /// <summary>The darker, the more it cost: told apart in grey too.</summary>
    public static Color Of(Cause cause) => Color.FromHex(cause switch
    {
        Cause.Demand => "#D55E00",
        Cause.Prefetch => "#56B4E9",
        Cause.Zero => "#009E73",
        _ => "#C4C4C4",
    });
}

/// <summary>How one series is drawn.</summary>
internal readonly record struct SeriesStyle(Color Color, LinePattern Pattern, MarkerShape Marker);

/// <summary>One entry of a legend: a line, or a marker when there is one.</summary>
internal readonly record struct LegendEntry(string Text, SeriesStyle Style, MarkerShape Marker = MarkerShape.None);
