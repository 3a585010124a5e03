using System.Text;
using Testbed.Core;
using Testbed.Replay;

namespace Replay.Tests;

internal static class Workloads
{
    /// <summary>Threads that touch random pages of three areas, some of them holes, with think times up to 100 us.</summary>
    public static ReplayWorkload Random(int seed, int threads, int touches, int pages)
    {
        var random = new Random(seed);
        var areas = new List<MemoryArea>();
        var present = new List<PageRange>();
        for (int i = 0; i < 3; i++)
        {
            var start = new PageNumber((ulong)(1000 + i * 2 * pages));
            areas.Add(new MemoryArea(new PageRange(start, pages / 3), "", 3));
            present.Add(new PageRange(start, pages / 3 - 10));
        }
        var image = new MemoryImage(areas, present);
        var map = new PageMap(image);
        TouchSequence[] sequences = [.. Enumerable.Range(0, threads).Select(_ => new TouchSequence(
            [.. Enumerable.Range(0, touches).Select(_ => (uint)random.NextInt64(image.TotalPages))],
            [.. Enumerable.Range(0, touches).Select(_ => random.NextInt64(100_000))],
            [.. Enumerable.Range(0, touches).Select(_ => random.Next(2) == 0)]))];
        PageNumber[] recording = [.. sequences.SelectMany(s => s.Pages).Distinct().Select(i => map.PageAt(i))];
        return new ReplayWorkload($"random {seed}", image, sequences) { Recording = recording };
    }

    /// <summary>Everything in a result, as text.</summary>
    public static string Digest(RunResult r) => new StringBuilder()
        .AppendJoin(' ', r.Latencies.Select(l => l.Nanoseconds))
        .AppendJoin(' ', r.Residency)
        .AppendJoin(' ', r.Installs)
        .Append($"{r.DemandFaults} {r.LateFaults} {r.ZeroFaults} {r.TotalStall} {r.WorkloadTime} {r.Bytes} {r.Prefetch} {r.CommandHash}")
        .ToString();
}
