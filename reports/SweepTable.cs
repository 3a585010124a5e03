using System.Globalization;
using System.Text;
using Parquet;
using Parquet.Schema;
using Testbed.Core;
using Testbed.Reports.Statistics;

namespace Testbed.Reports;

/// <summary>One replay of a sweep: what it was, and its numbers.</summary>
/// <param name="Key">Tells it from every other one, its inputs and the program included.</param>
/// <param name="Scenario">The scenario's name.</param>
/// <param name="Workload">The workload.</param>
/// <param name="Link">The link, as typed.</param>
/// <param name="Policy">The policy with its options, as typed.</param>
/// <param name="Seed">The seed.</param>
/// <param name="Hash">The hash of all commands.</param>
/// <param name="Values">One number for each of <see cref="SweepTable.Columns"/>; null where there is none.</param>
public sealed record SweepRow(
    string Key, string Scenario, string Workload, string Link, string Policy, ulong Seed, ulong Hash, IReadOnlyList<double?> Values)
{
    private const char Separator = '\t';

    /// <summary>The row of a result.</summary>
    public static SweepRow Of(string key, string scenario, ulong seed, RunResult run)
    {
        Summary summary = Summary.Of([run])[0];
        // A tab or a line end within a name would end a field or a line of the journal.
        return new SweepRow(key, Printable.Of(scenario), Printable.Of(run.Workload), Printable.Of(run.Link), Printable.Of(run.Policy), seed, run.CommandHash, [.. Column.All.Select(c => c.Value(summary))]);
    }

    /// <summary>A line of the journal, without its end: the last field tells that it is whole.</summary>
    public string ToLine()
    {
        string line = string.Join(Separator,
        [
            Key, Scenario, Workload, Link, Policy, Seed.ToString(CultureInfo.InvariantCulture), Hash.ToString("x16", CultureInfo.InvariantCulture),
            .. Values.Select(SweepTable.Number),
        ]);
        return line + Separator + Check(line);
    }

    /// <summary>The row of a line; null when the line was cut, or is of another version.</summary>
    public static SweepRow? FromLine(string line)
    {
        int last = line.LastIndexOf(Separator);
        if (last < 0 || line[(last + 1)..] != Check(line[..last]))
            return null;
        string[] f = line[..last].Split(Separator);
        if (f.Length != 7 + SweepTable.Columns.Count)
            return null;
        return new SweepRow(
            f[0], f[1], f[2], f[3], f[4], ulong.Parse(f[5], CultureInfo.InvariantCulture), ulong.Parse(f[6], NumberStyles.HexNumber, CultureInfo.InvariantCulture),
            [.. f[7..].Select(v => v.Length == 0 ? (double?)null : double.Parse(v, CultureInfo.InvariantCulture))]);
    }

    private static string Check(string line)
    {
        // FNV-1a: enough to tell a torn line.
        uint hash = 2166136261;
        foreach (char c in line)
            hash = (hash ^ c) * 16777619;
        return hash.ToString("x8", CultureInfo.InvariantCulture);
    }
}

/// <summary>The rows of a sweep as files: one line each in CSV, one row each in Parquet, with the same columns.</summary>
public static class SweepTable
{
    /// <summary>The names of the numbers, with their units.</summary>
    public static IReadOnlyList<string> Columns { get; } = [.. Column.All.Select(c => c.Key)];

    /// <summary>The whole CSV file (RFC 4180).</summary>
    public static string Csv(IReadOnlyList<SweepRow> rows)
    {
        var text = new StringBuilder("scenario,workload,link,policy,seed,").AppendJoin(',', Columns).Append(",command_hash\n");
        foreach (SweepRow row in rows)
        {
            text.AppendJoin(',', new[] { row.Scenario, row.Workload, row.Link, row.Policy }.Select(CsvCell.Of)).Append(',')
                .Append(row.Seed).Append(',').AppendJoin(',', row.Values.Select(Number)).Append(',')
                .Append(CultureInfo.InvariantCulture, $"{row.Hash:x16}").Append('\n');
        }
        return text.ToString();
    }

    /// <summary>The whole Parquet file, in one row group.</summary>
    public static async Task WriteParquetAsync(IReadOnlyList<SweepRow> rows, Stream stream)
    {
        (string Name, Func<SweepRow, string> Value)[] texts =
            [("scenario", r => r.Scenario), ("workload", r => r.Workload), ("link", r => r.Link), ("policy", r => r.Policy)];
        DataField[] names = [.. texts.Select(t => new DataField<string>(t.Name, nullable: false))];
        var seed = new DataField<long>("seed");
        DataField[] numbers = [.. Columns.Select(c => new DataField<double?>(c))];
        var hash = new DataField<string>("command_hash", nullable: false);
        await using ParquetWriter writer = await ParquetWriter.CreateAsync(new ParquetSchema([.. names, seed, .. numbers, hash]), stream);
        using ParquetRowGroupWriter group = writer.CreateRowGroup();
        for (int i = 0; i < texts.Length; i++)
            await group.WriteAsync(names[i], rows.Select(texts[i].Value).ToList());
        await group.WriteAsync<long>(seed, rows.Select(r => unchecked((long)r.Seed)).ToArray());
        for (int i = 0; i < numbers.Length; i++)
        {
            double?[] values = [.. rows.Select(r => r.Values[i])];
            await group.WriteAsync<double>(numbers[i], values);
        }
        await group.WriteAsync(hash, rows.Select(r => r.Hash.ToString("x16", CultureInfo.InvariantCulture)).ToList());
    }

    internal static string Number(double? value) => value?.ToString("R", CultureInfo.InvariantCulture) ?? "";
}
