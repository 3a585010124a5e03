using System.Security.Cryptography;

namespace Testbed.Traces.Tests;

/// <summary>The traces that ship: readable, complete, and the very bytes that their table promises.</summary>
public class CorpusTests
{
    [Test]
    public void EveryTraceIsCompleteAndListedWithItsHash()
    {
        string folder = Path.Combine(Root(), "traces");
        string[] files = Directory.GetFiles(folder, "*.trace", SearchOption.AllDirectories);
        if (files.Length == 0)
            Assert.Ignore("there are no traces in traces/ yet");
        string table = File.ReadAllText(Path.Combine(folder, "README.md"));
        using (Assert.EnterMultipleScope())
        {
            foreach (string file in files)
            {
                Trace trace = Trace.Load(file);
                string name = Path.GetFileName(file);
                Assert.That(trace.IsComplete, $"{name}: {trace.IncompleteReason}");
                Assert.That(trace.Header.Kind, Is.Not.EqualTo(RecordingKind.Live), $"{name}: replay needs a demand-only capture");
                Assert.That(trace.FirstTouches().Count, Is.GreaterThan(0), name);
                string hash = Convert.ToHexStringLower(SHA256.HashData(File.ReadAllBytes(file)));
                Assert.That(table.Split('\n').Where(l => l.Contains(name)), Has.Some.Contains(hash), $"{name}: traces/README.md lists it without this hash");
            }
        }
    }

    private static string Root()
    {
        string? folder = TestContext.CurrentContext.TestDirectory;
        while (folder != null && !File.Exists(Path.Combine(folder, "Testbed.sln")))
            folder = Path.GetDirectoryName(folder);
        return folder ?? throw new InvalidOperationException("the tests do not run inside the repository");
    }
}
