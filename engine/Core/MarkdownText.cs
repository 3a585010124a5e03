using System.Buffers;

namespace Testbed.Core;

/// <summary>Text from outside as a part of a Markdown document (GitHub's), where it must be nothing but text.</summary>
public static class MarkdownText
{
    private static readonly SearchValues<char> s_plain =
        SearchValues.Create("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,:;()/=+-%'\"?\u00b5\u00d7\u2013");

    /// <summary>
    /// The text as it is when it holds nothing that Markdown could take for something else; else as code, in which links,
    /// pictures, HTML, mentions and emphasis mean nothing. Good for a cell of a table, too.
    /// </summary>
    public static string Of(string text)
    {
        string shown = Printable.Of(text);
        bool plain = shown.AsSpan().IndexOfAnyExcept(s_plain) < 0 && !shown.Contains("://", StringComparison.Ordinal)
            && !shown.Contains("www.", StringComparison.OrdinalIgnoreCase);
        if (plain)
            return shown;
        // One backtick more than any run within: nothing within can end it.
        int longest = 0;
        for (int i = 0, run = 0; i < shown.Length; i++)
            longest = Math.Max(longest, run = shown[i] == '`' ? run + 1 : 0);
        string fence = new('`', longest + 1);
        return $"{fence} {shown.Replace("|", "\\|", StringComparison.Ordinal)} {fence}";
    }
}
