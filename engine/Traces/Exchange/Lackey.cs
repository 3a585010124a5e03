using System.Globalization;
using Testbed.Core;

namespace Testbed.Traces.Exchange;

/// <summary>
/// Every access of a program, as Valgrind's lackey prints it with --trace-mem=yes. The first touch of each data page is kept. There are
/// no times in it: an instruction is taken for a nanosecond, so think times are counts of instructions.
/// </summary>
internal static class Lackey
{
    private const string Form = "\"I  ADDRESS,SIZE\", \" L ADDRESS,SIZE\", \" S ADDRESS,SIZE\" or \" M ADDRESS,SIZE\"";

    public static Trace Read(Stream stream, string name)
    {
        var lines = new NumberedLines(stream, name);
        var builder = new TraceBuilder(name, "valgrind lackey");
        var seen = new HashSet<ulong>();
        long instructions = 0;
        int thread = builder.Thread(0, "");
        foreach (string line in lines.All())
        {
            // What Valgrind and the program themselves say.
            if (line.Length < 3 || line.StartsWith("==", StringComparison.Ordinal) || line.StartsWith("--", StringComparison.Ordinal))
                continue;
            if (line[2] != ' ' || !(line[0] == 'I' || (line[0] == ' ' && line[1] is 'L' or 'S' or 'M')))
                throw lines.Bad(Form);
            if (line[0] == 'I')
            {
                instructions++;
                continue;
            }
            (ulong address, ulong size) = Access(line, lines);
            for (ulong page = address >> PageNumber.Shift; page <= (address + size - 1) >> PageNumber.Shift; page++)
            {
                // A modification reads first, but a page must be there to be written.
                if (seen.Add(page))
                    builder.Touch(thread, new PageNumber(page), line[1] == 'L' ? Core.Access.Read : Core.Access.Write, new Instant(instructions));
            }
        }
        builder.Properties["instructions"] = instructions.ToString(CultureInfo.InvariantCulture);
        return builder.Build($"lines such as {Form}");
    }

    private static (ulong Address, ulong Size) Access(string line, NumberedLines lines)
    {
        ReadOnlySpan<char> rest = line.AsSpan(3).Trim();
        int comma = rest.IndexOf(',');
        if (comma > 0 && ulong.TryParse(rest[..comma], NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out ulong address)
            && ulong.TryParse(rest[(comma + 1)..], NumberStyles.None, CultureInfo.InvariantCulture, out ulong size)
            && size is > 0 and <= 1 << 20 && address <= ulong.MaxValue - size)
            return (address, size);
        throw lines.Bad(Form);
    }
}
