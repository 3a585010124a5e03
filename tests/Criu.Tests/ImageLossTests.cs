using System.Diagnostics;
using NUnit.Framework;

namespace Testbed.Criu.Tests;

/// <summary>
/// Processes that were restored by the real CRIU from local images depend on these, which are then deleted or cut; and two daemons
/// use one directory.
/// </summary>
[NonParallelizable]
public sealed class ImageLossTests
{
    private readonly TreeDump _tree = new();

    [SetUp]
    public void DumpATree() => _tree.Start();

    [TearDown]
    public void Stop() => _tree.Stop();

    /// <summary>Daemon and guard have the images open before a process runs.</summary>
    [TestCase(false, TestName = "Daemon_keeps_serving_when_its_images_are_deleted")]
    [TestCase(true, TestName = "Guard_brings_everything_in_when_the_images_are_deleted")]
    public void Images_are_deleted(bool killed)
    {
        Process daemon = _tree.Restore(served: false);
        foreach (string image in Directory.GetFiles(_tree.Folder, "*.img"))
            File.Delete(image);
        if (killed)
            RealCriu.Run("kill", ["-KILL", TreeDump.Child(daemon)]);
        _tree.AssertAllIsWell();
        if (killed)
        {
            _tree.AwaitLog("all pages are in");
            return;
        }
        RealCriu.Run("kill", ["-TERM", TreeDump.Child(daemon)]);
        TreeDump.AssertEnds(daemon, 0);
    }

    /// <summary>All pages files end in the middle of a page; then they are whole again.</summary>
    [TestCase(false, TestName = "Daemon_waits_for_pages_that_were_cut_off")]
    [TestCase(true, TestName = "Guard_waits_for_pages_that_were_cut_off")]
    public void Images_are_cut(bool killed)
    {
        Process daemon = _tree.Restore(served: false);
        Dictionary<string, byte[]> whole = Directory.GetFiles(_tree.Folder, "pages-*.img").ToDictionary(file => file, File.ReadAllBytes);
        foreach ((string file, byte[] content) in whole)
            Cut(file, content.Length / 3 + 100);
        Task<string> check = Task.Run(() => _tree.Ask("CHECK"));
        _tree.AwaitLog("pages cannot be read");
        if (killed)
        {
            RealCriu.Run("kill", ["-KILL", TreeDump.Child(daemon)]);
            _tree.AwaitLog("its guard brings in what is away");
        }
        else
        {
            RealCriu.Run("kill", ["-TERM", TreeDump.Child(daemon)]);
            _tree.AwaitLog("asked to end");
        }
        Assert.That(check.Wait(TimeSpan.FromSeconds(1)), Is.False, "what is missing cannot come");
        Assert.That(File.ReadAllText(_tree.In("lazy.log")), Does.Contain("was cut short").And.Contain("to give up, kill the processes"));
        Assert.That(daemon.HasExited, Is.EqualTo(killed));
        foreach ((string file, byte[] content) in whole)
            File.WriteAllBytes(file, content);
        Assert.That(check.Result, Is.EqualTo(_tree.Digest));
        _tree.AwaitLog("the pages can be read again");
        _tree.AssertAllIsWell();
        if (killed)
            _tree.AwaitLog("all pages are in");
        else
            TreeDump.AssertEnds(daemon, 0);
    }

    /// <summary>
    /// The guard of the first daemon does not get to run until a second one serves in the same directory; then that one is killed. A guard that
    /// did not know of the good end would write of a killed daemon, and could take the second one's journal away.
    /// </summary>
    [Test]
    public void Guard_that_was_stopped_leaves_the_next_daemon_alone()
    {
        Process first = _tree.Restore(served: false);
        int late = GuardOf();
        RealCriu.Run("kill", ["-STOP", $"{late}"]);
        _tree.AssertAllIsWell();
        RealCriu.Run("kill", ["-TERM", TreeDump.Child(first)]);
        TreeDump.AssertEnds(first, 0);
        Assert.That(File.ReadAllText(_tree.In("lazy.log")), Does.Not.Contain("Error"));
        // Its namespace must not end, for that would end the guard too.
        using Side aside = _tree.StepAside();
        Assert.That(aside.Run("pkill", "-KILL", "-x", "tree").ExitCode, Is.Zero);
        Assert.That(() => aside.Run("pgrep", "-r", "R,S,D,T", "-x", "tree").Output, Is.Empty.After(5000, 50));
        File.Delete(_tree.In("lazy-pages.socket"));
        Process second = _tree.Restore(served: false);
        RealCriu.Run("kill", ["-CONT", $"{late}"]);
        // The first process of its namespace does not collect it: a zombie has no command line.
        Assert.That(() => CommandLine(late), Is.Empty.After(20_000, 50));
        Assert.That(File.ReadAllText(_tree.In("lazy.log")), Does.Not.Contain("the daemon was killed"));
        RealCriu.Run("kill", ["-KILL", TreeDump.Child(second)]);
        _tree.AssertAllIsWell();
        _tree.AwaitLog("all pages are in");
        Assert.That(Directory.GetFiles(_tree.Folder, "*.journal"), Is.Empty);
    }

    private int GuardOf() => Directory.EnumerateDirectories("/proc").Select(Path.GetFileName).Where(name => int.TryParse(name, out _)).Select(name => int.Parse(name!))
        .First(pid => CommandLine(pid) is var line && line.Contains("\0--guarding\0", StringComparison.Ordinal) && line.Contains(_tree.Folder, StringComparison.Ordinal));

    private static string CommandLine(int pid)
    {
        try
        {
            return File.ReadAllText($"/proc/{pid}/cmdline");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return "";
        }
    }

    private static void Cut(string path, long length)
    {
        using FileStream file = new(path, FileMode.Open, FileAccess.Write, FileShare.ReadWrite);
        file.SetLength(length);
    }
}
