using ScottPlot;

namespace Testbed.Reports.Figures;

/// <summary>Lines of a plot, thinned to what print can show.</summary>
internal static class Curve
{
    // Points of 1/72 inch: a tenth of the lines' width.
    private const double Tolerance = 0.13;

    /// <summary>Adds a line through all points, without those that it would pass closer than can be seen (Douglas and
    /// Peucker, 1973). Dashes become outlines in PDF: every point that is left out saves several there.</summary>
    /// <param name="plot">Where to.</param>
    /// <param name="points">In the plot's units, x not decreasing.</param>
    /// <param name="style">Its look.</param>
    /// <param name="left">Where the axis begins: what lies before is not drawn.</param>
    /// <param name="unitX">What one point of print is along x, in the plot's units.</param>
    /// <param name="unitY">And along y.</param>
    public static void Add(Plot plot, IReadOnlyList<Coordinates> points, SeriesStyle style, double left, double unitX, double unitY)
    {
        List<Coordinates> shown = [.. Simplify(From(left, points), unitX, unitY)];
        // Skia hands a dashed line of two points to SVG without its dashes.
        if (shown.Count == 2)
            shown.Insert(1, new Coordinates((shown[0].X + shown[1].X) / 2, (shown[0].Y + shown[1].Y) / 2));
        var line = plot.Add.ScatterLine(shown);
        (line.LineColor, line.LinePattern, line.LineWidth) = (style.Color, style.Pattern, 1.3f);
    }

    /// <summary>The corners of the stairs through the points: first along, then up.</summary>
    public static IEnumerable<Coordinates> Stairs(IEnumerable<Coordinates> points)
    {
        Coordinates? last = null;
        foreach (Coordinates point in points)
        {
            if (last is { } before)
                yield return new Coordinates(point.X, before.Y);
            yield return point;
            last = point;
        }
    }

    private static List<Coordinates> From(double left, IReadOnlyList<Coordinates> points)
    {
        int first = 0;
        while (first < points.Count - 1 && points[first + 1].X < left)
            first++;
        List<Coordinates> shown = [.. points.Skip(first)];
        if (shown.Count > 1 && shown[0].X < left)
        {
            double share = (left - shown[0].X) / (shown[1].X - shown[0].X);
            shown[0] = new Coordinates(left, shown[0].Y + (share * (shown[1].Y - shown[0].Y)));
        }
        return shown;
    }

    /// <summary>The points without those that lie on the line through the others.</summary>
    public static Coordinates[] Simplify(IReadOnlyList<Coordinates> points, double unitX, double unitY)
    {
        if (points.Count < 3)
            return [.. points];
        var keep = new bool[points.Count];
        keep[0] = keep[^1] = true;
        var open = new Stack<(int From, int To)>([(0, points.Count - 1)]);
        while (open.TryPop(out (int From, int To) part))
        {
            (int farthest, double distance) = (-1, Tolerance);
            for (int i = part.From + 1; i < part.To; i++)
            {
                double d = Distance(points[i], points[part.From], points[part.To], unitX, unitY);
                if (d > distance)
                    (farthest, distance) = (i, d);
            }
            if (farthest < 0)
                continue;
            keep[farthest] = true;
            open.Push((part.From, farthest));
            open.Push((farthest, part.To));
        }
        return [.. points.Where((_, i) => keep[i])];
    }

    private static double Distance(Coordinates p, Coordinates a, Coordinates b, double unitX, double unitY)
    {
        double dx = (b.X - a.X) / unitX, dy = (b.Y - a.Y) / unitY, px = (p.X - a.X) / unitX, py = (p.Y - a.Y) / unitY;
        double length = Math.Sqrt((dx * dx) + (dy * dy));
        return length < 1e-9 ? Math.Sqrt((px * px) + (py * py)) : Math.Abs((dx * py) - (dy * px)) / length;
    }
}
