using Testbed.Core;

namespace Testbed.Cli;

/// <summary>
/// A configuration file of CRIU's: an option a line by its long name without dashes, then perhaps its value; a value
/// with spaces stands in quotes, \" is a quote within, and # begins a comment, within quotes too.
/// </summary>
internal static class CriuConfigFile
{
    /// <summary>One option of the file.</summary>
    internal readonly record struct Entry(int Line, string Name, string? Value);

    /// <summary>Where CRIU looks, unless it is told not to, in this order.</summary>
    public static IEnumerable<string> Defaults
    {
        get
        {
            yield return "/etc/criu/default.conf";
            if (Environment.GetEnvironmentVariable("HOME") is { Length: > 0 } home)
                yield return Path.Combine(home, ".criu", "default.conf");
        }
    }

    /// <summary>Reads a file.</summary>
    /// <returns>Its options; null when it cannot be read, which CRIU takes for no options.</returns>
    /// <exception cref="BadInputException">A line is no option.</exception>
    public static List<Entry>? Read(string path)
    {
        string[] lines;
        try
        {
            lines = File.ReadAllLines(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            return null;
        }
        var entries = new List<Entry>();
        for (int i = 0; i < lines.Length; i++)
        {
            string line = lines[i].Trim();
            if (line.Length > 0 && line[0] != '#')
                entries.Add(Parse(line, i + 1, path));
        }
        return entries;
    }

    private static Entry Parse(string line, int number, string path)
    {
        int end = line.IndexOfAny([' ', '\t']);
        if (end < 0)
            return new Entry(number, line, null);
        string name = line[..end], rest = line[end..].TrimStart();
        if (rest[0] == '#')
            return new Entry(number, name, null);
        string value, after;
        if (rest[0] == '"')
        {
            int close = ClosingQuote(rest);
            if (close < 0)
                throw new BadInputException($"{path}: line {number}: a quote without its second one; expected OPTION \"VALUE\"");
            value = Uncommented(rest[1..close].Replace("\\\"", "\"", StringComparison.Ordinal));
            after = rest[(close + 1)..].TrimStart();
        }
        else
        {
            const StringSplitOptions Trimmed = StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries;
            string[] words = Uncommented(rest).Split((char[])[' ', '\t'], 2, Trimmed);
            value = words[0].Replace("\\\"", "\"", StringComparison.Ordinal);
            after = words.Length > 1 ? words[1] : "";
        }
        if (after.Length > 0 && after[0] != '#')
        {
            throw new BadInputException(
                $"{path}: line {number}: \"{after}\" behind the value; expected OPTION VALUE, the value in quotes if it has spaces");
        }
        return new Entry(number, name, value);
    }

    private static int ClosingQuote(string text)
    {
        int at = text.IndexOf('"', 1);
        while (at > 1 && text[at - 1] == '\\')
            at = text.IndexOf('"', at + 1);
        return at;
    }

    private static string Uncommented(string text)
    {
        int comment = text.IndexOf('#');
        return comment < 0 ? text : text[..comment];
    }
}
