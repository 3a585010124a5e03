using System.Diagnostics;
using NUnit.Framework;
using Testbed.Core;

namespace Testbed.Scenarios.Tests;

/// <summary>The real programs: started, filled, loaded, checked, stopped, and nothing left behind.</summary>
[NonParallelizable]
public sealed class RealProcessTests
{
    [TestCase("redis-small", "redis-server", 50, 1000)]
    [TestCase("redis-scan-small", "redis-server", 15, 200)]
    [TestCase("memcached-small", "memcached", 50, 1000)]
    [TestCase("postgres-mixed-small", "postgres", 15, 300)]
    [TestCase("python-small", "python3", 15, 1000)]
    [TestCase("sqlite-scan-small", "python3", 25, 50)]
    [TestCase("node-small", "node", 50, 1000)]
    [TestCase("java-small", "java", 50, 1000)]
    [TestCase("dotnet-small", "dotnet", 50, 1000)]
    [TestCase("stress-threads-small", "stress", 60, 1000)]
    public void RunsFromStartToStop(string name, string program, int megabytes, int requests)
    {
        WorkloadFile file = WorkloadFile.FromFile(Repository.Workload(name));
        Workload workload = Installed(file);
        int pid;
        string folder;
        using (RunningWorkload running = workload.Start())
        {
            pid = running.Pid;
            folder = Path.GetDirectoryName(running.LogFile)!;
            Assert.That(Process.GetProcessById(pid).ProcessName, Does.StartWith(program), "the pid is the program's own");
            running.Fill();
            using (var process = Process.GetProcessById(pid))
                Assert.That(process.WorkingSet64 / 1_000_000, Is.GreaterThan(megabytes), "resident MB after the fill");

            string before = running.Check();
            LoadResult load;
            using (RunningLoad going = running.StartLoad(Duration.FromSeconds(1)))
            {
                // A kept connection has one user at a time.
                if (file.Target is null)
                    Assert.That(running.FirstResponse(), Is.GreaterThan(Duration.Zero));
                load = going.Wait();
            }
            Assert.That(load.Error, Is.Null);
            Assert.That(load.Missing, Is.Zero, "every key of the load is one that was filled in");
            Assert.That(load.Samples, Has.Count.GreaterThan(requests), "in one second");
            Assert.That(load.Samples[^1].Time, Is.GreaterThan(new Instant(500_000_000)));
            Assert.That(load.Samples, Is.Ordered.By(nameof(LoadSample.Time)));
            Assert.That(running.Check(), Is.EqualTo(before));
            TestContext.Out.WriteLine($"{name}: {load.Samples.Count} requests/s, median {load.Samples.Select(s => s.Latency).Order().ElementAt(load.Samples.Count / 2)}, digest {before}");
        }
        Assert.That(Directory.Exists($"/proc/{pid}"), Is.False, "the process is gone");
        Assert.That(Directory.Exists(folder), Is.False, "its folder is gone");
    }

    [Test]
    public void AProgramThatWorksByItselfIsReadFromItsOutput()
    {
        using RunningWorkload running = Installed(WorkloadFile.FromFile(Repository.Workload("rocksdb-small"))).Start();
        running.Fill();
        string before = running.Check();
        Assert.That(before, Is.EqualTo("200000 of 200000 found"));
        using RunningLoad load = running.StartLoad(Duration.FromSeconds(60), 1);
        LoadResult result = load.Wait();
        Assert.That(result.Error, Is.Null);
        Assert.That(result.Samples, Has.Count.EqualTo(1), "one phase of it");
        Assert.That(running.Check(), Is.EqualTo(before));
    }

