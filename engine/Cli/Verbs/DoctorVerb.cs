using System.CommandLine;
using System.Runtime.InteropServices;
using SkiaSharp;
using Testbed.Cli.Migration;
using Testbed.Live;
using Testbed.Scenarios;
using Testbed.Uffd;

namespace Testbed.Cli.Verbs;

/// <summary>testbed doctor</summary>
internal static class DoctorVerb
{
    private static string SetUp => $"as root: {CriuSetup.Script("debian.sh")}";

    /// <summary>Programs of the workloads and of the tests, and what is lost without each.</summary>
    private static readonly (string Name, string LostWithout)[] Programs =
    [
        ("redis-server", "redis workloads; the demo's live part then runs python3"),
        ("memcached", "memcached workloads"),
        ("/usr/bin/python3", "the python workload, and a test that reads traces by their description"),
        ("node", "the node workload"),
        ("java", "the java workload"),
        ("gcc", "tests of the kernel interface against the kernel's headers, and of live processes"),
    ];

    public static Command Create()
    {
        var command = new Command("doctor", """
            Show what this host can do, found out by trying, and what to do about what is missing. Exit code 1 when processes cannot
            be captured live here; replay works everywhere.

            Example:
              testbed doctor
            """);
        command.SetAction(_ => Examine());
        return command;
    }

    private static int Examine()
    {
        IReadOnlyList<HostCapability> kernel = HostCapabilities.Probe(CriuSetup.Find(), CriuSetup.Script("criu.sh"), PipeLimits.PipeBytes);
        IReadOnlyList<HostCapability> migration = MigrationNeeds.Probe(CriuSetup.Find());
        Print("This host", Host());
        Print("Live capture, and migration with CRIU", kernel);
        Print("Migration between namespaces of this machine (testbed migrate)", migration);
        Print("Programs", Programs.Select(Program));
        Console.WriteLine("Replay and reports work here.");
        Console.WriteLine(migration.FirstOrDefault(m => m.Status == CapabilityStatus.Missing) is { } need
            ? $"Migration does not: {need.Name}: {need.Detail}; {need.Remedy}"
            : "Migration works here.");
        if (HostCapabilities.WhyNoCapture(kernel) is { } reason)
        {
            Console.WriteLine($"Live capture does not: {reason}");
            return 1;
        }
        Console.WriteLine("Live capture works here.");
        return 0;
    }

    private static void Print(string title, IEnumerable<HostCapability> rows)
    {
        Console.WriteLine(title);
        foreach (HostCapability row in rows)
        {
            (string name, string status) = (row.Name, StatusOf(row));
            foreach (string line in Wrap(row.Detail).Concat(row.Remedy.Length == 0 ? [] : Wrap("to do: " + row.Remedy)))
            {
                Console.WriteLine($"  {name,-24} {status,-8} {line}");
                (name, status) = ("", "");
            }
        }
        Console.WriteLine();
    }

    private static IEnumerable<string> Wrap(string text)
    {
        const int Width = 84;
        string line = "";
        foreach (string word in text.Split(' '))
        {
            if (line.Length > 0 && line.Length + 1 + word.Length > Width)
            {
                yield return line;
                line = "";
            }
            line += (line.Length > 0 ? " " : "") + word;
        }
        yield return line;
    }

    private static string StatusOf(HostCapability row) => row.Status switch
    {
        CapabilityStatus.Available => "ok",
        CapabilityStatus.Limited => "limited",
        _ => "missing",
    };

    private static IEnumerable<HostCapability> Host()
    {
        (string kernel, string cpu) = HostFacts.Read();
        yield return Fact("kernel", $"{kernel}, {RuntimeInformation.OSArchitecture}");
        yield return Fact("processor", $"{cpu}, {Environment.ProcessorCount} CPUs",
            Environment.ProcessorCount > 1 ? "" : "with one CPU the page server, the daemon and the target take turns: live latencies are not typical");
        yield return Fact("memory", $"{GC.GetGCMemoryInfo().TotalAvailableMemoryBytes / (double)(1 << 30):0.0} GiB");
        yield return Fact(".NET runtime", RuntimeInformation.FrameworkDescription);
        yield return Figures();
    }

    private static HostCapability Fact(string name, string detail, string remedy = "") =>
        new(name, remedy.Length == 0 ? CapabilityStatus.Available : CapabilityStatus.Limited, detail, remedy, false);

    /// <summary>The library that draws is native, and without a font it would draw no text and say nothing.</summary>
    private static HostCapability Figures()
    {
        const string Font = "TestbedSans-Regular.ttf";
        try
        {
            using Stream? stream = typeof(Reports.Report).Assembly.GetManifestResourceStream(Font);
            using SKTypeface? font = stream is null ? null : SKTypeface.FromStream(stream);
            return font is null
                ? new HostCapability("figures", CapabilityStatus.Missing, $"{Font} in Testbed.Reports cannot be read", "build again", false)
                : Fact("figures", $"{font.FamilyName} is shipped with the program; no font of the host is used");
        }
        catch (Exception e) when (e is DllNotFoundException or TypeInitializationException)
        {
            return new HostCapability("figures", CapabilityStatus.Missing, (e.InnerException ?? e).Message.Split('\n')[0],
                "reports need Skia's library for this platform: linux-x64 with glibc is built", false);
        }
    }

    private static HostCapability Program((string Name, string LostWithout) program)
    {
        string? found = (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':', StringSplitOptions.RemoveEmptyEntries)
            .Select(directory => Path.Combine(directory, program.Name)).FirstOrDefault(File.Exists);
        return found is not null
            ? Fact(program.Name, found)
            : new HostCapability(program.Name, CapabilityStatus.Missing, $"left out without it: {program.LostWithout}", SetUp, false);
    }
}
