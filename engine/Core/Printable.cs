using System.Globalization;
using System.Text;

namespace Testbed.Core;

/// <summary>
/// Text from outside (names of processes, threads, files, workloads and certificates, lines of other programs) made safe
/// for a terminal and a log. Such text can hold escape sequences that repaint the screen, line breaks that forge a log
/// line, or marks that reverse the direction of what follows. Every sink of that kind uses this one function.
/// </summary>
public static class Printable
{
    /// <summary>
    /// The text with each character that steers instead of showing written as <c>\u{1b}</c>: control characters, line
    /// and paragraph separators, invisible format characters (bidirectional marks among them), halves of surrogate pairs,
    /// and code points that are no characters. Tabs and line feeds are control characters too: what comes back is one line. Text that has none of them
    /// comes back as it is, without a copy.
    /// </summary>
    public static string Of(string text)
    {
        int good = 0;
        while (good < text.Length && IsPlain(text[good]))
            good++;
        if (good == text.Length)
            return text;
        var shown = new StringBuilder(text.Length + 16).Append(text, 0, good);
        for (int at = good; at < text.Length;)
        {
            if (!Rune.TryGetRuneAt(text, at, out Rune rune))
            {
                Escape(shown, text[at++]);
                continue;
            }
            if (Steers(Rune.GetUnicodeCategory(rune)) || IsNone(rune.Value))
                Escape(shown, rune.Value);
            else
                shown.Append(text, at, rune.Utf16SequenceLength);
            at += rune.Utf16SequenceLength;
        }
        return shown.ToString();
    }

    /// <summary>
    /// The same for text of several lines that are ours: line feeds stay, and each line is made safe by itself. What else can
    /// end a line, a lone carriage return among it, is shown.
    /// </summary>
    public static string Lines(string text) => text.Contains('\n', StringComparison.Ordinal) ? string.Join('\n', text.Split('\n').Select(Of)) : Of(text);

    // Surrogates are looked at in pairs; everything below the first C1 control but ASCII's controls shows.
    private static bool IsPlain(char c) => c is >= ' ' and < '\u007f' || (c is > '\u007f' and < '\ufffe' && !Steers(char.GetUnicodeCategory(c)));

    private static bool Steers(UnicodeCategory category) => category is UnicodeCategory.Control or UnicodeCategory.Format
        or UnicodeCategory.LineSeparator or UnicodeCategory.ParagraphSeparator or UnicodeCategory.Surrogate;

    // U+FFFE, U+FFFF and their kin: no characters, and forbidden in XML.
    private static bool IsNone(int value) => (value & 0xfffe) == 0xfffe;

    private static void Escape(StringBuilder to, int value) => to.Append(CultureInfo.InvariantCulture, $"\\u{{{value:x}}}");
}