    [Test]
    public void OneConnectionIsKeptWhereItsProcessIsTheTarget()
    {
        using RunningWorkload running = Installed(WorkloadFile.FromFile(Repository.Workload("postgres-small"))).Start();
        int pid = running.Pid;
        Assert.That(File.ReadAllText($"/proc/{pid}/cmdline"), Does.Contain("postgres: postgres postgres"), "a backend, not the first process");
        running.Fill();
        using (WorkloadClient client = running.Connect())
            Assert.That(client.Ask("SELECT pg_backend_pid()").ToString(), Is.EqualTo($"{pid}"));
        using (WorkloadClient client = running.Connect())
        {
            Assert.That(client.Ask("SELECT no_such_column").ToString(), Does.Contain("no_such_column"));
            Assert.That(client.Ask("SELECT 1, NULL; SELECT 'a' UNION ALL SELECT 'b'").ToString(), Is.EqualTo("1\t\na\nb"));
        }
    }

    [Test]
    public void StepsCanBeTakenOnAProgramThatSomebodyElseStarted()
    {
        WorkloadFile file = WorkloadFile.FromFile(Repository.Workload("redis-small"));
        using RunningWorkload running = Installed(file).Start(new WorkloadHost { Enter = command => ["nice", "-n", "1", .. command] });
        Assert.That(File.ReadAllText($"/proc/{running.Pid}/stat").Split(") ")[^1].Split(' ')[16], Is.EqualTo("1"), "started through the prefix");
        var steps = new WorkloadSteps(file, running.Endpoint);
        steps.Fill();
        Assert.That(steps.Check(), Is.EqualTo(running.Check()));
        Assert.That(steps.FirstResponse(), Is.GreaterThan(Duration.Zero));
    }

    [Test]
    public void ALoadWithAnotherSeedAsksOtherThings()
    {
        using RunningWorkload running = Installed(WorkloadFile.FromFile(Repository.Workload("sqlite-small")) with { Keys = 2000 }).Start();
        running.Fill();
        string before = running.Check();
        foreach (ulong seed in new ulong[] { 1, 2 })
        {
            using RunningLoad load = running.StartLoad(Duration.FromSeconds(10), 500, seed);
            LoadResult result = load.Wait();
            Assert.That((result.Error, result.Missing, result.Samples.Count), Is.EqualTo(((string?)null, 0L, 500)), $"the values are the same, whatever seed the load has ({seed})");
        }
        Assert.That(running.Check(), Is.EqualTo(before));
    }

    [Test]
    public void ChangedDataChangesTheDigest()
    {
        using RunningWorkload running = Installed(WorkloadFile.FromFile(Repository.Workload("memcached-small"))).Start();
        running.Fill();
        string before = running.Check();
        using (WorkloadClient client = running.Connect())
            Assert.That(client.Ask("set key:000000000042 0 0 1\r\nx").Kind, Is.EqualTo(ReplyKind.Value));
        Assert.That(running.Check(), Is.Not.EqualTo(before));
        using (WorkloadClient client = running.Connect())
            Assert.That(client.Ask("delete key:000000000042").Kind, Is.EqualTo(ReplyKind.Value));
        Assert.That(() => running.Check(), Throws.TypeOf<BadInputException>().With.Message.Contains("1 of 60000 keys are missing"));
    }

    [Test]
    public void RedisBenchmarkHitsTheKeysThatWereFilledIn()
    {
        // The same names: every key that redis-benchmark asks for is there, so no new miss is counted.
        WorkloadFile file = WorkloadFile.FromFile(Repository.Workload("redis-small")) with
        {
            Programs = new Dictionary<string, string> { ["redis-server"] = "redis-server", ["redis-benchmark"] = "redis-tools" },
            Load = new LoadStep
            {
                Program = new ProgramCall { Command = "redis-benchmark", Arguments = ["-p", "{port}", "-t", "get", "-r", "60000", "-n", "20000", "-q"] },
            },
        };
        using RunningWorkload running = Installed(file).Start();
        running.Fill();
        using (RunningLoad load = running.StartLoad(Duration.FromSeconds(60)))
            Assert.That(load.Wait().Error, Is.Null);
        using WorkloadClient client = running.Connect();
        string info = client.Ask("INFO stats").ToString();
        Assert.That(info, Does.Contain("keyspace_hits:20000").And.Contains("keyspace_misses:0"));
    }

