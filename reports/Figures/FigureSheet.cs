using ScottPlot;
using SkiaSharp;

namespace Testbed.Reports.Figures;

/// <summary>
/// A drawn figure: plots at fixed places, texts and a legend around them. It is laid out in units in which text has one size, and scaled
/// as a whole to the size that the style asks for: a text size means what it does in the paper.
/// </summary>
public sealed class FigureSheet
{
    private readonly List<(Plot Plot, PixelRect Rect)> _panels = [];
    private readonly List<Action<SKCanvas>> _marks = [];

    /// <summary>Points of print (1/72 inch) per unit of the layout.</summary>
    private readonly float _scale;

    /// <summary>In points of print.</summary>
    public float PrintWidth { get; }

    /// <summary>In points of print.</summary>
    public float PrintHeight => MathF.Ceiling(Height * _scale);

    /// <summary>In units of the layout.</summary>
    internal float Width { get; }

    /// <summary>In units of the layout.</summary>
    internal float Height { get; set; }

    internal FigureSheet(FigureStyle style, bool column)
    {
        _scale = style.TextSize / Palette.TextSize;
        PrintWidth = column ? style.ColumnWidth : style.PageWidth;
        Width = PrintWidth / _scale;
    }

    /// <summary>The plots, in reading order.</summary>
    public IEnumerable<Plot> Panels => _panels.Select(p => p.Plot);

    /// <summary>A new plot whose data area is the given rectangle; its ticks and labels lie around it.</summary>
    internal Plot AddPanel(float left, float top, float width, float height)
    {
        ShippedFont.Register();
        var plot = new Plot();
        Style(plot);
        // Wider than any label: neighbours overlap, and their backgrounds are transparent.
        const float Around = 60;
        plot.Layout.Fixed(new PixelPadding(Around));
        _panels.Add((plot, new PixelRect(left - Around, left + width + Around, top + height + Around, top - Around)));
        return plot;
    }

    internal void RemovePanel(Plot plot) => _panels.RemoveAll(p => p.Plot == plot);

    /// <summary>A text; x and y are its baseline's left, middle or right.</summary>
    internal void Text(string text, float x, float y, SKTextAlign align = SKTextAlign.Left, bool bold = false, float turn = 0)
    {
        _marks.Add(canvas =>
        {
            using SKFont font = Font(bold);
            using var paint = new SKPaint { Color = Palette.Ink.ToSKColor(), IsAntialias = true };
            canvas.Save();
            canvas.RotateDegrees(turn, x, y);
            canvas.DrawText(text, x, y, align, font, paint);
            canvas.Restore();
        });
    }

    /// <summary>The width of the widest of these.</summary>
    internal static float TextWidth(IEnumerable<string> texts, bool bold)
    {
        using SKFont font = Font(bold);
        return texts.Max(t => font.MeasureText(t));
    }

    /// <summary>A legend in centred rows from <paramref name="top"/> on.</summary>
    /// <returns>Where it ends.</returns>
    internal float Legend(IReadOnlyList<LegendEntry> entries, float top)
    {
        const float Sample = 20, Space = 4, Gap = 14, Row = 11;
        using SKFont font = Font(false);
        var rows = new List<List<(LegendEntry Entry, float Width)>> { new() };
        foreach (LegendEntry entry in entries)
        {
            float width = Sample + Space + font.MeasureText(entry.Text) + Gap;
            if (rows[^1].Sum(e => e.Width) + width > Width)
                rows.Add([]);
            rows[^1].Add((entry, width));
        }
        foreach (var row in rows)
        {
            float x = (Width - row.Sum(e => e.Width) + Gap) / 2;
            foreach ((LegendEntry entry, float width) in row)
            {
                (float left, float middle) = (x, top + (Row / 2));
                _marks.Add(canvas => DrawSample(canvas, entry, left, middle, Sample));
                Text(entry.Text, x + Sample + Space, middle + 2.7f);
                x += width;
            }
            top += Row;
        }
        return top;
    }

    internal void Draw(SKCanvas canvas)
    {
        canvas.Scale(_scale);
        using (var paper = new SKPaint { Color = Palette.Paper.ToSKColor() })
            canvas.DrawRect(0, 0, Width, Height, paper);
        foreach ((Plot plot, PixelRect rect) in _panels)
        {
            // The first time, ScottPlot draws all twice, as it learns its limits meanwhile: a vector file would hold both.
            using var nowhere = new SKNoDrawCanvas((int)rect.Width, (int)rect.Height);
            plot.Render(nowhere, rect);
            plot.Render(canvas, rect);
        }
        foreach (Action<SKCanvas> mark in _marks)
            mark(canvas);
    }

    private static void DrawSample(SKCanvas canvas, LegendEntry entry, float left, float y, float width)
    {
        using var paint = Paint.NewDisposablePaint();
        if (entry.Marker != MarkerShape.None)
        {
            var style = new MarkerStyle(entry.Marker, 5.5f, entry.Style.Color) { LineColor = entry.Style.Color, LineWidth = 1 };
            style.Render(canvas, new Pixel(left + (width / 2) + 4, y), paint);
            return;
        }
        var line = new LineStyle(1.3f, entry.Style.Color, entry.Style.Pattern) { AntiAlias = true };
        line.Render(canvas, new PixelLine(left, y, left + width, y), paint);
    }

    private static SKFont Font(bool bold) =>
        new(bold ? ShippedFont.Bold : ShippedFont.Regular, bold ? Palette.TitleSize : Palette.TextSize) { Subpixel = true, Hinting = SKFontHinting.None };

    private static void Style(Plot plot)
    {
        plot.RenderManager.ClearCanvasBeforeEachRender = false;
        plot.FigureBackground.Color = Colors.Transparent;
        plot.DataBackground.Color = Colors.Transparent;
        plot.Axes.Color(Palette.Ink);
        plot.Axes.FrameWidth(0.6f);
        plot.Axes.FrameColor(Palette.Muted);
        plot.Axes.Right.FrameLineStyle.Width = 0;
        plot.Axes.Top.FrameLineStyle.Width = 0;
        plot.Grid.MajorLineColor = Palette.Grid;
        plot.Grid.MajorLineWidth = 0.5f;
        plot.Axes.Title.Label.FontSize = Palette.TitleSize;
        foreach (IAxis axis in plot.Axes.GetAxes())
        {
            axis.TickLabelStyle.FontName = ShippedFont.Family;
            axis.TickLabelStyle.FontSize = Palette.TextSize;
            axis.Label.FontName = ShippedFont.Family;
            axis.Label.FontSize = Palette.TextSize;
            axis.Label.Bold = false;
            (axis.MajorTickStyle.Length, axis.MajorTickStyle.Width) = (3, 0.6f);
            (axis.MinorTickStyle.Length, axis.MinorTickStyle.Width) = (1.8f, 0.4f);
            axis.MajorTickStyle.Color = axis.MinorTickStyle.Color = Palette.Muted;
        }
    }
}
