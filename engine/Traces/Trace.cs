using Testbed.Core;

namespace Testbed.Traces;

/// <summary>A trace, loaded whole.</summary>
public sealed class Trace
{
    /// <summary>The file, as it was named when loaded.</summary>
    public required string Name { get; init; }

    /// <summary>Where it came from.</summary>
    public required TraceHeader Header { get; init; }

    /// <summary>The areas, and the pages that were away when it began.</summary>
    public MemoryImage Image => Header.Image;

    /// <summary>All threads, by index.</summary>
    public required IReadOnlyList<TraceThread> Threads { get; init; }

    /// <summary>The faults in the order of <see cref="FaultRecord.Woken"/>; those of one wake-up in the order of recording.</summary>
    public required FaultRecord[] Faults { get; init; }

    /// <summary>The events that the fault service was given, in order; empty when they were not kept.</summary>
    public required ServiceEvent[] Events { get; init; }

    /// <summary>How the recording ended; null when the trace is not complete.</summary>
    public TraceEnd? End { get; init; }

    /// <summary>Whether it has its footer. If not, what is here is everything that had been written.</summary>
    public bool IsComplete => End != null;

    /// <summary>Why it is not complete, in one line, or null.</summary>
    public string? IncompleteReason { get; init; }

    /// <summary>The size of its whole part on disk, in bytes.</summary>
    public long FileBytes { get; init; }

    /// <summary>Its duration: from the footer, otherwise up to the last thing that happened in it.</summary>
    public Duration Duration => End?.Duration ?? LastTime() - Instant.Zero;

    /// <summary>Loads a file. A trace that was cut off loads as far as it goes, and is not <see cref="IsComplete"/>.</summary>
    /// <exception cref="BadInputException">No such file, not a trace, a newer version, or damaged.</exception>
    public static Trace Load(string path)
    {
        using TraceReader reader = TraceReader.Open(path);
        return Load(reader, path);
    }

    /// <summary>Loads what <paramref name="stream"/> gives and closes it; <paramref name="name"/> stands in messages.</summary>
    /// <exception cref="BadInputException">Not a trace, a newer version, or damaged.</exception>
    public static Trace Load(Stream stream, string name)
    {
        using TraceReader reader = TraceReader.Open(stream, name);
        return Load(reader, name);
    }

    /// <summary>Writes it to a file, which has its name only when it is whole. An incomplete trace stays incomplete.</summary>
    /// <exception cref="BadInputException">The file cannot be written.</exception>
    public void Save(string path)
    {
        string part = path + ".part";
        try
        {
            // Threads first: in a file they stand before the faults that name them.
            using (TraceWriter writer = TraceWriter.Create(part, Header with { Threads = Threads }))
            {
                foreach (ref readonly FaultRecord fault in Faults.AsSpan())
                    writer.Append(fault);
                foreach (ref readonly ServiceEvent e in Events.AsSpan())
                    writer.Append(e);
                if (End is { } end)
                    writer.Finish(end);
            }
            File.Move(part, path, overwrite: true);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or BadInputException)
        {
            if (File.Exists(part))
                File.Delete(part);
            throw e as BadInputException ?? new BadInputException($"{path}: cannot write a trace here: {e.Message}", e);
        }
    }

    /// <summary>What the threads touched, and how long they thought before: the load that a replay puts on a policy.</summary>
    /// <param name="space">Which address space: 0 is the target.</param>
    public FirstTouches FirstTouches(int space = 0) => Traces.FirstTouches.From(this, space);

    private static Trace Load(TraceReader reader, string name)
    {
        var faults = new List<FaultRecord>();
        var events = new List<ServiceEvent>();
        long whole = reader.Position;
        while (reader.ReadBlock())
        {
            faults.AddRange(reader.Faults);
            events.AddRange(reader.Events);
            whole = reader.Position;
        }
        return new Trace
        {
            Name = name,
            Header = reader.Header,
            Threads = reader.Threads,
            Faults = InOrderOfWaking(faults),
            Events = [.. events],
            End = reader.End,
            IncompleteReason = reader.IncompleteReason,
            FileBytes = whole,
        };
    }

    private static FaultRecord[] InOrderOfWaking(List<FaultRecord> faults)
    {
        FaultRecord[] sorted = [.. faults];
        bool inOrder = true;
        for (int i = 1; i < sorted.Length && inOrder; i++)
            inOrder = sorted[i - 1].Woken <= sorted[i].Woken;
        if (inOrder)
            return sorted;
        // Recorded in order of resolution. Array.Sort is not stable, so the place breaks ties.
        var keys = new (long Woken, int Place)[sorted.Length];
        for (int i = 0; i < keys.Length; i++)
            keys[i] = (sorted[i].Woken.Nanoseconds, i);
        Array.Sort(keys, sorted);
        return sorted;
    }

    private Instant LastTime()
    {
        Instant last = Instant.Zero;
        foreach (ref readonly FaultRecord fault in Faults.AsSpan())
            last = Instant.Max(last, fault.Resolved);
        foreach (ref readonly ServiceEvent e in Events.AsSpan())
            last = Instant.Max(last, e.Time);
        return last;
    }
}