    [Test]
    public void ProgramLoadEndsWithItsTime()
    {
        WorkloadFile file = WorkloadFile.FromFile(Repository.Workload("redis-benchmark")) with { Keys = 1000 };
        using RunningWorkload running = Installed(file).Start();
        running.Fill();
        var time = Stopwatch.StartNew();
        using RunningLoad load = running.StartLoad(Duration.FromSeconds(1));
        Assert.That(load.HasEnded, Is.False);
        Assert.That(load.Wait().Error, Is.Null);
        Assert.That(time.Elapsed.TotalSeconds, Is.InRange(0.9, 10));
        Assert.That(load.HasEnded, Is.True);
    }

    [Test]
    public void NothingOutlivesUs()
    {
        // What the guard sees when we are killed: its standard input ends.
        string log = Path.GetTempFileName();
        using var child = new ChildProcess("sh", ["-c", "sleep 1000 & sleep 1000"], new Dictionary<string, string>(), Path.GetTempPath(), log);
        string Group() => string.Join(' ', Directory.GetDirectories("/proc", "?*").Where(d => char.IsAsciiDigit(d[^1]) && IsInGroup(d, child.Pid)).Select(Path.GetFileName));
        Assert.That(() => Group().Split(' '), Has.Length.EqualTo(3).After(5).Seconds.PollEvery(20).MilliSeconds, "sh and its two children");
        child.Kill();
        Assert.That(child.WaitForExit(), Is.EqualTo(128 + 9));
        Assert.That(Group, Is.Empty.After(5).Seconds.PollEvery(20).MilliSeconds);
        File.Delete(log);
    }

    [Test]
    public void ProgramBeginsAsFromATerminal()
    {
        string log = Path.GetTempFileName();
        using var child = new ChildProcess("sleep", ["1000"], new Dictionary<string, string>(), Path.GetTempPath(), log);
        string Status() => File.ReadAllText($"/proc/{child.Pid}/status");
        Assert.That(Status, Does.StartWith("Name:\tsleep").After(5).Seconds.PollEvery(20).MilliSeconds);
        Assert.That(Status(), Does.Match(@"SigIgn:\s0{16}\s").And.Match(@"SigBlk:\s0{16}\s"), "no signal is ignored or blocked");
        File.Delete(log);
    }

    private static bool IsInGroup(string processFolder, int group)
    {
        try
        {
            // pid (name) state parent group ...
            string[] fields = File.ReadAllText(Path.Combine(processFolder, "stat")).Split(") ")[^1].Split(' ');
            return fields[0] != "Z" && fields[2] == $"{group}";
        }
        catch (IOException)
        {
            return false;
        }
    }

    [Test]
    public void ProgramThatEndsAtOnceIsReportedWithItsLastLine()
    {
        WorkloadFile file = WorkloadFile.FromFile(Repository.Workload("redis-small"));
        file = file with { Arguments = [.. file.Arguments, "--no-such-option", "1"] };
        Assert.That(() => Installed(file).Start(), Throws.TypeOf<BadInputException>()
            .With.Message.Contains("redis-server ended at once").And.Message.Contains("Bad directive"));
    }

    [Test]
    public void MissingProgramIsReportedWithItsPackage()
    {
        WorkloadFile file = WorkloadFile.FromFile(Repository.Workload("redis-small")) with
        {
            Programs = new Dictionary<string, string> { ["no-such-program"] = "its-package" },
        };
        var workload = new Workload(file);
        Assert.That(workload.Missing(), Is.EqualTo(new[] { new MissingProgram("no-such-program", "its-package") }));
        Assert.That(() => workload.Start(), Throws.TypeOf<BadInputException>().With.Message.Contains("apt-get install its-package"));
    }

    /// <summary>Skips loudly where the program is missing; under CI that is a failure.</summary>
    private static Workload Installed(WorkloadFile file)
    {
        var workload = new Workload(file);
        if (workload.Missing() is [var missing, ..])
        {
            if (Environment.GetEnvironmentVariable("CI") == "true")
                Assert.Fail(missing.ToString());
            Assert.Ignore(missing.ToString());
        }
        return workload;
    }
}
