using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;
using SkiaSharp;
using Testbed.Core;

namespace Testbed.Reports.Figures;

/// <summary>Renders one drawn figure to PNG, SVG and PDF; all three show the same.</summary>
public static partial class FigureWriter
{
    /// <summary>Pixels of the PNG per point: twice the 96 per inch that a browser counts.</summary>
    public const float PngScale = 2 * 96 / 72f;

    /// <summary>The picture as PNG.</summary>
    public static byte[] Png(FigureSheet sheet)
    {
        var info = new SKImageInfo((int)MathF.Ceiling(sheet.PrintWidth * PngScale), (int)MathF.Ceiling(sheet.PrintHeight * PngScale));
        using var surface = SKSurface.Create(info);
        surface.Canvas.Clear(SKColors.White);
        surface.Canvas.Scale(PngScale);
        sheet.Draw(surface.Canvas);
        using SKImage image = surface.Snapshot();
        using SKData data = image.Encode(SKEncodedImageFormat.Png, 100);
        return data.ToArray();
    }

    /// <summary>The picture as PDF: vectors, one page of the figure's size, the font embedded.</summary>
    /// <param name="sheet">The figure.</param>
    /// <param name="title">Its title, for the document's properties.</param>
    /// <param name="date">The date in the document's properties; the clock is not read, so that same input gives same bytes.</param>
    public static byte[] Pdf(FigureSheet sheet, string title, DateTimeOffset date)
    {
        using var stream = new MemoryStream();
        var metadata = new SKDocumentPdfMetadata(72)
        {
            Title = Printable.Of(title),
            Creator = "lazy-restore testbed",
            Creation = date.UtcDateTime,
            Modified = date.UtcDateTime,
            RasterDpi = 300,
            EncodingQuality = 101,
        };
        using (var document = SKDocument.CreatePdf(stream, metadata))
        {
            sheet.Draw(document.BeginPage(sheet.PrintWidth, sheet.PrintHeight));
            document.EndPage();
            document.Close();
        }
        return stream.ToArray();
    }

    /// <summary>The picture as an SVG file that carries its font.</summary>
    public static string Svg(FigureSheet sheet, string title)
    {
        string svg = Inline(sheet, title, "f");
        int start = svg.IndexOf('>', StringComparison.Ordinal) + 1;
        return "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n" + svg.Insert(start, $"<style>{FontFace}</style>") + "\n";
    }

    /// <summary>The CSS rules that bring the figures' font.</summary>
    public static string FontFace { get; } = Face("TestbedSans-Regular.ttf", "normal") + Face("TestbedSans-Bold.ttf", "bold");

    private static string Face(string file, string weight) =>
        $"@font-face{{font-family:\"{ShippedFont.Family}\";font-weight:{weight};src:url(data:font/ttf;base64,{Convert.ToBase64String(Assets.Bytes(file))})}}";

    /// <summary>The picture as an svg element to stand inside a page that has the rules <see cref="FontFace"/>.</summary>
    /// <param name="sheet">The figure.</param>
    /// <param name="title">What a screen reader says.</param>
    /// <param name="id">Unique in the page: the element's own ids begin with it.</param>
    public static string Inline(FigureSheet sheet, string title, string id)
    {
        using var stream = new MemoryStream();
        using (SKCanvas canvas = SKSvgCanvas.Create(new SKRect(0, 0, sheet.PrintWidth, sheet.PrintHeight), stream))
            sheet.Draw(canvas);
        // Skia writes labels with what is no character in XML as they are.
        string svg = Printable.Lines(Encoding.UTF8.GetString(stream.ToArray()).Replace('\t', ' '));
        svg = svg[svg.IndexOf("<svg", StringComparison.Ordinal)..].Trim();
        svg = Tag().Replace(svg, tag => LongNumber().Replace(tag.Value, Shorter).Replace(", \"", "\"", StringComparison.Ordinal));
        // Skia counts its ids over the life of the process: count anew, by first use.
        var ids = new Dictionary<string, string>();
        svg = Reference().Replace(svg, m =>
        {
            if (!ids.TryGetValue(m.Groups[2].Value, out string? own))
                ids[m.Groups[2].Value] = own = $"{id}-{ids.Count}";
            return m.Groups[1].Value + own;
        });
        string size = string.Create(CultureInfo.InvariantCulture,
            $"<svg xmlns=\"http://www.w3.org/2000/svg\" xmlns:xlink=\"http://www.w3.org/1999/xlink\" width=\"{sheet.PrintWidth}pt\" height=\"{sheet.PrintHeight}pt\" viewBox=\"0 0 {sheet.PrintWidth} {sheet.PrintHeight}\" role=\"img\" aria-label=\"{System.Net.WebUtility.HtmlEncode(Printable.Of(title))}\">");
        return size + svg[(svg.IndexOf('>', StringComparison.Ordinal) + 1)..];
    }

    private static string Shorter(Match number) =>
        Math.Round(double.Parse(number.Value, CultureInfo.InvariantCulture), 2).ToString(CultureInfo.InvariantCulture);

    // Numbers between the tags are labels that people read: they stay as they are.
    [GeneratedRegex("<[^>]*>")]
    private static partial Regex Tag();

    // Skia writes six digits; a hundredth of a point is finer than any printer. Base64 has no decimal point.
    [GeneratedRegex(@"-?\d+\.\d{3,}(e-?\d+)?")]
    private static partial Regex LongNumber();

    [GeneratedRegex("""(\bid="|url\(#|href="#)([A-Za-z_]\w*)""")]
    private static partial Regex Reference();
}
