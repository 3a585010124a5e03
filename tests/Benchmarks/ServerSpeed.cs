using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using Testbed.Core;
using Testbed.PageXfer.Images;
using Testbed.PageXfer.Xfer;
using Testbed.Scenarios;

namespace Benchmarks;

/// <summary>
/// Our page server beside CRIU's, serving the same images over loopback, interleaved: server on the first processor, client on the
/// second. CRIU's takes one connection, so there a demand request waits behind the bulk before it, as in its own client: one chunk of at
/// most 4 MiB. Ours gets a lane for each, with eight times 2 MiB of bulk in flight.
/// </summary>
[System.Runtime.Versioning.SupportedOSPlatform("linux")]
public static class ServerSpeed
{
    private const uint Pid = 1000;
    private static readonly PageNumber First = new(0x10000);

    private sealed record Measured(double OneP50, double OneP99, double Small, double Bulk, double CpuPerGb, double MixedP50, double MixedP99, double MixedBulk);

    /// <summary>Prints each run and the medians.</summary>
    /// <param name="pages">Size of the images, in pages.</param>
    /// <param name="runs">Of each server.</param>
    /// <param name="only">ours, criu, or empty: both where CRIU is set up.</param>
    /// <param name="output">Gets the table.</param>
    public static void Run(int pages, int runs, string only, TextWriter output)
    {
        DirectoryInfo images = Directory.CreateTempSubdirectory("testbed-server-");
        string? criu = CriuSetup.Find();
        string[] servers = [.. ((string[])["ours", "criu"]).Where(s => (only.Length == 0 || s == only) && (s != "criu" || criu is not null))];
        Dictionary<string, List<Measured>> all = servers.ToDictionary(s => s, _ => new List<Measured>());
        using IDisposable? limits = servers.Contains("criu") ? CriuSetup.LiftPipeLimits() : null;
        nint before = Process.GetCurrentProcess().ProcessorAffinity;
        try
        {
            Write(images.FullName, pages);
            Pin(2);
            output.WriteLine("        one page p50/p99 us   small/s   bulk MB/s  CPU ms/GB   demand in bulk p50/p99 us  bulk MB/s");
            for (int run = 0; run < runs; run++)
            {
                foreach (string server in servers)
                {
                    Measured result = Measure(server, criu, images.FullName, pages);
                    all[server].Add(result);
                    Print(output, server, result);
                }
            }
            foreach (string server in servers)
                Print(output, $"{server} median", Median(all[server]));
        }
        finally
        {
            Process.GetCurrentProcess().ProcessorAffinity = before;
            images.Delete(recursive: true);
        }
    }

    private static void Write(string directory, int pages)
    {
        var range = new PageRange(First, pages);
        using (var sink = new LocalPageSink(directory, PagemapId.Task(Pid)))
        {
            sink.WritePagemap(range, PagemapFlags.Lazy | PagemapFlags.Present);
            var page = new byte[PageNumber.Size];
            for (int i = 0; i < pages; i++)
            {
                new Random(i).NextBytes(page);
                sink.WritePages(page);
            }
            sink.Complete();
        }
        ProcessImages.Write(directory, new ProcessIdentity(Pid, Pid, Pid, [Pid], Name: "bench"), ProcessImages.NewLayout(
            [ProcessImages.NewArea(range, 3, isPrivate: true, isFile: false, 0, "")]));
    }

