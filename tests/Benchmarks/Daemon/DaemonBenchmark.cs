using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using Testbed.Core;
using Testbed.PageXfer.Images;
using Testbed.PageXfer.Server;

namespace Benchmarks.Daemon;

/// <summary>Our lazy-pages daemon beside minimal C programs that do the same job, interleaved, medians.</summary>
[System.Runtime.Versioning.SupportedOSPlatform("linux")]
public static class DaemonBenchmark
{
    private static string[]? s_testbed;

    /// <summary>Runs one of them.</summary>
    /// <param name="name">fault, busy, bulk, link, size, idle or start.</param>
    /// <param name="rounds">How often each peer runs.</param>
    /// <param name="output">Gets the tables.</param>
    /// <param name="scale">Divides the sizes, for a quick look with the program beside us.</param>
    public static void Run(string name, int rounds, TextWriter output, int scale = 1)
    {
        // As users start it: what the launcher builds.
        s_testbed = scale == 1 ? [Path.Combine(DaemonWorld.Root, "testbed")] : null;
        switch (name)
        {
            case "fault":
                Fault(rounds, output, scale, []);
                break;
            case "busy":
                Fault(rounds, output, scale, ["-b", "2"]);
                break;
            case "bulk":
                Bulk(rounds, output, scale);
                break;
            case "link":
                Link(rounds, output, scale);
                break;
            case "size":
                Size(rounds, output, scale);
                break;
            case "idle":
                Idle(rounds, output, scale);
                break;
            case "start":
                StartUp.Run(rounds, output);
                break;
            default:
                throw new BadInputException($"daemon {name}: expected fault, busy, bulk, link, size, idle or start");
        }
    }

    /// <summary>A fault whose page is on this machine: ours maps the images, the C handler has the pages in its own memory.</summary>
    private static void Fault(int rounds, TextWriter output, int scale, string[] process)
    {
        using var world = new DaemonWorld(65_536 / scale, testbed: s_testbed);
        string[] touching = ["-t", $"{20_000 / scale}", .. process];
        foreach ((string where, int? daemon, int? target) in new (string, int?, int?)[] { ("one CPU for both", 1, 1), ("a CPU for each", 0, 1), ("unpinned", null, null) })
        {
            Compare($"local page, {where}", rounds, output, [
                ("C", () => world.Restore(world.CHandler(), touching, daemon, target)),
                ("ours", () => world.Restore(world.Ours("--policy", "demand"), touching, daemon, target)),
            ]);
        }
    }

    /// <summary>All memory, without faults, from our page server on a processor of its own.</summary>
    private static void Bulk(int rounds, TextWriter output, int scale)
    {
        using var world = new DaemonWorld(262_144 / scale, testbed: s_testbed);
        int port = FreePort();
        foreach ((string where, int? server, int? daemon) in new (string, int?, int?)[] { ("a CPU for each", 0, 1), ("unpinned", null, null) })
        {
            using Process serving = DaemonWorld.Start(world.OurServer(port), server, null);
            try
            {
                AwaitServer(port);
                (string, Func<Seen>)[] peers =
                [
                    .. new[] { 64, 256, 1024 }.Select(chunk => ($"C, {chunk} pages", (Func<Seen>)(() => world.Restore(world.CBulk(port, chunk), ["-a"], daemon)))),
                    ("ours", () => world.Restore(world.Ours("--page-server", "--address", "127.0.0.1", "--port", $"{port}"), ["-a"], daemon)),
                ];
                Compare($"bulk of {world.Pages / 256} MB, {where}", rounds, output, peers);
            }
            finally
            {
                serving.Kill();
                serving.WaitForExit();
            }
        }
    }

    /// <summary>Demand during bulk over a shaped link of 1 Gbit/s and 1 ms.</summary>
    private static void Link(int rounds, TextWriter output, int scale)
    {
        using var world = new DaemonWorld(131_072 / scale, testbed: s_testbed);
        using PagesDirectory images = PagesDirectory.Open(world.Directory);
        using var server = new PageServer(new PageServerOptions { Source = images, Link = new LinkParameters(ByteRate.FromBitsPerSecond(1e9), Duration.FromMilliseconds(1)) });
        Compare($"{world.Pages / 256} MB over 1 Gbit/s and 1 ms, a touch every 2 ms", rounds, output, [
            ("ours", () => world.Restore(
                world.Ours("--page-server", "--address", "127.0.0.1", "--port", $"{server.EndPoint.Port}"), ["-a", "-t", "1000000", "-g", "2000"])),
            ("no touches", () => world.Restore(world.Ours("--page-server", "--address", "127.0.0.1", "--port", $"{server.EndPoint.Port}"), ["-a"])),
        ]);
    }

