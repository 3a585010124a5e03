using System.Globalization;
using System.Text;
using Testbed.Core;
using Testbed.Reports.Figures;
using Testbed.Scenarios;

namespace Testbed.Cli.Migration;

/// <summary>Table, CSV files and figure of a migration scenario.</summary>
internal static class MigrationReport
{
    private static readonly (string Title, Func<MigrationResult, double> Value)[] Columns =
    [
        ("restore ms", r => r.Restore.Milliseconds), ("first answer ms", r => r.FirstResponse.Milliseconds), ("all in ms", r => r.AllIn.Milliseconds),
        ("p50 us", r => r.Quantile(0.5).Microseconds), ("p95 us", r => r.Quantile(0.95).Microseconds), ("p99 us", r => r.Quantile(0.99).Microseconds),
        ("worst ms", r => r.Quantile(1).Milliseconds), ("p99 until all in us", r => MigrationResult.Of(r.During, 0.99).Microseconds),
        ("requests in 2 s", r => r.FirstTwoSeconds),
    ];

    /// <summary>Medians over the rounds, one line per pair; least and most in brackets.</summary>
    public static string Table(IReadOnlyList<MigrationResult> results)
    {
        var table = new StringBuilder();
        foreach (IGrouping<string, MigrationResult> pair in results.GroupBy(r => r.Pair))
        {
            table.AppendLine(CultureInfo.InvariantCulture, $"{pair.Key} ({pair.Count()} rounds, median [least..most])");
            foreach ((string title, Func<MigrationResult, double> value) in Columns)
            {
                double[] values = [.. pair.Select(value).Order()];
                table.AppendLine(CultureInfo.InvariantCulture, $"  {title,-20} {Median(values),10:0.#}  [{values[0]:0.#}..{values[^1]:0.#}]");
            }
        }
        return table.ToString().TrimEnd();
    }

    /// <summary>One line per migration.</summary>
    public static string Csv(IReadOnlyList<MigrationResult> results)
    {
        var csv = new StringBuilder("pair,round," + string.Join(',', Columns.Select(c => c.Title.Replace(' ', '_'))) + "\n");
        foreach (MigrationResult r in results)
            csv.Append(CultureInfo.InvariantCulture, $"{r.Pair},{r.Round},").AppendJoin(',', Columns.Select(c => c.Value(r).ToString("0.###", CultureInfo.InvariantCulture))).Append('\n');
        return csv.ToString();
    }

    /// <summary>The requests as CSV, and the figure.</summary>
    public static void Write(string directory, MigrationScenario scenario, IReadOnlyList<MigrationResult> results)
    {
        File.WriteAllText(Path.Combine(directory, "migrations.csv"), Csv(results));
        using (var requests = new StreamWriter(Path.Combine(directory, "requests.csv")))
        {
            requests.WriteLine("pair,round,sent_ms,latency_us");
            foreach (MigrationResult r in results)
            {
                foreach (LoadSample s in r.Samples)
                    requests.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{r.Pair},{r.Round},{(s.Time - Instant.Zero + r.LoadBegan).Milliseconds:0.###},{s.Latency.Microseconds:0.#}"));
            }
        }
        if (scenario.Requests == 0)
            return;
        var series = results.GroupBy(r => r.Pair).Select(g => new RestoreSeries(Name(g.Key), [.. g.Select(r => new RestoreRound(
            r.AllIn, [.. r.Samples.Select(s => (s.Time - Instant.Zero + r.LoadBegan, s.Latency))]))])).ToList();
        FigureSheet sheet = RestoreTimeline.Draw(series);
        string path = Path.Combine(directory, "restore-timeline");
        File.WriteAllBytes(path + ".png", FigureWriter.Png(sheet));
        File.WriteAllText(path + ".svg", FigureWriter.Svg(sheet, RestoreTimeline.Title));
        File.WriteAllBytes(path + ".pdf", FigureWriter.Pdf(sheet, RestoreTimeline.Title, DateTimeOffset.UnixEpoch));
    }

    private static string Name(string pair)
    {
        string[] who = pair.Split('+');
        return $"{(who[0] == "criu" ? "CRIU" : "testbed")}, pages from {(who[1] switch { "criu" => "CRIU's dump", "criu-images" => "CRIU's page server", "testbed" => "testbed", _ => "local images" })}";
    }

    private static double Median(double[] sorted) =>
        sorted.Length % 2 == 1 ? sorted[sorted.Length / 2] : (sorted[(sorted.Length / 2) - 1] + sorted[sorted.Length / 2]) / 2;
}
