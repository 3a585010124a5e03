using Testbed.Core;

namespace Testbed.Traces.Tests;

/// <summary>The traces that ship, and how a corpus is checked.</summary>
public class CorpusTests
{
    private DirectoryInfo _folder = null!;

    [SetUp]
    public void MakeFolder() => _folder = Directory.CreateTempSubdirectory("testbed-corpus-");

    [TearDown]
    public void RemoveFolder() => _folder.Delete(recursive: true);

    [Test]
    public void EveryShippedTraceIsGood()
    {
        CorpusFinding[] findings = [.. Corpus.Verify(Path.Combine(Root(), "traces"))];
        Assert.That(findings, Has.Length.GreaterThan(70));
        Assert.That(findings.Where(f => f.Problem is not null), Is.Empty);
    }

    [Test]
    public void ShippedTracesAreSmallEnoughForARepository() =>
        Assert.That(Directory.GetFiles(Path.Combine(Root(), "traces")).Sum(f => new FileInfo(f).Length), Is.LessThan(60_000_000));

    [Test]
    public void EveryWorkloadOfTheCorpusHasItsTraces()
    {
        string traces = Path.Combine(Root(), "traces");
        foreach (string workload in Directory.GetFiles(Path.Combine(Root(), "scenarios", "workloads"), "*.json").Where(f => File.ReadAllText(f).Contains("\"small\":")))
        {
            foreach (string end in new[] { ".1", ".2", "-small.1", "-small.2" })
                Assert.That(File.Exists(Path.Combine(traces, Path.GetFileNameWithoutExtension(workload) + end + ".trace")), $"{workload}{end}: scenarios/capture-all makes it");
        }
    }

    [Test]
    public void WhatIsWrongIsFound()
    {
        byte[] good = Samples.Write(Samples.Header(), Samples.Faults(50), [], Samples.End);
        byte[] cut = Samples.Write(Samples.Header(), Samples.Faults(50), [], end: null);
        byte[] live = Samples.Write(Samples.Header() with { Kind = RecordingKind.Live }, Samples.Faults(50), [], Samples.End);
        byte[] nameless = Samples.Write(Samples.Header() with { Kernel = "" }, Samples.Faults(50), [], Samples.End);
        var list = new List<string>();
        foreach ((string name, byte[] bytes) in new[] { ("good", good), ("cut", cut), ("live", live), ("nameless", nameless), ("changed", good), ("absent", good), ("garbage", new byte[100]) })
        {
            list.Add($"{Convert.ToHexStringLower(System.Security.Cryptography.SHA256.HashData(bytes))}  {name}.trace");
            if (name != "absent")
                File.WriteAllBytes(In(name + ".trace"), name == "changed" ? [.. bytes, 0] : bytes);
        }
        File.WriteAllBytes(In("unlisted.trace"), good);
        File.WriteAllLines(In(Corpus.HashList), list);
        var problems = Corpus.Verify(_folder.FullName).ToDictionary(f => f.File, f => f.Problem);
        Assert.That(problems["good.trace"], Is.Null);
        Assert.That(problems["cut.trace"], Does.Contain("not complete"));
        Assert.That(problems["live.trace"], Does.Contain("kind Live"));
        Assert.That(problems["nameless.trace"], Does.Contain("kernel"));
        Assert.That(problems["changed.trace"], Does.Contain("SHA-256"));
        Assert.That(problems["absent.trace"], Does.Contain("not there"));
        Assert.That(problems["garbage.trace"], Does.Contain("not a trace"));
        Assert.That(problems["unlisted.trace"], Does.Contain("is not in SHA256SUMS"));
    }

    [Test]
    public void ABadListNamesItsLine()
    {
        Assert.That(() => Corpus.Verify(_folder.FullName).ToList(), Throws.TypeOf<BadInputException>().With.Message.Contains("SHA256SUMS: not there"));
        File.WriteAllText(In(Corpus.HashList), new string('a', 64) + "  a.trace\nnonsense\n");
        Assert.That(() => Corpus.Verify(_folder.FullName).ToList(), Throws.TypeOf<BadInputException>().With.Message.Contains("line 2: \"nonsense\""));
    }

    private string In(string name) => Path.Combine(_folder.FullName, name);

    private static string Root()
    {
        string? folder = TestContext.CurrentContext.TestDirectory;
        while (folder != null && !File.Exists(Path.Combine(folder, "Testbed.sln")))
            folder = Path.GetDirectoryName(folder);
        return folder ?? throw new InvalidOperationException("the tests do not run inside the repository");
    }
}
