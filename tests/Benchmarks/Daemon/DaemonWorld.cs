using System.Diagnostics;
using System.Globalization;
using Testbed.Core;
using Testbed.PageXfer.Images;

namespace Benchmarks.Daemon;

/// <summary>What a restored process saw, times in microseconds; and what the daemon used.</summary>
/// <param name="Waits">Touches that had to wait.</param>
/// <param name="P50">Their median.</param>
/// <param name="P99">Their 99th percentile.</param>
/// <param name="P999">Their 99.9th.</param>
/// <param name="Max">The longest.</param>
/// <param name="Seconds">From the end of the restore to the last touch, or until all was in.</param>
/// <param name="Rate">When all came in: MB/s of memory.</param>
/// <param name="Work">What computing threads got done, a second.</param>
/// <param name="PeakMemory">The daemon's largest resident set, MB: all of it, and without pages of files (VmHWM, RssAnon).</param>
/// <param name="Cpu">The daemon's processor time, seconds.</param>
public sealed record Seen(
    int Waits, double P50, double P99, double P999, double Max, double Seconds, double Rate, double Work, (double All, double Anonymous) PeakMemory, double Cpu)
{
    /// <summary>The median of each number by itself.</summary>
    public static Seen Median(IReadOnlyList<Seen> all)
    {
        double Of(Func<Seen, double> value) => all.Select(value).Order().ElementAt(all.Count / 2);
        return new Seen((int)Of(s => s.Waits), Of(s => s.P50), Of(s => s.P99), Of(s => s.P999), Of(s => s.Max), Of(s => s.Seconds), Of(s => s.Rate), Of(s => s.Work),
            (Of(s => s.PeakMemory.All), Of(s => s.PeakMemory.Anonymous)), Of(s => s.Cpu));
    }
}

/// <summary>
/// A process whose memory is away (restorer.c), and a daemon that serves it: ours as users start it, or a minimal one in C (handler.c), over
/// images of the same content.
/// </summary>
[System.Runtime.Versioning.SupportedOSPlatform("linux")]
public sealed class DaemonWorld : IDisposable
{
    private const uint Pid = 1000;
    private static readonly PageNumber First = PageNumber.Of(0x10_0000_0000);

    private readonly string _restorer, _handler;
    private readonly string[] _testbed;
    private readonly int _stride;

    /// <summary>Compiles the C programs, and writes images.</summary>
    /// <param name="pages">Pages of the process.</param>
    /// <param name="stride">Which of them hold something.</param>
    /// <param name="testbed">Our program; null: the one beside us, which is compiled as it runs.</param>
    public DaemonWorld(int pages, int stride = 1, string[]? testbed = null)
    {
        (Pages, _stride) = (pages, stride);
        _testbed = testbed ?? ["dotnet", Path.Combine(AppContext.BaseDirectory, "testbed.dll")];
        Directory = System.IO.Directory.CreateTempSubdirectory("testbed-daemon-").FullName;
        _restorer = Compile("restorer");
        _handler = Compile("handler");
        WriteImages();
    }

    /// <summary>Where the images are.</summary>
    public string Directory { get; }

    /// <summary>Pages of the process.</summary>
    public int Pages { get; }

    /// <summary>Our daemon with these options, its memory in images here unless they say otherwise.</summary>
    public string[] Ours(params string[] options) => [.. _testbed, "lazy-pages", "-D", Directory, "-o", "lazy.log", "-v4", .. options];

    /// <summary>Our page server, on a port of its own choice.</summary>
    public string[] OurServer(int port) => [.. _testbed, "page-server", "--lazy-pages", "--sessions", "0", "-D", Directory, "--address", "127.0.0.1", "--port", $"{port}", "-o", "server.log", "-v4"];

    /// <summary>The minimal handler of faults, which copies from its own memory.</summary>
    public string[] CHandler(params string[] options) => [_handler, Directory, "local", $"{First.Address:x}", $"{Pages}", $"{_stride}", .. options];

    /// <summary>The minimal client of a page server, which receives and copies so many pages at a time.</summary>
    public string[] CBulk(int port, int chunk) => [_handler, Directory, "bulk", $"{First.Address:x}", $"{Pages}", $"{Pid}", $"{port}", $"{chunk}"];

    /// <summary>Restores the process under a daemon; each on a processor of its own choice, or where the kernel puts it.</summary>
    public Seen Restore(string[] daemon, string[] process, int? daemonCpu = null, int? processCpu = null)
    {
        using Process serving = Start(daemon, daemonCpu, null);
        try
        {
            using Process restored = Start([_restorer, .. process, Directory, $"{Pid}", $"{First.Address:x}", $"{Pages}", $"{_stride}"], processCpu, restorer: true);
            // Looked at while it runs: it may end, and be gone, as soon as all is in.
            Task<string?> line = restored.StandardOutput.ReadLineAsync();
            Seen used = Use(serving.Id, new Seen(0, 0, 0, 0, 0, 0, 0, 0, default, 0));
            while (!line.Wait(50))
                used = Use(serving.Id, used);
            Seen? seen = line.Result is { } words ? Read(words, Use(serving.Id, used)) : null;
            restored.StandardInput.Close();
            restored.WaitForExit();
            return seen ?? throw new InvalidOperationException($"the restored process ended with {restored.ExitCode}; {LogOf("lazy.log")}");
        }
        finally
        {
            // Ours ends by itself when the process is gone.
            if (!serving.WaitForExit(TimeSpan.FromSeconds(1)))
                serving.Kill();
            serving.WaitForExit();
        }
    }

