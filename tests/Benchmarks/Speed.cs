using System.Diagnostics;
using Testbed.Core;
using Testbed.Policies;
using Testbed.Replay;

namespace Benchmarks;

/// <summary>
/// The same replays as <see cref="ReplayBenchmark"/>, quickly: best of some runs, in touches a second by the clock and by
/// the processor's (on a shared machine the latter is the truer), with a hash over all results that must not change
/// when only the speed is to change.
/// </summary>
public static class Speed
{
    /// <summary>Prints a line for each case, and the hash of all of them.</summary>
    public static ulong Run(int touches, int runs, TextWriter output, string only = "")
    {
        ulong all = 0;
        output.WriteLine($"{"policy",-24} {"order",-10} threads   per second   per CPU second  hash");
        foreach (string policy in PolicyCatalog.Names.Where(p => p.Contains(only, StringComparison.Ordinal)))
        {
            foreach ((bool random, int threads) in new[] { (true, 1), (true, 4), (false, 1), (false, 4) })
            {
                ReplayWorkload workload = SyntheticWorkload.Make(touches, threads, random);
                ReplayOptions options = ReplayBenchmark.OptionsFor(policy);
                TimeSpan best = TimeSpan.MaxValue, bestCpu = TimeSpan.MaxValue;
                ulong hash = 0;
                for (int i = 0; i < runs; i++)
                {
                    long start = Stopwatch.GetTimestamp();
                    TimeSpan cpu = Environment.CpuUsage.TotalTime;
                    RunResult result = Simulation.Run(workload, options);
                    TimeSpan took = Stopwatch.GetElapsedTime(start);
                    cpu = Environment.CpuUsage.TotalTime - cpu;
                    best = took < best ? took : best;
                    bestCpu = cpu < bestCpu ? cpu : bestCpu;
                    hash = Hash(result);
                }
                output.WriteLine($"{policy,-24} {(random ? "random" : "address"),-10} {threads,7} {touches / best.TotalSeconds,12:0.00e0} {touches / bestCpu.TotalSeconds,16:0.00e0}  {hash:x16}");
                all = Mix(all, hash);
            }
        }
        output.WriteLine($"hash of all results: {all:x16}");
        return all;
    }

    /// <summary>Prints processor time and allocated memory a touch, for ten, a hundred ... times as many touches, up to the largest.</summary>
    public static void Linear(int largest, TextWriter output)
    {
        output.WriteLine($"{"policy",-10} {"order",-10} {"touches",11}  ns of CPU a touch  beside the fewest  bytes a touch");
        var first = new Dictionary<(string, bool), double>();
        for (int touches = Math.Min(100_000, largest); touches <= largest && touches > 0; touches *= 10)
        {
            foreach (bool random in new[] { true, false })
            {
                ReplayWorkload workload = SyntheticWorkload.Make(touches, 1, random, recorded: false);
                foreach (string policy in new[] { "demand", "criu", "next-n" })
                {
                    (double nanoseconds, double bytes) = PerTouch(workload, ReplayBenchmark.OptionsFor(policy));
                    double fewest = first.TryAdd((policy, random), nanoseconds) ? nanoseconds : first[(policy, random)];
                    output.WriteLine($"{policy,-10} {(random ? "random" : "address"),-10} {touches,11:N0} {nanoseconds,18:0.0} {nanoseconds / fewest,18:0.00} {bytes,14:0.0}");
                }
            }
        }
    }

    private static (double Nanoseconds, double Bytes) PerTouch(ReplayWorkload workload, ReplayOptions options)
    {
        TimeSpan best = TimeSpan.MaxValue;
        long bytes = 0;
        // Small ones often enough for the compiler to be done with them.
        for (long i = 0; i < Math.Clamp(10_000_000 / workload.Touches, 1, 60); i++)
        {
            TimeSpan cpu = Environment.CpuUsage.TotalTime;
            bytes = GC.GetAllocatedBytesForCurrentThread();
            _ = Simulation.Run(workload, options);
            bytes = GC.GetAllocatedBytesForCurrentThread() - bytes;
            cpu = Environment.CpuUsage.TotalTime - cpu;
            best = cpu < best ? cpu : best;
        }
        return (best.TotalNanoseconds / workload.Touches, (double)bytes / workload.Touches);
    }

    private static ulong Hash(RunResult r)
    {
        ulong hash = r.CommandHash;
        foreach (Duration latency in r.Latencies)
            hash = Mix(hash, (ulong)latency.Nanoseconds);
        foreach ((Instant time, long pages) in r.Residency)
            hash = Mix(Mix(hash, (ulong)time.Nanoseconds), (ulong)pages);
        foreach (InstallRecord install in r.Installs)
            hash = Mix(Mix(hash, (ulong)install.Time.Nanoseconds), install.Range.Start.Value ^ ((ulong)install.Cause << 56));
        foreach (long value in new[]
        {
            r.DemandFaults, r.LateFaults, r.ZeroFaults, r.TotalStall.Nanoseconds, r.WorkloadTime.Nanoseconds, r.Bytes,
            r.Prefetch.Issued, r.Prefetch.Useful, r.Prefetch.Late, r.Prefetch.Unused,
        })
            hash = Mix(hash, (ulong)value);
        return hash;
    }

    private static ulong Mix(ulong hash, ulong value) => System.Numerics.BitOperations.RotateLeft(hash ^ value, 23) * 0x9E3779B97F4A7C15;
}
