using System.Buffers.Binary;
using System.Text;
using Testbed.Core;
using Testbed.Traces.Exchange;
using ZstdSharp;

namespace Testbed.Traces.Tests;

/// <summary>What other tools have really written (Inputs/), and what a bad line of it is answered with.</summary>
public class ImportTests
{
    private static readonly string Inputs = Path.Combine(TestContext.CurrentContext.TestDirectory, "Inputs");

    private static Trace Read(string format, string file) => Read(format, File.ReadAllBytes(Path.Combine(Inputs, file)), file);

    private static Trace Read(string format, byte[] bytes, string name = "input") =>
        ExchangeFormat.Named(format, export: false).Import!(new MemoryStream(bytes), name);

    [Test]
    public void CriuLazyPagesLog()
    {
        Trace trace = Read("criu-log", "criu-lazy-pages.log");
        Assert.That(trace.Faults, Has.Length.EqualTo(17), "lines with #PF");
        Assert.That(trace.Image.PresentPages, Is.EqualTo(3316), "as its last line says");
        Assert.That(trace.Header.Kind, Is.EqualTo(RecordingKind.Live), "the background transfer hides touches");
        Assert.That(trace.Header.TargetPid, Is.EqualTo(1002));
        FaultRecord fault = trace.Faults.Single(f => f.Page.Address == 0x7f07837fe000);
        // (01.039146) #PF, (01.039147) Read, (01.039150) uffd_copy
        Assert.That((fault.Requested - fault.Woken).Nanoseconds, Is.EqualTo(1000));
        Assert.That(fault.Latency.Nanoseconds, Is.EqualTo(4000));
        Assert.That(trace.Faults[0].Woken, Is.EqualTo(Instant.Zero));
    }

    [Test]
    public void PerfTrace()
    {
        Trace trace = Read("perf-trace", "perf-trace.txt");
        Assert.That(trace.Threads.Select(t => t.Tid), Is.SupersetOf(new[] { 27782, 27785 }));
        Assert.That(trace.Threads[0].Name, Is.EqualTo("python3"));
        int printed = File.ReadLines(Path.Combine(Inputs, "perf-trace.txt")).Count();
        Assert.That(trace.Faults, Has.Length.EqualTo(printed - int.Parse(trace.Header.Properties["faults-on-files-left-out"])));
        Assert.That(trace.Faults, Has.Length.GreaterThan(80));
        Assert.That(trace.FirstTouches().OutsideAreas, Is.Zero);
    }

    [Test]
    public void PerfScript([Values("perf-script-page-faults.txt", "perf-script-fields.txt", "perf-script-tracepoint.txt")] string file)
    {
        Trace trace = Read("perf-script", file);
        Assert.That(trace.Faults, Has.Length.EqualTo(File.ReadLines(Path.Combine(Inputs, file)).Count(l => !l.Contains("page_fault_kernel"))));
        Assert.That(trace.Threads, Has.Count.EqualTo(file.Contains("tracepoint") ? 3 : 1));
        Assert.That(trace.Faults.Count(f => f.Access == Access.Write), file.Contains("tracepoint") ? Is.GreaterThan(20) : Is.Zero);
        Assert.That(trace.Header.TargetPid, Is.EqualTo(file.Contains("fields") ? 27791 : 0), "the pid, where it was printed");
    }

    [Test]
    public void PerfScript_takes_the_faults_when_other_events_lie_between()
    {
        Trace trace = Read("perf-script", "perf-script-mixed.txt");
        string[] lines = File.ReadAllLines(Path.Combine(Inputs, "perf-script-mixed.txt"));
        // Every fault is also a minor-faults sample, and beside it are sched:sched_switch, cpu-clock and perf's own records.
        Assert.That(trace.Faults, Has.Length.EqualTo(lines.Count(l => l.Contains(" page-faults", StringComparison.Ordinal))));
        Assert.That(trace.Faults, Has.Length.EqualTo(35));
        Assert.That(trace.Faults[0].Page, Is.EqualTo(PageNumber.Of(Convert.ToUInt64(
            lines.First(l => l.Contains(" page-faults", StringComparison.Ordinal)).Split("/:")[1].Trim().Split(' ')[0], 16))));
        string alone = string.Join('\n', lines.Where(l => !l.Contains(" page-faults", StringComparison.Ordinal)));
        Assert.That(Read("perf-script", Encoding.UTF8.GetBytes(alone)).Faults, Has.Length.EqualTo(lines.Count(l => l.Contains(" minor-faults", StringComparison.Ordinal))),
            "without page-faults, minor-faults are what there is");
    }

    [Test]
    public void PerfScript_takes_the_faults_with_call_chains()
    {
        Trace trace = Read("perf-script", "perf-script-chains.txt");
        Assert.That(trace.Faults, Has.Length.EqualTo(
            File.ReadLines(Path.Combine(Inputs, "perf-script-chains.txt")).Count(l => l.Contains(" page-faults", StringComparison.Ordinal))));
        Assert.That(trace.Faults.Select(f => f.Page), Does.Contain(PageNumber.Of(0x7f322fc66110)));
    }

