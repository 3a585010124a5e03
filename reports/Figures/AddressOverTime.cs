using ScottPlot;
using SkiaSharp;
using Testbed.Core;
using Testbed.Reports.Statistics;

namespace Testbed.Reports.Figures;

/// <summary>Which pages came when and why: a row of panels per policy, a column per link.</summary>
public sealed class AddressOverTime : IFigure
{
    /// <summary>Dots per point: 225 per inch in print. Tens of thousands of vector marks a panel would weigh megabytes.</summary>
    private const float Density = 225 / 72f;

    private const float GapY = 17;

    // What comes later is painted over what came before: the rare and telling on top.
    private static readonly Cause[] s_order = [Cause.Background, Cause.Zero, Cause.Prefetch, Cause.Demand];

    /// <inheritdoc/>
    public string Name => "address-over-time";

    /// <inheritdoc/>
    public string Title => "Which pages came when, and why";

    /// <inheritdoc/>
    public string Caption =>
        "Each mark is a range of pages being installed: its address (areas end to end, the gaps between them left out; thin lines are area " +
        "borders) over time since resume. Each panel has its own time range. Marks are drawn larger than the pages that they stand for where those would be invisible.";

    /// <inheritdoc/>
    public bool Applies(FigureData data) => data.Summaries.Any(s => s.Run.Installs.Count > 0);

    /// <inheritdoc/>
    public FigureSheet Draw(FigureData data)
    {
        var axis = AddressAxis.Of(data.Image, data.Summaries.Select(s => s.Run));
        var seen = data.Summaries.SelectMany(s => s.Run.Installs).Select(i => i.Cause).Distinct().ToHashSet();
        LegendEntry[] legend =
        [
            .. s_order.Reverse().Where(seen.Contains).Select(c => new LegendEntry(Label(c), new(Palette.Of(c), default, default), MarkerShape.FilledSquare)),
        ];
        float height = Math.Clamp((550f / data.Policies.Count) - GapY, 36, 105);
        var labels = axis.Labels(9 / height);
        float left = 24 + (4.1f * labels.Max(l => l.Name.Length));
        var grid = new PanelGrid(data.Style, legend, data.LinkTitles, data.Policies, height, left, gapX: 20, gapY: GapY);
        foreach (Summary s in data.Summaries)
        {
            Plot plot = grid[data.Policies.ToList().IndexOf(s.Run.Policy), data.Links.ToList().IndexOf(s.Run.Link)];
            DrawPanel(plot, s.Run, axis, grid.PanelWidth, height);
            plot.Axes.Left.SetTicks([.. labels.Select(l => l.At)], [.. labels.Select(l => l.Name)]);
        }
        grid.ShareY();
        grid.XLabel("time since resume");
        return grid.Sheet;
    }

    private static string Label(Cause cause) => cause switch
    {
        Cause.Demand => "demand",
        Cause.Prefetch => "prefetch",
        Cause.Zero => "zero page",
        _ => "background",
    };

    private static void DrawPanel(Plot plot, RunResult run, AddressAxis axis, float width, float height)
    {
        double end = Math.Max(1, run.Installs.Count > 0 ? run.Installs.Max(i => i.Time.Nanoseconds) : 1) * 1.02;
        using SKBitmap bitmap = Paint(run, axis, end, (int)(width * Density), (int)(height * Density));
        (double scale, string unit) = end switch { < 1e6 => (1e3, "µs"), < 1e9 => (1e6, "ms"), _ => (1e9, "s") };
        var image = plot.Add.ImageRect(new Image(bitmap), new CoordinateRect(0, end / scale, 0, axis.Length));
        image.AntiAlias = false;
        foreach (long border in axis.Borders(0.03))
        {
            var line = plot.Add.HorizontalLine(border, 0.3f, Palette.Muted);
            line.EnableAutoscale = false;
        }
        plot.Axes.SetLimits(0, end / scale, 0, axis.Length);
        plot.Axes.Bottom.TickGenerator = Scale.LinearTicks(end / scale, 4, unit);
        plot.Grid.YAxisStyle.IsVisible = false;
    }

    private static SKBitmap Paint(RunResult run, AddressAxis axis, double end, int width, int height)
    {
        var pixels = new SKColor[width * height];
        foreach (Cause cause in s_order)
        {
            SKColor color = Palette.Of(cause).ToSKColor();
            int least = cause is Cause.Demand ? 3 : 2;
            foreach (InstallRecord install in run.Installs)
            {
                // Children share the addresses of their parent; their pages would be painted over its own.
                if (install.Cause != cause || install.Space != 0 || axis.Place(install.Range.Start) is var place && place < 0)
                    continue;
                int x = (int)(install.Time.Nanoseconds / end * (width - 1));
                int bottom = (int)((double)place / axis.Length * height);
                int top = Math.Max(bottom + least, (int)Math.Ceiling((double)(place + install.Range.Count) / axis.Length * height));
                Fill(pixels, width, height, x, least, bottom, top, color);
            }
        }
        return new SKBitmap(width, height) { Pixels = pixels };
    }

    private static void Fill(SKColor[] pixels, int width, int height, int x, int wide, int bottom, int top, SKColor color)
    {
        for (int y = bottom; y < Math.Min(top, height); y++)
        {
            int row = (height - 1 - y) * width;
            for (int i = x; i < Math.Min(x + wide, width); i++)
                pixels[row + i] = color;
        }
    }
}