    /// <summary>Starts a program on a processor, or anywhere.</summary>
    public static Process Start(string[] command, int? cpu, bool? restorer)
    {
        string[] whole = cpu is { } number ? ["taskset", "-c", $"{number % Environment.ProcessorCount}", .. command] : command;
        return Process.Start(new ProcessStartInfo(whole[0], whole[1..]) { RedirectStandardInput = restorer is true, RedirectStandardOutput = restorer is true })!;
    }

    /// <summary>The end of a log, for messages.</summary>
    public string LogOf(string name) => File.Exists(Path.Combine(Directory, name)) ? string.Join(" | ", File.ReadLines(Path.Combine(Directory, name)).TakeLast(3)) : "no log";

    /// <inheritdoc/>
    public void Dispose() => System.IO.Directory.Delete(Directory, recursive: true);

    /// <summary>The checkout.</summary>
    public static string Root
    {
        get
        {
            DirectoryInfo? folder = new(AppContext.BaseDirectory);
            while (folder is not null && !File.Exists(Path.Combine(folder.FullName, "Testbed.sln")))
                folder = folder.Parent;
            return folder?.FullName ?? throw new InvalidOperationException("Testbed.sln is not above the benchmarks; run them from a clone");
        }
    }

    private static string Compile(string name)
    {
        string source = Path.Combine(AppContext.BaseDirectory, "Daemon", name + ".c"), program = Path.Combine(AppContext.BaseDirectory, name);
        using Process gcc = Process.Start("gcc", ["-O2", "-pthread", "-o", program, source]);
        gcc.WaitForExit();
        return gcc.ExitCode == 0 ? program : throw new InvalidOperationException($"gcc {source}: exit code {gcc.ExitCode}");
    }

    private void WriteImages()
    {
        using (FileStream pagemap = File.Create(Path.Combine(Directory, PagemapId.Task(Pid).FileName)))
        {
            ImageFile.WriteHead(pagemap, ImageMagic.Pagemap);
            ImageFile.WriteRecord(pagemap, new PagemapHead { PagesId = 1 });
            ImageFile.WriteRecord(pagemap, new PagemapEntry
            {
                Vaddr = First.Address,
                CompatNrPages = 0,
                NrPages = (ulong)Pages,
                Flags = (uint)(PagemapFlags.Lazy | PagemapFlags.Present),
            });
        }
        ProcessImages.Write(Directory, new ProcessIdentity(Pid, Pid, Pid, [Pid], Name: "bench"), ProcessImages.NewLayout(
            [ProcessImages.NewArea(new PageRange(First, Pages), 3, isPrivate: true, isFile: false, 0, "")]));
        // What holds nothing is a hole of the file: gigabytes of it cost neither disk nor time.
        using Microsoft.Win32.SafeHandles.SafeFileHandle pages = File.OpenHandle(Path.Combine(Directory, "pages-1.img"), FileMode.CreateNew, FileAccess.Write);
        RandomAccess.SetLength(pages, (long)Pages * PageNumber.Size);
        int length = _stride == 1 ? PageNumber.Size : sizeof(ulong);
        byte[] content = new byte[length];
        for (long i = 0; i < Pages; i += _stride)
        {
            BitConverter.TryWriteBytes(content, (ulong)(i + 1) * 0x9E3779B97F4A7C15);
            RandomAccess.Write(pages, content, i * PageNumber.Size);
        }
    }

    /// <summary>Memory and processor time of a process now, or, when it is gone, as it was.</summary>
    private static Seen Use(int pid, Seen before)
    {
        try
        {
            double Of(string name) => double.Parse(
                File.ReadLines($"/proc/{pid}/status").First(line => line.StartsWith(name, StringComparison.Ordinal)).Split([' ', '\t'], StringSplitOptions.RemoveEmptyEntries)[1]) / 1024;
            using Process process = Process.GetProcessById(pid);
            return before with { PeakMemory = (Of("VmHWM"), Math.Max(Of("RssAnon"), before.PeakMemory.Anonymous)), Cpu = process.TotalProcessorTime.TotalSeconds };
        }
        catch (Exception e) when (e is IOException or InvalidOperationException or ArgumentException)
        {
            return before;
        }
    }

    private static Seen Read(string line, Seen used)
    {
        string[] words = line.Split(' ');
        double Of(string name) => double.Parse(words[Array.IndexOf(words, name) + 1], CultureInfo.InvariantCulture);
        return used with
        {
            Waits = (int)Of("waits"),
            P50 = Of("p50"),
            P99 = Of("p99"),
            P999 = Of("p999"),
            Max = Of("max"),
            Seconds = Of("seconds"),
            Rate = Of("rate"),
            Work = Of("work"),
        };
    }
}
