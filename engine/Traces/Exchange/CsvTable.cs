using System.Globalization;
using System.Text;
using Testbed.Core;

namespace Testbed.Traces.Exchange;

/// <summary>The faults as comma-separated values with a line of names: the columns that the reader in FORMAT.md prints.</summary>
internal static class CsvTable
{
    private static readonly string s_head = string.Join(',', FaultTable.Names);

    public static void Write(Trace trace, Stream stream)
    {
        using var writer = new StreamWriter(stream, new UTF8Encoding(false), 1 << 16, leaveOpen: true) { NewLine = "\n" };
        writer.WriteLine(s_head);
        foreach (ref readonly FaultRecord f in trace.Faults.AsSpan())
        {
            writer.WriteLine(string.Create(CultureInfo.InvariantCulture,
                $"{f.Space},{f.Thread},{f.Page},{FaultTable.Word(f.Access)},{FaultTable.Word(f.Cause)},{f.Woken.Nanoseconds},{f.Read.Nanoseconds},{f.Requested.Nanoseconds},{f.Arrived.Nanoseconds},{f.Resolved.Nanoseconds}"));
        }
    }

    public static Trace Read(Stream stream, string name)
    {
        var lines = new NumberedLines(stream, name);
        var faults = new List<FaultRecord>();
        bool first = true;
        foreach (string line in lines.All())
        {
            if (!first)
                faults.Add(Parse(line, lines));
            else if (line.TrimStart('\uFEFF') != s_head)
                throw lines.Bad(s_head);
            first = false;
        }
        return first ? throw new BadInputException($"{name}: empty; expected a first line {s_head}") : FaultTable.ToTrace(name, [.. faults], new Dictionary<string, string>());
    }

    private static FaultRecord Parse(string line, NumberedLines lines)
    {
        Span<Range> cells = stackalloc Range[FaultTable.Names.Length + 1];
        ReadOnlySpan<char> text = line;
        if (text.Split(cells, ',') != FaultTable.Names.Length)
            throw lines.Bad($"{FaultTable.Names.Length} values: {s_head}");
        ReadOnlySpan<char> address = text[cells[2]];
        if (!address.StartsWith("0x") || !ulong.TryParse(address[2..], NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out ulong at))
            throw lines.Bad("an address such as 0x7f1200003000");
        Span<long> numbers = stackalloc long[7];
        ReadOnlySpan<int> places = [0, 1, 5, 6, 7, 8, 9];
        for (int i = 0; i < places.Length; i++)
        {
            if (!long.TryParse(text[cells[places[i]]], NumberStyles.None, CultureInfo.InvariantCulture, out numbers[i]) || numbers[i] > (i < 2 ? 1 << 20 : FaultCodec.MaxTime))
                throw lines.Bad($"a whole number for {FaultTable.Names[places[i]]}");
        }
        Access access = FaultTable.AccessOf(text[cells[3]]) ?? throw lines.Bad("read or write");
        Cause cause = FaultTable.CauseOf(text[cells[4]]) ?? throw lines.Bad("demand, prefetch, background or zero");
        return new FaultRecord((int)numbers[0], (int)numbers[1], PageNumber.Of(at), access, cause,
            new(numbers[2]), new(numbers[3]), new(numbers[4]), new(numbers[5]), new(numbers[6]));
    }
}
