using System.Diagnostics;

namespace Benchmarks.Daemon;

/// <summary>How soon a lazy-pages daemon is ready: from its start to the zero byte on its --status-fd.</summary>
[System.Runtime.Versioning.SupportedOSPlatform("linux")]
public static class StartUp
{
    /// <summary>Prints medians and extremes of every variant that is there, started in turn.</summary>
    /// <param name="rounds">Starts of each.</param>
    /// <param name="output">Gets the table.</param>
    public static void Run(int rounds, TextWriter output)
    {
        using var world = new DaemonWorld(16);
        (string Name, string[] Program, string File)[] variants =
        [
            ("compiled as it runs", ["dotnet", InArtifacts("bin/Benchmarks/release/testbed.dll")], InArtifacts("bin/Benchmarks/release/testbed.dll")),
            ("ReadyToRun", ["dotnet", InArtifacts("program/testbed.dll")], InArtifacts("program/testbed.dll")),
            ("native", [InArtifacts("daemon/testbed")], InArtifacts("daemon/testbed")),
            ("criu", [InArtifacts("criu/criu")], InArtifacts("criu/criu")),
        ];
        variants = [.. variants.Where(v => File.Exists(v.File))];
        List<(double Ready, double Memory)>[] all = [.. variants.Select(_ => new List<(double, double)>())];
        for (int round = 0; round < rounds; round++)
        {
            for (int i = 0; i < variants.Length; i++)
                all[i].Add(Start(variants[i].Program, world.Directory));
        }
        output.WriteLine($"{"lazy-pages, ready after",-24} {"median ms",10} {"least",8} {"most",8} {"memory MB",10}");
        for (int i = 0; i < variants.Length; i++)
        {
            double[] ready = [.. all[i].Select(r => r.Ready).Order()];
            output.WriteLine($"{variants[i].Name,-24} {ready[ready.Length / 2],10:0.0} {ready[0],8:0.0} {ready[^1],8:0.0} {all[i].Select(r => r.Memory).Order().ElementAt(rounds / 2),10:0.0}");
        }
    }

    private static (double Ready, double Memory) Start(string[] program, string images)
    {
        long begin = Stopwatch.GetTimestamp();
        using Process daemon = DaemonWorld.Start([.. program, "lazy-pages", "-D", images, "-o", "lazy.log", "--status-fd", "1"], null, restorer: true);
        int ready = daemon.StandardOutput.Read();
        double took = Stopwatch.GetElapsedTime(begin).TotalMilliseconds;
        double memory = daemon.HasExited ? 0 : daemon.WorkingSet64 / 1048576.0;
        daemon.Kill();
        daemon.WaitForExit();
        return ready == 0 ? (took, memory) : throw new InvalidOperationException($"{program[^1]} did not become ready; see {Path.Combine(images, "lazy.log")}");
    }

    private static string InArtifacts(string name) => Path.Combine(DaemonWorld.Root, "artifacts", name);
}
