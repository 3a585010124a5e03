using ScottPlot;
using SkiaSharp;
using Testbed.Traces;

namespace Testbed.Reports.Figures;

/// <summary>
/// What kind of load each trace is, a row each: first touches over time, think times, contiguity, and shares. Axes are the same in all rows, so
/// that rows can be compared; a second capture of the same process is drawn thin in the row of the first.
/// </summary>
public static class TraceCharacterFigure
{
    /// <summary>A heading of a few words.</summary>
    public const string Title = "What the traces are like";

    /// <summary>What is seen, and how to read it.</summary>
    public const string Caption =
        "A row per workload. First touches over time: the rate in 60 parts of the run, scaled to its highest. Think time: the share of first touches " +
        "that came sooner after the thread's last one than x. Runs: the share of touched pages that lie in runs of consecutive touched pages of at most x. Shares, from the top: " +
        "of the pages that were away, those touched; Jaccard index of the pages that two captures of one process touched; pages away that zstd halves, and all-zero ones.";

    private const float RowHeight = 21, Gap = 6, Top = 34, Bottom = 26, PanelGap = 12, Right = 14;
    private static readonly float[] s_shareOfWidth = [0.265f, 0.24f, 0.24f, 0.255f];
    private static readonly LinePattern s_dashes = new([2.5f, 1.2f], 0, "dash");
    private static readonly Color s_first = Color.FromHex("#0072B2"), s_second = Color.FromHex("#D55E00");

    /// <summary>Draws it.</summary>
    public static FigureSheet Draw(IReadOnlyList<TraceCharacter> traces)
    {
        List<(TraceCharacter First, TraceCharacter? Second)> rows = Pair(traces);
        var sheet = new FigureSheet(FigureStyle.Report, column: false) { Height = Top + (rows.Count * (RowHeight + Gap)) + Bottom };
        LegendEntry[] legend =
        [
            new("first capture", new(s_first, LinePattern.Solid, default)), new("second, same process", new(s_second, s_dashes, default)),
            .. s_shares.Select(s => new LegendEntry(s.Name, new(s.Color, default, default), MarkerShape.FilledSquare)),
        ];
        sheet.Legend(legend, 3);
        float left = 12 + FigureSheet.TextWidth(rows.Select(NameOf), bold: true), room = sheet.Width - left - (3 * PanelGap) - Right;
        float[] widths = [.. s_shareOfWidth.Select(s => s * room)];
        float X(int column) => left + widths[..column].Sum() + (PanelGap * column);
        string[] titles = ["first touches over time", "think time, ECDF", "run of pages, CDF", "shares"];
        for (int c = 0; c < titles.Length; c++)
            sheet.Text(titles[c], X(c) + (widths[c] / 2), Top - 6, SKTextAlign.Center, bold: true);
        for (int r = 0; r < rows.Count; r++)
        {
            (TraceCharacter first, TraceCharacter? second) = rows[r];
            float y = Top + (r * (RowHeight + Gap));
            bool last = r == rows.Count - 1;
            sheet.Text(NameOf(rows[r]), left - 8, y + 9, SKTextAlign.Right, bold: true);
            sheet.Text($"{Scale.Count(first.Touched)} in {first.Duration}", left - 8, y + 18, SKTextAlign.Right);
            Plot[] panels = [.. Enumerable.Range(0, 4).Select(c => sheet.AddPanel(X(c), y, widths[c], RowHeight))];
            // The second on top: between its dashes the first is seen where both are the same.
            foreach ((TraceCharacter trace, Color color, LinePattern pattern) in Both(first, second))
            {
                AddRate(panels[0], trace, color, pattern, trace == first);
                AddSteps(panels[1], [.. trace.SortedThinkNanoseconds.Select(t => Scale.Log(t))], 1, color, pattern);
                AddSteps(panels[2], [.. trace.SortedRunPages.Select(p => Math.Log10(p))], 0, color, pattern);
            }
            AddShares(panels[3], first, second);
            Axis(panels[0], 0, TraceCharacter.RateBins, last, [(0, "0"), (TraceCharacter.RateBins, "end")]);
            Axis(panels[1], 2, 9, last, [(3, "1 µs"), (5, "100 µs"), (7, "10 ms"), (9, "1 s")]);
            Axis(panels[2], 0, 5.3, last, [(0, "1"), (1, "10"), (2, "100"), (3, "1 k"), (5, "100 k")]);
            Axis(panels[3], 0, 1, last, [(0, "0"), (0.5, "50 %"), (1, "100 %")]);
        }
        return sheet;
    }

