namespace Testbed.Core;

/// <summary>
/// A name as a cell of a CSV file (RFC 4180) that somebody opens in a spreadsheet. For names alone: a number is written as it is, for
/// a minus sign is a number's own.
/// </summary>
public static class CsvCell
{
    // OWASP, "CSV Injection": how a spreadsheet tells that a cell is a formula to run. Full-width forms count in some of them.
    private const string Begins = "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20";

    /// <summary>
    /// The cell. A name that a spreadsheet would run as a formula gets an apostrophe in front, which says there that a cell is
    /// text; characters that steer are shown as <see cref="Printable"/> does; quotes stand where the format needs them.
    /// </summary>
    public static string Of(string name)
    {
        string shown = Printable.Of(name);
        // Blanks before it do not keep a spreadsheet from it.
        if (name.AsSpan().TrimStart(' ') is { Length: > 0 } first && Begins.Contains(first[0], StringComparison.Ordinal))
            shown = "'" + shown;
        return shown.AsSpan().IndexOfAny(",;\"'") < 0 ? shown : $"\"{shown.Replace("\"", "\"\"", StringComparison.Ordinal)}\"";
    }
}
