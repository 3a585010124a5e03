using System.Diagnostics;
using NUnit.Framework;
using Testbed.Core;
using Testbed.PageXfer.Images;
using Testbed.PageXfer.Xfer;
using Testbed.Policies;

namespace Testbed.Daemon.Tests;

/// <summary>The daemon as the launcher builds it, in native code: what a compiler that sees no reflection could have left out is there.</summary>
public sealed class NativeTests
{
    private const uint Pid = 1000;
    private static readonly PageRange Memory = new(PageNumber.Of(0x10_0000_0000), 64);

    private string _program = "";
    private DirectoryInfo _images = null!;

    [OneTimeSetUp]
    public void FindProgram()
    {
        DirectoryInfo? root = new(AppContext.BaseDirectory);
        while (root is not null && !File.Exists(Path.Combine(root.FullName, "Testbed.sln")))
            root = root.Parent;
        _program = Path.Combine(root?.FullName ?? "", "artifacts", "daemon", "testbed");
        if (File.Exists(_program))
            return;
        const string Missing = "the native daemon is not built; ./testbed lazy-pages --help builds it";
        if (Environment.GetEnvironmentVariable("CI") == "true")
            Assert.Fail($"CI cannot run this test: {Missing}");
        Assert.Ignore($"SKIPPED: {Missing}");
    }

    [SetUp]
    public void WriteImages()
    {
        _images = Directory.CreateTempSubdirectory("testbed-native-");
        using (var sink = new LocalPageSink(_images.FullName, PagemapId.Task(Pid)))
        {
            sink.WritePagemap(Memory, PagemapFlags.Lazy | PagemapFlags.Present);
            for (byte i = 0; i < Memory.Count; i++)
                sink.WritePages(Enumerable.Repeat(i, PageNumber.Size).ToArray());
            sink.Complete();
        }
        ProcessImages.Write(_images.FullName, new ProcessIdentity(Pid, Pid, Pid, [Pid]), ProcessImages.NewLayout(
            [ProcessImages.NewArea(Memory, 3, isPrivate: true, isFile: false, 0, "")]));
    }

    [TearDown]
    public void RemoveImages() => _images?.Delete(recursive: true);

    /// <summary>Policies and their options are found by their attributes.</summary>
    [TestCaseSource(typeof(PolicyCatalog), nameof(PolicyCatalog.Names))]
    public void EveryPolicyIsThere(string policy)
    {
        string typed = string.Join(",", PolicyCatalog.Options(policy).Where(o => o.Default is not null).Select(o => $"{o.Name}={o.Default}".ToLowerInvariant()));
        (int code, string errors) = Run("lazy-pages", "-D", "/proc", "-W", _images.FullName, "--policy", typed.Length == 0 ? policy : $"{policy}:{typed}");
        Assert.That((code, errors), Is.EqualTo((2, $"testbed: /proc/inventory.img: cannot be opened (Could not find file '/proc/inventory.img'.); expected an image file\n")));
    }

    [Test]
    public void BadInputIsOneLine()
    {
        (int code, string errors) = Run("lazy-pages", "-D", _images.FullName, "--policy", "clairvoyant");
        Assert.That((code, errors.Count(c => c == '\n')), Is.EqualTo((2, 1)), errors);
        Assert.That(errors, Does.StartWith("testbed: policy \"clairvoyant\": no such policy; expected one of "));
    }

    /// <summary>As scripts start it: in the background, with a pid file; images are read and every page is sent.</summary>
    [Test]
    public void TheServerServesFromTheBackground()
    {
        Assert.That(Run("page-server", "--lazy-pages", "-D", _images.FullName, "--address", "127.0.0.1", "--port", "0", "-d", "--pidfile", "pid", "-o", "log", "-v4").Code, Is.Zero);
        using Process server = Process.GetProcessById(int.Parse(File.ReadAllText(Path.Combine(_images.FullName, "pid"))));
        try
        {
            string serving = File.ReadLines(Path.Combine(_images.FullName, "log")).First(line => line.Contains("127.0.0.1:"));
            using PageLane lane = PageLane.Connect(System.Net.IPEndPoint.Parse(serving[serving.IndexOf("127.0.0.1", StringComparison.Ordinal)..]));
            lane.Fetch(Pid, Memory, Duration.FromSeconds(10));
            lane.Close(Duration.FromSeconds(10));
        }
        finally
        {
            server.Kill();
        }
    }

    private (int Code, string Errors) Run(params string[] arguments)
    {
        using Process process = Process.Start(new ProcessStartInfo(_program, arguments) { RedirectStandardError = true })!;
        string errors = process.StandardError.ReadToEnd();
        process.WaitForExit();
        return (process.ExitCode, errors);
    }
}