    /// <summary>The same number of faults, in ever more memory.</summary>
    private static void Size(int rounds, TextWriter output, int scale)
    {
        const int Touches = 16_384;
        foreach (int megabytes in new[] { 256, 1024, 4096, 12_288, 16_384 })
        {
            int pages = megabytes * 256 / scale;
            using var world = new DaemonWorld(pages, pages / (Touches / scale), testbed: s_testbed);
            string[] touching = ["-t", $"{Touches / scale}"];
            Compare($"{megabytes / scale} MB, mostly untouched", rounds, output, [
                ("C", () => world.Restore(world.CHandler(), touching, 0, 1)),
                ("ours", () => world.Restore(world.Ours("--policy", "demand"), touching, 0, 1)),
            ]);
        }
    }

    /// <summary>A process that touches little, for a short time and for a long one: what the daemon used more in the long one, idleness cost.</summary>
    private static void Idle(int rounds, TextWriter output, int scale)
    {
        using var world = new DaemonWorld(65_536 / scale, testbed: s_testbed);
        Compare("11 touches, a second apart or a millisecond", rounds, output, [
            ("ours, 10 s", () => world.Restore(world.Ours("--policy", "demand"), ["-t", "11", "-g", $"{1_000_000 / scale}"])),
            ("ours, 10 ms", () => world.Restore(world.Ours("--policy", "demand"), ["-t", "11", "-g", "1000"])),
        ]);
    }

    private static void Compare(string title, int rounds, TextWriter output, (string Name, Func<Seen> Run)[] peers)
    {
        output.WriteLine(title);
        output.WriteLine($"{"",-22} {"waits",7} {"p50 us",8} {"p99",8} {"p99.9",8} {"max",8} {"seconds",8} {"MB/s",7} {"work/s",9} {"peak MB",8} {"anon MB",8} {"CPU s",6}");
        var all = peers.Select(_ => new List<Seen>()).ToArray();
        for (int round = 0; round < rounds; round++)
        {
            for (int peer = 0; peer < peers.Length; peer++)
            {
                all[peer].Add(peers[peer].Run());
                Print(output, peers[peer].Name, all[peer][^1]);
            }
        }
        Seen[] medians = [.. all.Select(Seen.Median)];
        for (int peer = 0; peer < peers.Length; peer++)
            Print(output, $"{peers[peer].Name} median", medians[peer]);
        Seen[] c = [.. medians.Where((_, peer) => peers[peer].Name.StartsWith('C'))];
        if (c.Length > 0 && c[0].P50 > 0)
            output.WriteLine($"{"ours / C",-22} {"",7} {medians[^1].P50 / c[0].P50,8:0.00} {medians[^1].P99 / c[0].P99,8:0.00} {medians[^1].P999 / c[0].P999,8:0.00}");
        else if (c.Length > 0)
            output.WriteLine($"{"ours / best C",-22} {"",50} {medians[^1].Rate / c.Max(peer => peer.Rate),7:0.00}");
        output.WriteLine();
    }

    private static void Print(TextWriter output, string name, Seen s) => output.WriteLine(
        $"{name,-22} {s.Waits,7} {s.P50,8:0.0} {s.P99,8:0.0} {s.P999,8:0.0} {s.Max,8:0} {s.Seconds,8:0.000} {s.Rate,7:0} {s.Work,9:0} {s.PeakMemory.All,8:0} {s.PeakMemory.Anonymous,8:0} {s.Cpu,6:0.00}");

    private static void AwaitServer(int port)
    {
        for (long end = Environment.TickCount64 + 20_000; ;)
        {
            try
            {
                using var probe = new TcpClient("127.0.0.1", port);
                return;
            }
            catch (SocketException) when (Environment.TickCount64 < end)
            {
                Thread.Sleep(20);
            }
        }
    }

    private static int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }
}