    private static readonly (string Name, Color Color)[] s_shares =
        [("touched", s_first), ("Jaccard", Color.FromHex("#009E73")), ("halved by zstd", Color.FromHex("#E69F00")), ("all zero", Palette.Muted)];

    private static string NameOf((TraceCharacter First, TraceCharacter? Second) row) => row.Second is null ? row.First.Name : row.First.Header.Workload;

    private static List<(TraceCharacter, TraceCharacter?)> Pair(IReadOnlyList<TraceCharacter> traces)
    {
        var rows = new List<(TraceCharacter, TraceCharacter?)>();
        var drawn = new HashSet<TraceCharacter>();
        foreach (TraceCharacter trace in traces)
        {
            if (!drawn.Add(trace))
                continue;
            TraceCharacter? second = CharacterTable.Sibling(traces, trace);
            if (second is not null && !drawn.Add(second))
                second = null;
            rows.Add((trace, second));
        }
        return rows;
    }

    private static IEnumerable<(TraceCharacter, Color, LinePattern)> Both(TraceCharacter first, TraceCharacter? second) =>
        second is null ? [(first, s_first, LinePattern.Solid)] : [(first, s_first, LinePattern.Solid), (second, s_second, s_dashes)];

    private static void AddRate(Plot plot, TraceCharacter trace, Color color, LinePattern pattern, bool filled)
    {
        double most = Math.Max(1, trace.TouchesOverTime.Max());
        Coordinates[] points = [new(0, 0), .. trace.TouchesOverTime.SelectMany((n, i) => new Coordinates[] { new(i, n / most), new(i + 1, n / most) }), new(TraceCharacter.RateBins, 0)];
        if (filled)
        {
            var area = plot.Add.Polygon(points);
            (area.FillColor, area.LineWidth) = (color.WithAlpha(0.25), 0);
        }
        AddLine(plot, points, color, pattern);
    }

    /// <summary>A distribution function. Each value weighs one, or, for lengths, as much as itself.</summary>
    /// <param name="plot">Where.</param>
    /// <param name="values">Sorted places on the axis.</param>
    /// <param name="weight">1: each counts once; 0: each counts ten to its power, the pages of a run.</param>
    /// <param name="color">Of the line.</param>
    /// <param name="pattern">Of the line.</param>
    private static void AddSteps(Plot plot, double[] values, int weight, Color color, LinePattern pattern)
    {
        const int Points = 200;
        double Weigh(double value) => weight == 1 ? 1 : Math.Pow(10, value);
        double total = values.Sum(Weigh), done = 0, drawn = -1;
        var points = new List<Coordinates> { new(values.FirstOrDefault(), 0) };
        foreach (double value in values)
        {
            done += Weigh(value);
            // A step that would be narrower than the line is left to the next one.
            if ((done / total) - drawn < 1.0 / Points && done < total)
                continue;
            drawn = done / total;
            points.Add(new(value, points[^1].Y));
            points.Add(new(value, drawn));
        }
        AddLine(plot, [.. points, new(9, 1)], color, pattern);
    }

    private static void AddLine(Plot plot, Coordinates[] points, Color color, LinePattern pattern)
    {
        var line = plot.Add.ScatterLine(points);
        (line.LineColor, line.LinePattern, line.LineWidth) = (color, pattern, 0.9f);
    }

    private static void AddShares(Plot plot, TraceCharacter first, TraceCharacter? second)
    {
        double?[] shares =
        [
            (double)(first.Touched - first.Holes) / Math.Max(1, first.Footprint), second is null ? null : first.Jaccard(second),
            first.Content?.CompressibleShare, first.Content?.ZeroShare,
        ];
        for (int i = 0; i < shares.Length; i++)
        {
            // From the top: four bars of equal height.
            double y = 0.875 - (i * 0.25);
            if (shares[i] is not double share)
                continue;
            var bar = plot.Add.Rectangle(0, Math.Max(0.004, share), y - 0.095, y + 0.095);
            (bar.FillColor, bar.LineWidth) = (s_shares[i].Color, 0);
        }
    }

    private static void Axis(Plot plot, double low, double high, bool labels, (double At, string Text)[] ticks)
    {
        plot.Axes.SetLimits(low, high, 0, 1.04);
        plot.Axes.Bottom.SetTicks([.. ticks.Select(t => t.At)], [.. ticks.Select(t => t.Text)]);
        plot.Axes.Bottom.TickLabelStyle.IsVisible = labels;
        plot.Axes.Left.SetTicks([], []);
        plot.Grid.YAxisStyle.IsVisible = false;
    }
}
