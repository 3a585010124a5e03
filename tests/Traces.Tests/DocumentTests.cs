using System.ComponentModel;
using System.Diagnostics;
using System.Globalization;
using Testbed.Core;

namespace Testbed.Traces.Tests;

/// <summary>FORMAT.md promises that a reader can be written from it: the one that stands in it is run.</summary>
public class DocumentTests
{
    [Test]
    public void TheReaderInTheDocumentReadsWhatTheWriterWrote()
    {
        if (!Runs("python3", "--version") || !Runs("zstd", "--version"))
            Assert.Ignore("python3 or zstd is not installed: the reader of FORMAT.md was NOT tried");
        string document = File.ReadAllText(Path.Combine(TestContext.CurrentContext.TestDirectory, "FORMAT.md"));
        string code = document.Split("```python\n")[1].Split("```")[0];
        string folder = Directory.CreateTempSubdirectory("trace-format-").FullName;
        try
        {
            File.WriteAllText(Path.Combine(folder, "read.py"), code);
            FaultRecord[] faults = Samples.Faults(TraceWriter.BlockRecords + 100);
            faults[5] = faults[5] with { Cause = Cause.Prefetch, Requested = new(faults[5].Woken.Nanoseconds - 10), Space = 3 };
            File.WriteAllBytes(Path.Combine(folder, "t.trace"), Samples.Write(Samples.Header(), faults, Samples.EveryEvent(), Samples.End));
            (int exit, string output) = Run("python3", Path.Combine(folder, "read.py"), Path.Combine(folder, "t.trace"));
            Assert.That(exit, Is.Zero);
            Assert.That(output.TrimEnd().Split('\n')[1..], Is.EqualTo(faults.Select(Line)));
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static string Line(FaultRecord f) => string.Create(CultureInfo.InvariantCulture,
        $"{f.Space},{f.Thread},{f.Page},{f.Access.ToString().ToLowerInvariant()},{f.Cause.ToString().ToLowerInvariant()},{f.Woken.Nanoseconds},{f.Read.Nanoseconds},{f.Requested.Nanoseconds},{f.Arrived.Nanoseconds},{f.Resolved.Nanoseconds}");

    private static bool Runs(string program, string argument)
    {
        try
        {
            return Run(program, argument).Exit == 0;
        }
        catch (Win32Exception)
        {
            return false;
        }
    }

    private static (int Exit, string Output) Run(string program, params string[] arguments)
    {
        using Process process = Process.Start(new ProcessStartInfo(program, arguments) { RedirectStandardOutput = true })!;
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return (process.ExitCode, output);
    }
}