    [TestCase("            dd 4711 [001]  3376.900001: raw_syscalls:sys_exit: NR 0 = 4096")]
    [TestCase("            dd 4711 [001]  3376.900001: probe:page-faults_in: (ffffffff81000000)")]
    [TestCase("       .NET TP Worker 4711/4712 [000]  3376.900001:          1 cpu/cycles/Pu:  7f00deadbeef work+0x1 (/usr/bin/x)")]
    [TestCase("         swapper     0 [000]  3376.900001: power:cpu_idle: state=1 cpu_id=0")]
    [TestCase("         python3 27791/27791  3376.900001: PERF_RECORD_LOST lost 12")]
    [TestCase("         python3 27791/27791  3376.900001: syscalls:sys_enter_write: fd: 0x1, buf: 0x7f00 \"page-faults: 12\"")]
    public void PerfScript_passes_over_other_events(string other)
    {
        string[] lines = File.ReadAllLines(Path.Combine(Inputs, "perf-script-fields.txt"));
        byte[] input = Encoding.UTF8.GetBytes(string.Join('\n', lines.SelectMany(l => new[] { l, other })));
        Assert.That(Read("perf-script", input).Faults, Is.EqualTo(Read("perf-script", "perf-script-fields.txt").Faults));
    }

    [Test]
    public void PerfTrace_passes_over_system_calls()
    {
        string[] lines = File.ReadAllLines(Path.Combine(Inputs, "perf-trace.txt"));
        const string other = "     0.812 ( 0.004 ms): python3/27782 openat(dfd: CWD, filename: \"/tmp/minfault majfault\") = 3";
        byte[] input = Encoding.UTF8.GetBytes(string.Join('\n', lines.SelectMany(l => new[] { l, other })));
        Assert.That(Read("perf-trace", input).Faults, Is.EqualTo(Read("perf-trace", "perf-trace.txt").Faults));
    }

    [Test]
    public void PerfScriptReadsAddressAndTime()
    {
        Trace trace = Read("perf-script", "perf-script-tracepoint.txt");
        Assert.That(trace.Faults[1].Page, Is.EqualTo(PageNumber.Of(0x7ffd3c3f3ff8)));
        Assert.That(trace.Faults[1].Access, Is.EqualTo(Access.Write), "error code 6: user, write");
        Assert.That(trace.Faults[1].Woken.Nanoseconds, Is.EqualTo(218_000), "3378.455416 after 3378.455198");
    }

    [Test]
    public void Lackey()
    {
        Trace trace = Read("lackey", "lackey.txt");
        // None of these accesses crosses a page.
        var first = new Dictionary<string, (long Instruction, bool Reads)>();
        long instructions = 0;
        foreach (string line in File.ReadLines(Path.Combine(Inputs, "lackey.txt")))
        {
            instructions += line.StartsWith("I ") ? 1 : 0;
            if (line.StartsWith(' '))
                first.TryAdd(line[3..line.IndexOf(',')][..^3], (instructions, line[1] == 'L'));
        }
        Assert.That(trace.Faults.Select(f => ($"{f.Page.Value:x}", f.Woken.Nanoseconds, f.Access == Access.Read)).Order(),
            Is.EqualTo(first.Select(p => (p.Key.TrimStart('0'), p.Value.Instruction - 2, p.Value.Reads)).Order()), "an instruction is a nanosecond; the first store is after two");
    }

    [Test]
    public void OracleGeneral([Values] bool packed)
    {
        byte[] plain = [.. Record(100, 7, 4096, 3), .. Record(100, 9, 512, -1), .. Record(101, 7, 4096, -1), .. Record(103, 8, 1, -1)];
        using var compressor = new Compressor();
        Trace trace = Read("oracle-general", packed ? compressor.Wrap(plain).ToArray() : plain);
        Assert.That(trace.Faults.Select(f => (f.Page.Value, f.Woken.Nanoseconds)),
            Is.EqualTo(new[] { (7UL, 0L), (9UL, 500_000_000L), (8UL, 3_000_000_000L) }), "first requests; two in one second are half a second apart");
        Assert.That(trace.Header.Properties["requests"], Is.EqualTo("4"));
    }

    [Test]
    public void OracleGeneralWithHashesIsNumbered()
    {
        Trace trace = Read("oracle-general", [.. Record(1, ulong.MaxValue, 1, -1), .. Record(2, 5, 1, -1)]);
        Assert.That(trace.Faults.Select(f => f.Page.Value), Is.EqualTo(new[] { 1UL, 0UL }));
        Assert.That(trace.Image.PresentPages, Is.EqualTo(2));
    }

    private static byte[] Record(uint time, ulong id, uint size, long next)
    {
        byte[] record = new byte[24];
        BinaryPrimitives.WriteUInt32LittleEndian(record, time);
        BinaryPrimitives.WriteUInt64LittleEndian(record.AsSpan(4), id);
        BinaryPrimitives.WriteUInt32LittleEndian(record.AsSpan(12), size);
        BinaryPrimitives.WriteInt64LittleEndian(record.AsSpan(16), next);
        return record;
    }

