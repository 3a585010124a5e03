using HdrHistogram;
using Testbed.Core;
using Testbed.Reports.Statistics;

namespace Testbed.Reports;

/// <summary>
/// The latencies of each run as percentile distributions in HdrHistogram's text form (<c>.hgrm</c>, microseconds, three significant digits),
/// which its plotters and other latency tools read.
/// </summary>
internal static class LatencyFiles
{
    private const int Digits = 3;

    /// <summary>Writes one file per line of the result table that has latencies.</summary>
    public static void Write(string directory, IReadOnlyList<Summary> summaries)
    {
        foreach (Summary s in summaries.Where(s => s.Run.Latencies.Count > 0))
        {
            Directory.CreateDirectory(directory);
            string name = LatexTable.Label($"{s.Run.Workload}-{s.Run.Mode}-{s.Run.Link}-{s.Run.Policy}".ToLowerInvariant());
            using var writer = new StreamWriter(Path.Combine(directory, name + ".hgrm")) { NewLine = "\n" };
            Histogram(s.Run).OutputPercentileDistribution(writer, outputValueUnitScalingRatio: 1000);
        }
    }

    /// <summary>The latencies of a run, in nanoseconds.</summary>
    public static HistogramBase Histogram(RunResult run)
    {
        var histogram = new LongHistogram(Math.Max(2, run.LatencyQuantile(1).Nanoseconds), Digits);
        foreach (Duration latency in run.Latencies)
            histogram.RecordValue(Math.Max(0, latency.Nanoseconds));
        return histogram;
    }
}
