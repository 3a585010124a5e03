using Testbed.Core;

namespace Testbed.Traces.Exchange;

/// <summary>The columns of <see cref="FaultTable"/> as arrays of one length, between faults and the libraries that store tables.</summary>
internal sealed class FaultColumns(int count)
{
    public int[] Space { get; } = new int[count];

    public int[] Thread { get; } = new int[count];

    public ulong[] Address { get; } = new ulong[count];

    public string[] Access { get; } = new string[count];

    public string[] Cause { get; } = new string[count];

    /// <summary>Woken, read, requested, arrived, resolved: in nanoseconds.</summary>
    public long[][] Times { get; } = [new long[count], new long[count], new long[count], new long[count], new long[count]];

    public int Count => count;

    public static FaultColumns Of(FaultRecord[] faults)
    {
        var columns = new FaultColumns(faults.Length);
        for (int i = 0; i < faults.Length; i++)
        {
            FaultRecord f = faults[i];
            (columns.Space[i], columns.Thread[i], columns.Address[i]) = (f.Space, f.Thread, f.Page.Address);
            (columns.Access[i], columns.Cause[i]) = (FaultTable.Word(f.Access), FaultTable.Word(f.Cause));
            Instant[] times = [f.Woken, f.Read, f.Requested, f.Arrived, f.Resolved];
            for (int t = 0; t < times.Length; t++)
                columns.Times[t][i] = times[t].Nanoseconds;
        }
        return columns;
    }

    /// <exception cref="BadInputException">A word that is no access or cause, by its row.</exception>
    public void AppendTo(List<FaultRecord> faults, string name)
    {
        for (int i = 0; i < count; i++)
        {
            Access access = FaultTable.AccessOf(Access[i]) ?? throw Bad("access", Access[i], "read or write");
            Cause cause = FaultTable.CauseOf(Cause[i]) ?? throw Bad("cause", Cause[i], "demand, prefetch, background or zero");
            faults.Add(new FaultRecord(Space[i], Thread[i], PageNumber.Of(Address[i]), access, cause,
                new(Times[0][i]), new(Times[1][i]), new(Times[2][i]), new(Times[3][i]), new(Times[4][i])));
        }

        BadInputException Bad(string column, string value, string expected) =>
            new($"{name}: row {faults.Count}: {column} is \"{Printable.Of(value)}\"; expected {expected}");
    }
}
