using NUnit.Framework;
using Parquet;
using Parquet.Schema;
using Testbed.Core;
using Testbed.Reports.Statistics;

namespace Testbed.Reports.Tests;

public sealed class SweepTableTests
{
    private static readonly SweepRow[] s_rows =
        [.. Enumerable.Range(0, 4).Select(i => SweepRow.Of($"key{i}", "scen,ario", 7, SyntheticRuns.One(i, 1, RunMode.Replay, 1000, i)))];

    [Test]
    public void A_line_of_the_journal_is_read_as_it_was_written()
    {
        foreach (SweepRow row in s_rows)
        {
            SweepRow read = SweepRow.FromLine(row.ToLine())!;
            Assert.That(read with { Values = row.Values }, Is.EqualTo(row));
            Assert.That(read.Values, Is.EqualTo(row.Values));
        }
    }

    [Test]
    public void A_torn_line_is_no_row()
    {
        string line = s_rows[0].ToLine();
        for (int cut = 0; cut < line.Length; cut++)
            Assert.That(SweepRow.FromLine(line[..cut]), Is.Null, $"{cut} characters");
        Assert.That(SweepRow.FromLine(line.Replace("key0", "key1", StringComparison.Ordinal)), Is.Null);
    }

    [Test]
    public async Task Parquet_and_csv_hold_the_same()
    {
        var stream = new MemoryStream();
        await SweepTable.WriteParquetAsync(s_rows, stream);
        stream.Position = 0;
        await using ParquetReader reader = await ParquetReader.CreateAsync(stream);
        string[] heading = SweepTable.Csv(s_rows).Split('\n')[0].Split(',');
        DataField[] fields = reader.Schema.GetDataFields();
        Assert.That(fields.Select(f => f.Name), Is.EqualTo(heading));
        using ParquetRowGroupReader group = reader.OpenRowGroupReader(0);
        Assert.That(group.RowCount, Is.EqualTo(s_rows.Length));
        for (int i = 0; i < SweepTable.Columns.Count; i++)
        {
            var values = new double?[s_rows.Length];
            await group.ReadAsync<double>(fields.Single(f => f.Name == SweepTable.Columns[i]), values.AsMemory());
            Assert.That(values, Is.EqualTo(s_rows.Select(r => r.Values[i])), SweepTable.Columns[i]);
        }
    }
}

public sealed class FidelityTests
{
    [Test]
    public void A_pair_holds_when_the_median_replay_is_near_the_median_live_run_in_every_number()
    {
        RunResult live = SyntheticRuns.One(2, 1, RunMode.Live, 1000, 3);
        RunResult Like(RunResult run, RunMode mode, double stall) => Copy(run, mode, new Duration((long)(run.TotalStall.Nanoseconds * stall)));
        RunResult[] lives = [Like(live, RunMode.Live, 0.9), Like(live, RunMode.Live, 1), Like(live, RunMode.Live, 1.7)];
        FidelityPair near = FidelityPair.Of([.. lives, Like(live, RunMode.Replay, 1.09)]).Single();
        FidelityPair far = FidelityPair.Of([.. lives, Like(live, RunMode.Replay, 1.11)]).Single();
        Assert.That((near.Holds, near.Runs), Is.EqualTo((true, 3)));
        Assert.That(far.Holds, Is.False);
        Assert.That(far.Values.Single(v => !v.Holds).Metric.Name, Is.EqualTo("total stall"));
        Assert.That(far.Values.Single(v => !v.Holds).Deviation, Is.EqualTo(0.11).Within(1e-6));
        Assert.That(FidelityPair.Format([far]), Does.Contain("+11.0 % !").And.Contain("0 of 1 pairs hold"));
    }

    [Test]
    public void Two_live_runs_are_too_few()
    {
        RunResult live = SyntheticRuns.One(2, 1, RunMode.Live, 1000, 3);
        Assert.That(FidelityPair.Of([live, live, Copy(live, RunMode.Replay, live.TotalStall)]), Is.Empty);
    }

    private static RunResult Copy(RunResult run, RunMode mode, Duration stall) => new()
    {
        Workload = run.Workload,
        Policy = run.Policy,
        Link = run.Link,
        Mode = mode,
        Latencies = run.Latencies,
        DemandFaults = run.DemandFaults,
        LateFaults = run.LateFaults,
        ZeroFaults = run.ZeroFaults,
        TotalStall = stall,
        WorkloadTime = run.WorkloadTime,
        TotalPages = run.TotalPages,
        Residency = run.Residency,
        Installs = run.Installs,
        Bytes = run.Bytes,
        Prefetch = run.Prefetch,
        CommandHash = run.CommandHash,
    };
}