    private static Measured Measure(string server, string? criu, string images, int pages)
    {
        int port = FreePort();
        string[] common = ["page-server", "--lazy-pages", "-D", images, "--address", "127.0.0.1", "--port", $"{port}", "--log-file", Path.Combine(images, "log"), "-v4"];
        string[] command = server == "criu" ? [criu!, .. common] : ["dotnet", Path.Combine(AppContext.BaseDirectory, "testbed.dll"), .. common, "--sessions", "0"];
        using Process process = Process.Start(new ProcessStartInfo("taskset", ["-c", "0", .. command]))!;
        try
        {
            var address = new IPEndPoint(IPAddress.Loopback, port);
            using PageLane demand = Connect(address);
            using PageLane? second = server == "criu" ? null : Connect(address);
            var client = new Client(pages);
            // Both are warm then: compiled, or with all pipes touched.
            client.OneByOne(demand, 2000);
            client.Pipelined(demand, 5000);
            (double one50, double one99) = client.OneByOne(demand, 5000);
            double small = client.Pipelined(demand, 30_000);
            int serverPid = server == "criu" ? ChildOf(process.Id) ?? process.Id : process.Id;
            TimeSpan cpu = CpuOf(serverPid);
            double bulk = client.Bulk(second ?? demand, 4);
            double cpuPerGb = (CpuOf(serverPid) - cpu).TotalMilliseconds / (4.0 * pages * PageNumber.Size / 1e9);
            (double mixed50, double mixed99, double mixedBulk) = client.Mixed(demand, second ?? demand, server == "criu" ? 1024 : 512, server == "criu" ? 1 : 8, 2000);
            return new Measured(one50, one99, small, bulk, cpuPerGb, mixed50, mixed99, mixedBulk);
        }
        catch (BadInputException e)
        {
            throw new BadInputException($"{server}: {e.Message}; its log ends with: {string.Join(" | ", File.ReadLines(Path.Combine(images, "log")).TakeLast(5))}", e);
        }
        finally
        {
            process.Kill(entireProcessTree: true);
            process.WaitForExit();
        }
    }

    private sealed class Client(int pages) : IPageReceiver
    {
        private const int BulkTag = 1 << 20, BulkPages = 512, InFlight = 8;
        private readonly byte[] _memory = new byte[4 << 20];
        private readonly Random _random = new(1);
        private long _bulkPages;
        private PageLane? _bulkLane;
        private int _bulkChunk;
        private long _bulkNext;

        public Span<byte> BufferFor(int tag, PageRange range) => _memory.AsSpan(0, (int)Math.Min(_memory.Length, range.Bytes));

        public void Arrived(int tag, PageRange range)
        {
            if (tag < BulkTag)
                return;
            _bulkPages += range.Count;
            // The last part of a chunk brings the next one on its way.
            if (_bulkLane is not null && (range.End - First) % _bulkChunk == 0)
                AskBulk();
        }

        public (double P50, double P99) OneByOne(PageLane lane, int count)
        {
            var times = new double[count];
            for (int i = 0; i < count; i++)
            {
                long begin = Stopwatch.GetTimestamp();
                lane.Request(0, Pid, Any());
                Finish(lane);
                times[i] = Stopwatch.GetElapsedTime(begin).TotalMicroseconds;
            }
            Array.Sort(times);
            return (times[count / 2], times[count * 99 / 100]);
        }

        public double Pipelined(PageLane lane, int count)
        {
            long begin = Stopwatch.GetTimestamp();
            for (int sent = 0; sent < count || lane.Outstanding > 0;)
            {
                for (; sent < count && lane.Outstanding < 64; sent++)
                    lane.Request(0, Pid, Any());
                Turn(lane);
            }
            return count / Stopwatch.GetElapsedTime(begin).TotalSeconds;
        }

        /// <summary>All pages, so many times; MB/s.</summary>
        public double Bulk(PageLane lane, int times)
        {
            long begin = Stopwatch.GetTimestamp();
            long next = 0, end = (long)times * pages / BulkPages;
            while (next < end || lane.Outstanding > 0)
            {
                for (; next < end && lane.Outstanding < InFlight; next++)
                    lane.Request(BulkTag, Pid, new PageRange(First + next * BulkPages % pages, BulkPages));
                Turn(lane);
            }
            return times * (double)pages * PageNumber.Size / 1e6 / Stopwatch.GetElapsedTime(begin).TotalSeconds;
        }

