using ScottPlot;
using SkiaSharp;

namespace Testbed.Reports.Figures;

/// <summary>A sheet of equal panels in rows and columns, a legend above, shared axis labels outside.</summary>
internal sealed class PanelGrid
{
    private readonly Plot[,] _plots;
    private readonly float _left, _top, _panelWidth, _panelHeight, _gapX, _gapY;

    /// <param name="style">The venue's style.</param>
    /// <param name="legend">The entries above the panels.</param>
    /// <param name="columnTitles">One column of panels each.</param>
    /// <param name="rowTitles">One row of panels each; a single row may be nameless.</param>
    /// <param name="panelHeight">Of the data area.</param>
    /// <param name="left">Room for tick labels and titles at the left.</param>
    /// <param name="gapX">Between columns.</param>
    /// <param name="gapY">Between rows.</param>
    public PanelGrid(FigureStyle style, IReadOnlyList<LegendEntry> legend, IReadOnlyList<string> columnTitles, IReadOnlyList<string> rowTitles,
        float panelHeight, float left = 34, float gapX = 22, float gapY = 14)
    {
        (int rows, int columns) = (rowTitles.Count, columnTitles.Count);
        // A single panel over both columns is mostly air.
        Sheet = new FigureSheet(style, column: columns == 1);
        const float Right = 12, Bottom = 28;
        _top = (legend.Count > 0 ? Sheet.Legend(legend, 3) + 4 : 2) + 12;
        (_left, _gapX, _gapY, _panelHeight) = (left, gapX, gapY, panelHeight);
        _panelWidth = (Sheet.Width - left - Right - (gapX * (columns - 1))) / columns;
        Sheet.Height = MathF.Ceiling(_top + (rows * panelHeight) + (gapY * (rows - 1)) + Bottom);
        _plots = new Plot[rows, columns];
        for (int r = 0; r < rows; r++)
        {
            for (int c = 0; c < columns; c++)
                _plots[r, c] = Sheet.AddPanel(X(c), Y(r), _panelWidth, panelHeight);
        }
        for (int c = 0; c < columns; c++)
            Sheet.Text(columnTitles[c], X(c) + (_panelWidth / 2), _top - 4, SKTextAlign.Center, bold: true);
        for (int r = 0; r < rows; r++)
            Sheet.Text(rowTitles[r], 9, Y(r) + (panelHeight / 2), SKTextAlign.Center, bold: true, turn: -90);
    }

    public FigureSheet Sheet { get; }

    /// <summary>The size of a panel's data area along x, in points.</summary>
    public float PanelWidth => _panelWidth;

    /// <summary>And along y.</summary>
    public float PanelHeight => _panelHeight;

    /// <summary>How many tick labels of so many characters fit beneath a panel.</summary>
    public int Labels(int characters = 6) => Math.Max(2, (int)(_panelWidth / ((characters + 2) * 4.2f)));

    public Plot this[int row, int column] => _plots[row, column];

    /// <summary>One label for the horizontal axes, below all panels.</summary>
    public void XLabel(string text) =>
        Sheet.Text(text, (X(0) + X(_plots.GetLength(1) - 1) + _panelWidth) / 2, Sheet.Height - 4, SKTextAlign.Center);

    /// <summary>One label for the vertical axes, at the left.</summary>
    public void YLabel(string text) =>
        Sheet.Text(text, 9, (_top + Sheet.Height - 28) / 2, SKTextAlign.Center, turn: -90);

    /// <summary>A label for the vertical axis of one row.</summary>
    public void YLabel(string text, int row) =>
        Sheet.Text(text, 9, Y(row) + (_panelHeight / 2), SKTextAlign.Center, turn: -90);

    /// <summary>A heading of one panel.</summary>
    public void Title(int row, int column, string text) =>
        Sheet.Text(text, X(column) + (_panelWidth / 2), Y(row) - 4, SKTextAlign.Center, bold: true);

    /// <summary>Takes a panel out, where there is nothing to show: the last row may not be full.</summary>
    public void Remove(int row, int column) => Sheet.RemovePanel(_plots[row, column]);

    /// <summary>Hides the tick labels of all but the leftmost panels, where the axis is shared.</summary>
    public void ShareY()
    {
        for (int r = 0; r < _plots.GetLength(0); r++)
        {
            for (int c = 1; c < _plots.GetLength(1); c++)
                _plots[r, c].Axes.Left.TickLabelStyle.IsVisible = false;
        }
    }

    private float X(int column) => _left + (column * (_panelWidth + _gapX));

    private float Y(int row) => _top + (row * (_panelHeight + _gapY));
}
