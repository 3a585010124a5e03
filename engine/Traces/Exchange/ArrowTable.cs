using System.Text;
using Apache.Arrow;
using Apache.Arrow.Ipc;
using Apache.Arrow.Types;
using Testbed.Core;

namespace Testbed.Traces.Exchange;

/// <summary>The faults as an Apache Arrow IPC file (Feather 2), in batches; header and end in the schema's metadata.</summary>
internal static class ArrowTable
{
    private const int BatchRows = 1 << 16;

    private static readonly IArrowType[] s_types =
    [
        Int32Type.Default, Int32Type.Default, UInt64Type.Default, StringType.Default, StringType.Default,
        Int64Type.Default, Int64Type.Default, Int64Type.Default, Int64Type.Default, Int64Type.Default,
    ];

    public static void Write(Trace trace, Stream stream)
    {
        Field[] fields = [.. FaultTable.Names.Select((name, i) => new Field(name, s_types[i], nullable: false))];
        var schema = new Schema(fields, FaultTable.Metadata(trace));
        using var writer = new ArrowFileWriter(stream, schema, leaveOpen: true);
        writer.WriteStart();
        for (int at = 0; at < trace.Faults.Length; at += BatchRows)
        {
            using RecordBatch batch = Batch(schema, FaultColumns.Of(trace.Faults[at..Math.Min(trace.Faults.Length, at + BatchRows)]));
            writer.WriteRecordBatch(batch);
        }
        writer.WriteEnd();
    }

    public static Trace Read(Stream stream, string name)
    {
        try
        {
            return ReadFile(stream, name);
        }
        catch (Exception e) when (e is not BadInputException)
        {
            // Whatever the library objects to in a damaged file, in whatever exception.
            throw new BadInputException($"{name}: cannot be read as an Arrow IPC file: {e.Message.ReplaceLineEndings(" ")}", e);
        }
    }

    private static RecordBatch Batch(Schema schema, FaultColumns columns)
    {
        IArrowArray[] arrays =
        [
            new Int32Array.Builder().AppendRange(columns.Space).Build(), new Int32Array.Builder().AppendRange(columns.Thread).Build(),
            new UInt64Array.Builder().AppendRange(columns.Address).Build(),
            new StringArray.Builder().AppendRange(columns.Access).Build(), new StringArray.Builder().AppendRange(columns.Cause).Build(),
            .. columns.Times.Select(t => new Int64Array.Builder().AppendRange(t).Build()),
        ];
        return new RecordBatch(schema, arrays, columns.Count);
    }

    private static Trace ReadFile(Stream stream, string name)
    {
        using var reader = new ArrowFileReader(stream, leaveOpen: true);
        Schema schema = reader.Schema;
        for (int i = 0; i < s_types.Length; i++)
        {
            Field? field = schema.FieldsList.FirstOrDefault(f => f.Name == FaultTable.Names[i]);
            if (field is null || field.DataType.TypeId != s_types[i].TypeId)
                throw new BadInputException($"{name}: column {FaultTable.Names[i]}: {(field is null ? "missing" : $"of type {field.DataType.Name}")}; expected {s_types[i].Name}");
        }
        var faults = new List<FaultRecord>();
        while (reader.ReadNextRecordBatch() is { } batch)
        {
            using (batch)
            {
                // Any number of batches may be said to lie at one place.
                Budget.CheckRecords(name, faults.Count + (long)batch.Length, stream.Length);
                Columns(batch).AppendTo(faults, name);
            }
        }
        return FaultTable.ToTrace(name, [.. faults], schema.Metadata ?? new Dictionary<string, string>());
    }

    private static FaultColumns Columns(RecordBatch batch)
    {
        // Looked at before there is room for it: a length may be a lie.
        ReadOnlySpan<int> spaces = ((Int32Array)batch.Column("space")).Values[..batch.Length];
        var columns = new FaultColumns(spaces.Length);
        spaces.CopyTo(columns.Space);
        ((Int32Array)batch.Column("thread")).Values[..batch.Length].CopyTo(columns.Thread);
        ((UInt64Array)batch.Column("address")).Values[..batch.Length].CopyTo(columns.Address);
        CopyTexts((StringArray)batch.Column("access"), columns.Access);
        CopyTexts((StringArray)batch.Column("cause"), columns.Cause);
        for (int t = 0; t < columns.Times.Length; t++)
            ((Int64Array)batch.Column(FaultTable.Names[5 + t])).Values[..batch.Length].CopyTo(columns.Times[t]);
        return columns;
    }

    /// <summary>GetString of the library believes the offsets of a damaged file, and reads wherever they point.</summary>
    private static void CopyTexts(StringArray from, string[] to)
    {
        ReadOnlySpan<int> offsets = from.ValueOffsets;
        ReadOnlySpan<byte> bytes = from.Values;
        for (int i = 0; i < to.Length; i++)
            to[i] = Encoding.UTF8.GetString(bytes[offsets[i]..offsets[i + 1]]);
    }
}