    [TestCase("criu-log", "criu-lazy-pages.log", "(01.000001) uffd: 12-3: #PF at 0xzz")]
    [TestCase("criu-log", "criu-lazy-pages.log", "uffd: 12-3: #PF at 0x1000")]
    [TestCase("criu-log", "criu-lazy-pages.log", "(01.000001) uffd: 12-3: uffd_copy: 0x1000/")]
    [TestCase("criu-log", "criu-lazy-pages.log", "(01.000001) uffd: 12-3: uffd_copy: 0x1000/0")]
    [TestCase("criu-log", "criu-lazy-pages.log", "(01.000001) uffd: 12-3: #PF at 0x11111111111111111")]
    [TestCase("perf-trace", "perf-trace.txt", "   12.3 ( 0.000 ms): python3/x minfault [a] => 0x12 (?k)")]
    [TestCase("perf-trace", "perf-trace.txt", "   99999999999999999999999999999999.3 ( 0.000 ms): python3/1 minfault [a] => 0x1200 (?k)")]
    [TestCase("perf-script", "perf-script-page-faults.txt", "ls 11167   500.701003:          1 page-faults:  ffffffff817554ea elf_load+0x28a ([kernel.kallsyms])")]
    [TestCase("perf-script", "perf-script-tracepoint.txt", "python3 27866 [001]  3378.455198:   exceptions:page_fault_user: address=0x7fbeb8ffad40")]
    [TestCase("perf-script", "perf-script-tracepoint.txt", "python3 [001]  exceptions:page_fault_user: address=0x7fbeb8ffad40")]
    [TestCase("lackey", "lackey.txt", " L 1ffeffe7e0")]
    [TestCase("lackey", "lackey.txt", " X 1ffeffe7e0,8")]
    [TestCase("lackey", "lackey.txt", " S 1ffeffe7e0,0")]
    [TestCase("lackey", "lackey.txt", " S fffffffffffffff0,99")]
    public void ABadLineIsNamed(string format, string file, string bad)
    {
        string[] lines = File.ReadAllLines(Path.Combine(Inputs, file));
        byte[] input = Encoding.UTF8.GetBytes(string.Join('\n', [.. lines[..40], bad, .. lines[40..]]));
        Assert.That(() => Read(format, input), Throws.TypeOf<BadInputException>()
            .With.Message.StartsWith("input: line 41: ").And.Message.Contains("expected"));
    }

    [Test]
    public void ABadRecordIsNamed()
    {
        Assert.That(() => Read("oracle-general", [.. Record(1, 1, 1, -1), .. Record(2, 1, 1, -1)[..7]]), Throws.TypeOf<BadInputException>().With.Message.Contains("record 1: cut off after 7 bytes"));
        Assert.That(() => Read("oracle-general", [.. Record(5, 1, 1, -1), .. Record(2, 1, 1, -1)]), Throws.TypeOf<BadInputException>().With.Message.Contains("record 1: time 2 after 5"));
    }

    [Test]
    public void OtherFilesHaveNoFaults([Values("criu-log", "perf-trace", "perf-script", "lackey", "oracle-general")] string format) =>
        Assert.That(() => Read(format, []), Throws.TypeOf<BadInputException>().With.Message.Contains("no page faults in it; expected"));

    [Test]
    public void GarbageNeverGivesAnotherException([Values] bool inLines)
    {
        var random = new Random(5);
        string[] files = ["criu-lazy-pages.log", "perf-trace.txt", "perf-script-page-faults.txt", "perf-script-tracepoint.txt", "lackey.txt"];
        string[] formats = ["criu-log", "perf-trace", "perf-script", "perf-script", "lackey"];
        for (int round = 0; round < 1500; round++)
        {
            int which = random.Next(files.Length);
            string[] lines = File.ReadAllLines(Path.Combine(Inputs, files[which]));
            int from = random.Next(lines.Length - 30);
            byte[] bytes = Encoding.UTF8.GetBytes(string.Join('\n', lines[from..(from + 30)]));
            for (int i = 0; i < 4; i++)
                bytes[random.Next(bytes.Length)] = inLines ? (byte)"0123456789abcdefx.,:/ ()"[random.Next(24)] : (byte)random.Next(256);
            try
            {
                Read(formats[which], bytes).FirstTouches();
            }
            catch (BadInputException e)
            {
                Assert.That(e.Message, Does.StartWith("input: ").And.Not.Contain("\n"));
            }
        }
    }

    [Test]
    public void AnImportedTraceCanBeSavedAndLoaded()
    {
        string folder = Directory.CreateTempSubdirectory("testbed-import-").FullName;
        try
        {
            string path = Path.Combine(folder, "p.trace");
            Trace trace = Read("perf-script", "perf-script-fields.txt");
            trace.Save(path);
            Trace loaded = Trace.Load(path);
            Assert.That(loaded.Faults, Is.EqualTo(trace.Faults));
            Assert.That(loaded.Threads, Is.EqualTo(trace.Threads));
            Assert.That(loaded.IsComplete);
            Assert.That(loaded.FirstTouches().Count, Is.GreaterThan(40));
            Assert.That(Directory.GetFiles(folder), Has.Length.EqualTo(1));
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }
}