        /// <summary>Single pages, a millisecond apart, while bulk never stops.</summary>
        public (double P50, double P99, double Bulk) Mixed(PageLane demand, PageLane bulk, int chunk, int inFlight, int count)
        {
            (_bulkLane, _bulkChunk, _bulkNext, _bulkPages) = (bulk, chunk, 0, 0);
            var times = new double[count];
            for (int i = 0; i < inFlight; i++)
                AskBulk();
            long start = Stopwatch.GetTimestamp();
            int asked = 0;
            for (int i = 0; i < count; i++)
            {
                for (long due = Stopwatch.GetTimestamp(); Stopwatch.GetElapsedTime(due).TotalMilliseconds < 1;)
                    Pump(bulk);
                long begin = Stopwatch.GetTimestamp();
                _waiting = true;
                demand.Request(asked++ & 0xff, Pid, Any());
                while (_waiting)
                {
                    demand.Receive(new Demand(this));
                    if (_waiting && bulk != demand)
                        Pump(bulk);
                }
                times[i] = Stopwatch.GetElapsedTime(begin).TotalMicroseconds;
            }
            double rate = _bulkPages * (double)PageNumber.Size / 1e6 / Stopwatch.GetElapsedTime(start).TotalSeconds;
            _bulkLane = null;
            Finish(bulk);
            Array.Sort(times);
            return (times[count / 2], times[count * 99 / 100], rate);
        }

        private bool _waiting;

        private sealed class Demand(Client client) : IPageReceiver
        {
            public Span<byte> BufferFor(int tag, PageRange range) => client.BufferFor(tag, range);

            public void Arrived(int tag, PageRange range)
            {
                client.Arrived(tag, range);
                client._waiting &= tag >= BulkTag;
            }
        }

        private void AskBulk()
        {
            _bulkLane!.Request(BulkTag, Pid, new PageRange(First + _bulkNext % pages, _bulkChunk));
            _bulkNext += _bulkChunk;
        }

        private PageRange Any() => PageRange.Single(First + _random.Next(pages));

        private void Pump(PageLane lane)
        {
            if (lane.WantsWrite)
                lane.Flush();
            lane.Receive(this);
        }

        private void Turn(PageLane lane)
        {
            lane.Socket.Poll(-1, lane.WantsWrite ? SelectMode.SelectWrite : SelectMode.SelectRead);
            Pump(lane);
        }

        private void Finish(PageLane lane)
        {
            while (lane.Outstanding > 0)
                Turn(lane);
        }
    }

    private static Measured Median(List<Measured> all)
    {
        double Of(Func<Measured, double> value) => all.Select(value).Order().ElementAt(all.Count / 2);
        return new Measured(Of(m => m.OneP50), Of(m => m.OneP99), Of(m => m.Small), Of(m => m.Bulk), Of(m => m.CpuPerGb), Of(m => m.MixedP50), Of(m => m.MixedP99), Of(m => m.MixedBulk));
    }

    private static void Print(TextWriter output, string name, Measured m) => output.WriteLine(
        $"{name,-12} {m.OneP50,8:0.0} {m.OneP99,8:0.0} {m.Small,12:0} {m.Bulk,10:0} {m.CpuPerGb,10:0} {m.MixedP50,14:0} {m.MixedP99,10:0} {m.MixedBulk,12:0}");

    private static PageLane Connect(EndPoint address)
    {
        for (long end = Environment.TickCount64 + 20_000; ;)
        {
            try
            {
                return PageLane.Connect(address);
            }
            catch (BadInputException) when (Environment.TickCount64 < end)
            {
                Thread.Sleep(20);
            }
        }
    }

    private static void Pin(nint mask)
    {
        if (Environment.ProcessorCount > 1)
            Process.GetCurrentProcess().ProcessorAffinity = mask;
    }

    private static int? ChildOf(int pid) =>
        File.ReadAllText($"/proc/{pid}/task/{pid}/children").Split(' ', StringSplitOptions.RemoveEmptyEntries) is [var child, ..] ? int.Parse(child) : null;

    private static TimeSpan CpuOf(int pid)
    {
        string stat = File.ReadAllText($"/proc/{pid}/stat");
        string[] fields = stat[(stat.LastIndexOf(')') + 2)..].Split(' ');
        return TimeSpan.FromSeconds((long.Parse(fields[11]) + long.Parse(fields[12])) / 100.0);
    }

    private static int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }
}
