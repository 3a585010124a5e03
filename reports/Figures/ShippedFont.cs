using ScottPlot;
using SkiaSharp;

namespace Testbed.Reports.Figures;

/// <summary>
/// The font that is shipped inside the assembly. Figures use no other: a host without fonts would draw no text and say
/// nothing, and a host with others would draw other figures.
/// </summary>
internal sealed class ShippedFont : IFontResolver
{
    public const string Family = "Testbed Sans";

    public static readonly SKTypeface Regular = Load("TestbedSans-Regular.ttf");
    public static readonly SKTypeface Bold = Load("TestbedSans-Bold.ttf");

    private static readonly Lazy<ShippedFont> s_registered = new(() =>
    {
        var font = new ShippedFont();
        Fonts.FontResolvers.Insert(0, font);
        Fonts.Default = Family;
        return font;
    });

    private ShippedFont() { }

    /// <summary>Makes it ScottPlot's default; the first call counts.</summary>
    public static void Register() => _ = s_registered.Value;

    public SKTypeface? CreateTypeface(string fontName, FontWeight weight, FontSlant slant, FontSpacing spacing) =>
        CreateTypeface(fontName, weight >= FontWeight.SemiBold, slant != FontSlant.Upright);

    public SKTypeface? CreateTypeface(string fontName, bool bold, bool italic) =>
        fontName != Family ? null : bold ? Bold : Regular;

    private static SKTypeface Load(string file)
    {
        using var data = SKData.CreateCopy(Assets.Bytes(file));
        return SKTypeface.FromData(data) ?? throw new InvalidOperationException($"{file}: not a font that Skia can read");
    }
}
