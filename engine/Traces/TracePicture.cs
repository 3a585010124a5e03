using System.Text;
using Testbed.Core;

namespace Testbed.Traces;

/// <summary>
/// Address over time, drawn with characters: each braille character holds two by four dots. Stretches of memory that
/// nobody touched are left out, for address spaces are mostly empty.
/// </summary>
public static class TracePicture
{
    private const int DotsX = 2;
    private const int DotsY = 4;
    private const int LabelWidth = 15;

    /// <summary>Draws the faults of the target's own address space.</summary>
    /// <param name="trace">The trace.</param>
    /// <param name="width">Columns of the plot; 15 more stand on the left, for addresses.</param>
    /// <param name="height">Rows of the plot; 3 more stand below, for times.</param>
    /// <exception cref="ArgumentOutOfRangeException">Less than 20 columns or 4 rows.</exception>
    public static string Render(Trace trace, int width = 72, int height = 20)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(width, 20);
        ArgumentOutOfRangeException.ThrowIfLessThan(height, 4);
        List<Stretch> stretches = Touched(trace);
        if (stretches.Count == 0)
            return "no faults to draw\n";
        long pages = stretches[^1].Offset + stretches[^1].Range.Count;
        long end = Math.Max(trace.Duration.Nanoseconds, trace.Faults.Max(f => f.Woken.Nanoseconds)) + 1;
        byte[,] cells = Dots(trace, stretches, pages, end, width, height);
        string[] labels = Labels(trace.Image, stretches, pages, height);

        var text = new StringBuilder();
        text.Append($"address; only touched stretches, {TraceSummary.Size(pages * PageNumber.Size)} in {stretches.Count}\n");
        for (int row = 0; row < height; row++)
        {
            text.Append(labels[row].PadRight(LabelWidth)).Append(labels[row].Length > 0 ? '┤' : '│');
            for (int column = 0; column < width; column++)
                text.Append(cells[row, column] == 0 ? ' ' : (char)(0x2800 + cells[row, column]));
            TrimEnd(text).Append('\n');
        }
        AppendTimeAxis(text, new Duration(end - 1), width);
        return text.ToString();
    }

    /// <summary>Pages close to each other, and how many pages lie in the stretches before.</summary>
    private readonly record struct Stretch(PageRange Range, long Offset);

    private static List<Stretch> Touched(Trace trace)
    {
        ulong[] pages = [.. trace.Faults.Where(f => f.Space == 0).Select(f => f.Page.Value).Distinct().Order()];
        var stretches = new List<Stretch>();
        // A gap is worth a row or so of the picture, or it is left out.
        ulong widest = (ulong)Math.Max(16, pages.Length / 20);
        long offset = 0;
        for (int i = 0; i < pages.Length;)
        {
            int first = i++;
            while (i < pages.Length && pages[i] - pages[i - 1] <= widest)
                i++;
            var range = PageRange.Between(new PageNumber(pages[first]), new PageNumber(pages[i - 1]) + 1);
            stretches.Add(new Stretch(range, offset));
            offset += range.Count;
        }
        return stretches;
    }

    private static byte[,] Dots(Trace trace, List<Stretch> stretches, long pages, long end, int width, int height)
    {
        byte[,] cells = new byte[height, width];
        foreach (ref readonly FaultRecord fault in trace.Faults.AsSpan())
        {
            if (fault.Space != 0)
                continue;
            int x = (int)((double)fault.Woken.Nanoseconds / end * width * DotsX);
            int y = RowFromBelow(OffsetOf(stretches, fault.Page), pages, height * DotsY);
            // Time can round up to the edge.
            x = Math.Min(x, width * DotsX - 1);
            int fromTop = height * DotsY - 1 - y;
            cells[fromTop / DotsY, x / DotsX] |= Bit(x % DotsX, fromTop % DotsY);
        }
        return cells;
    }

    private static long OffsetOf(List<Stretch> stretches, PageNumber page)
    {
        int low = 0;
        int high = stretches.Count - 1;
        while (low < high)
        {
            int middle = (low + high + 1) / 2;
            if (stretches[middle].Range.Start <= page)
                low = middle;
            else
                high = middle - 1;
        }
        return stretches[low].Offset + (page - stretches[low].Range.Start);
    }

    private static int RowFromBelow(long offset, long pages, int rows) => (int)Math.Min(rows - 1, (double)offset / pages * rows);

    /// <summary>Unicode's numbering of braille dots: 1 2 3 7 down the left, 4 5 6 8 down the right.</summary>
    private static byte Bit(int x, int y) => (byte)(1 << (y == 3 ? 6 + x : 3 * x + y));

    /// <summary>Per row, from the top: where a stretch begins, its address; above it, the name of its area where there is room.</summary>
    private static string[] Labels(MemoryImage image, List<Stretch> stretches, long pages, int height)
    {
        string[] labels = new string[height];
        Array.Fill(labels, "");
        foreach (Stretch stretch in stretches.OrderByDescending(s => s.Range.Count))
        {
            int row = height - 1 - RowFromBelow(stretch.Offset, pages, height);
            int top = height - 1 - RowFromBelow(stretch.Offset + stretch.Range.Count - 1, pages, height);
            if (labels[row].Length > 0)
                continue;
            labels[row] = stretch.Range.Start.ToString();
            string name = AreaName(image, stretch.Range.Start);
            if (row - 1 > top && labels[row - 1].Length == 0)
                labels[row - 1] = name.Length < LabelWidth ? name : name[..(LabelWidth - 1)];
        }
        return labels;
    }

    private static string AreaName(MemoryImage image, PageNumber page) => Printable.Of(image.Areas.FirstOrDefault(a => a.Range.Contains(page)).Name ?? "");

    private static void AppendTimeAxis(StringBuilder text, Duration end, int width)
    {
        const int ticks = 4;
        int step = width / ticks;
        var axis = new StringBuilder(new string('─', width));
        var numbers = new StringBuilder(new string(' ', width + 12));
        for (int tick = 0; tick <= ticks; tick++)
        {
            // The last tick stands at the edge, whatever the division left over.
            int at = tick == ticks ? width - 1 : tick * step;
            axis[at] = '┬';
            string label = tick == 0 ? "0" : new Duration((long)((double)end.Nanoseconds * at / (width - 1))).ToString();
            int from = Math.Max(0, at - label.Length / 2);
            for (int i = 0; i < label.Length; i++)
                numbers[from + i] = label[i];
        }
        text.Append(' ', LabelWidth).Append('└').Append(axis).Append('\n');
        text.Append(' ', LabelWidth + 1).Append(numbers);
        TrimEnd(text).Append('\n');
        text.Append(' ', LabelWidth + 1).Append("time since resume\n");
    }

    private static StringBuilder TrimEnd(StringBuilder text)
    {
        while (text.Length > 0 && text[^1] == ' ')
            text.Length--;
        return text;
    }
}
