using Testbed.Core;

namespace Testbed.Traces.Exchange;

/// <summary>A format that other tools read or write.</summary>
/// <param name="Name">As typed.</param>
/// <param name="Extension">Of its files, with the dot; several formats may share one.</param>
/// <param name="About">What it is and who uses it.</param>
/// <param name="Lost">What it cannot hold of a trace, or what a file of it does not say; empty: nothing.</param>
public sealed record ExchangeFormat(string Name, string Extension, string About, string Lost)
{
    /// <summary>Reads a file; the second argument stands in messages. Null: this format is only written.</summary>
    public Func<Stream, string, Trace>? Import { get; private init; }

    /// <summary>Writes a trace. Null: this format is only read.</summary>
    public Action<Trace, Stream>? Export { get; private init; }

    private const string NotInTables = "the events of the fault service";

    /// <summary>All that there are, by name.</summary>
    public static IReadOnlyList<ExchangeFormat> All { get; } =
    [
        new("criu-log", ".log", "the log of criu lazy-pages -v4 (CRIU 4)",
            "which thread touched, read or write, and touches that the background transfer hid: the trace is of kind Live")
        { Import = CriuLog.Read },
        new("perf-trace", ".txt", "perf trace -F all --no-syscalls -o FILE",
            "read or write; faults on files, of which it prints no address, are left out")
        { Import = PerfTrace.Read },
        new("perf-script", ".txt", "perf script -F +addr of perf record -e page-faults -c 1 -d, or perf script of -e exceptions:page_fault_user",
            "read or write, unless it is the tracepoint's; of several processes, the one with most faults is taken")
        { Import = PerfScript.Read },
        new("lackey", ".txt", "valgrind --tool=lackey --trace-mem=yes --log-file=FILE",
            "threads, and time: each instruction counts as a nanosecond; code pages are left out")
        { Import = Lackey.Read },
        new("oracle-general", ".oracleGeneral", "libCacheSim's oracleGeneral, plain or zstd (.zst)",
            "threads, read or write, sizes, and times below a second; an object is a page")
        { Import = OracleGeneral.Read },
        new("csv", ".csv", "the faults as comma-separated values, a line each",
            "the memory areas and pages that nobody touched, thread ids and names, where it came from, how it ended, " + NotInTables)
        { Import = CsvTable.Read, Export = CsvTable.Write },
        new("parquet", ".parquet", "the faults as an Apache Parquet table, everything else in its key-value metadata", NotInTables)
        { Import = ParquetTable.Read, Export = ParquetTable.Write },
        new("arrow", ".arrow", "the faults as an Apache Arrow IPC file (Feather 2), everything else in its schema's metadata", NotInTables)
        { Import = ArrowTable.Read, Export = ArrowTable.Write },
        new("perfetto", ".pftrace", "stalls and transfers for ui.perfetto.dev: a track per thread, a track for the lane",
            "memory areas, when the daemon woke and read a fault, where it came from, " + NotInTables)
        { Export = PerfettoTrace.Write },
    ];

    /// <summary>The format of this name.</summary>
    /// <exception cref="BadInputException">None, or it cannot do that.</exception>
    public static ExchangeFormat Named(string name, bool export)
    {
        ExchangeFormat[] able = [.. All.Where(f => export ? f.Export is not null : f.Import is not null)];
        return able.FirstOrDefault(f => f.Name == name)
            ?? throw new BadInputException($"\"{name}\": not a format that can be {(export ? "written" : "read")}; expected one of {string.Join(", ", able.Select(f => f.Name))}");
    }

    /// <summary>The format that a file's extension tells.</summary>
    /// <exception cref="BadInputException">It tells none, or several.</exception>
    public static ExchangeFormat OfFile(string file, bool export)
    {
        string name = file.EndsWith(".zst", StringComparison.Ordinal) ? file[..^4] : file;
        ExchangeFormat[] fitting = [.. All.Where(f => name.EndsWith(f.Extension, StringComparison.OrdinalIgnoreCase) && (export ? f.Export is not null : f.Import is not null))];
        return fitting is [var one] ? one
            : throw new BadInputException($"{file}: its extension does not tell the format; expected {(export ? "--to" : "--from")} with one of {string.Join(", ", All.Where(f => export ? f.Export is not null : f.Import is not null).Select(f => f.Name))}");
    }
}
