using Parquet;
using Parquet.Schema;
using Testbed.Core;

namespace Testbed.Traces.Exchange;

/// <summary>The faults as an Apache Parquet file of one row group; header and end in its key-value metadata.</summary>
internal static class ParquetTable
{
    private static readonly DataField<int> s_space = new("space"), s_thread = new("thread");
    private static readonly DataField<ulong> s_address = new("address");
    private static readonly DataField s_access = new("access", typeof(string), isNullable: false), s_cause = new("cause", typeof(string), isNullable: false);
    private static readonly DataField<long>[] s_times = [.. FaultTable.Names[5..].Select(n => new DataField<long>(n))];
    private static readonly ParquetSchema s_schema = new([s_space, s_thread, s_address, s_access, s_cause, .. s_times]);

    public static void Write(Trace trace, Stream stream) => WriteAsync(trace, stream).GetAwaiter().GetResult();

    public static Trace Read(Stream stream, string name)
    {
        try
        {
            return ReadAsync(stream, name).GetAwaiter().GetResult();
        }
        catch (Exception e) when (e is not BadInputException)
        {
            // Whatever the library objects to in a damaged file, in whatever exception.
            throw new BadInputException($"{name}: cannot be read as Parquet: {e.Message.ReplaceLineEndings(" ")}", e);
        }
    }

    private static async Task WriteAsync(Trace trace, Stream stream)
    {
        FaultColumns columns = FaultColumns.Of(trace.Faults);
        await using ParquetWriter writer = await ParquetWriter.CreateAsync(s_schema, stream);
        writer.CustomMetadata = new Dictionary<string, string>(FaultTable.Metadata(trace));
        using ParquetRowGroupWriter group = writer.CreateRowGroup();
        await group.WriteAsync<int>(s_space, columns.Space);
        await group.WriteAsync<int>(s_thread, columns.Thread);
        await group.WriteAsync<ulong>(s_address, columns.Address);
        await group.WriteAsync(s_access, columns.Access);
        await group.WriteAsync(s_cause, columns.Cause);
        for (int t = 0; t < s_times.Length; t++)
            await group.WriteAsync<long>(s_times[t], columns.Times[t]);
    }

    private static async Task<Trace> ReadAsync(Stream stream, string name)
    {
        await using ParquetReader reader = await ParquetReader.CreateAsync(stream);
        var there = reader.Schema.GetDataFields().ToDictionary(f => f.Name);
        foreach (DataField field in s_schema.GetDataFields())
        {
            if (!there.TryGetValue(field.Name, out DataField? found) || found.ClrType != field.ClrType)
                throw new BadInputException($"{name}: column {field.Name}: {(found is null ? "missing" : $"of type {found.ClrType.Name}")}; expected {field.ClrType.Name}");
        }
        var faults = new List<FaultRecord>();
        for (int i = 0; i < reader.RowGroupCount; i++)
        {
            using ParquetRowGroupReader group = reader.OpenRowGroupReader(i);
            // A count may be a lie: no room is made for more than such a file can hold.
            if (group.RowCount is < 0 or > 1 << 30)
                throw new BadInputException($"{name}: row group {i}: {group.RowCount} rows; expected 0 to {1 << 30}");
            Budget.CheckRecords(name, faults.Count + group.RowCount, stream.Length);
            var columns = new FaultColumns((int)group.RowCount);
            await group.ReadAsync<int>(there["space"], columns.Space);
            await group.ReadAsync<int>(there["thread"], columns.Thread);
            await group.ReadAsync<ulong>(there["address"], columns.Address);
            await group.ReadAsync(there["access"], columns.Access);
            await group.ReadAsync(there["cause"], columns.Cause);
            for (int t = 0; t < s_times.Length; t++)
                await group.ReadAsync<long>(there[s_times[t].Name], columns.Times[t]);
            columns.AppendTo(faults, name);
        }
        return FaultTable.ToTrace(name, [.. faults], reader.CustomMetadata ?? new Dictionary<string, string>());
    }
}
