using System.Diagnostics;
using NUnit.Framework;

namespace Testbed.Criu.Tests;

/// <summary>The link between daemon and server is cut in the middle of a restore by the real CRIU: nobody is killed, and nobody is told.</summary>
[NonParallelizable]
public sealed class LinkTests
{
    private readonly TreeDump _tree = new();
    private Cable _cable = null!;

    [SetUp]
    public void DumpATree()
    {
        _tree.Start();
        _cable = new Cable();
    }

    [TearDown]
    public void Stop()
    {
        _tree.Stop();
        _cable?.Dispose();
    }

    [TestCase(false, false, TestName = "The cable is pulled, and put in again")]
    [TestCase(true, false, TestName = "All packets are lost for a while, and the log says so")]
    [TestCase(true, true, TestName = "All packets are lost for a while, over TLS, and the log says so")]
    public void CutAndMended(bool silently, bool tls)
    {
        if (tls)
            _tree.UseTls();
        _ = _tree.Serve(_cable);
        Process daemon = _tree.Restore(served: true, _cable);
        _tree.Churn();
        _cable.Cut(silently);
        Task<string> check = Task.Run(() => _tree.Ask("CHECK"));
        if (silently)
            _tree.AwaitLog("the page server is away (it does not answer)");
        else
            Thread.Sleep(3000);
        Assert.That(check.IsCompleted, Is.False, "what is away cannot come");
        _cable.Mend();
        var mended = Stopwatch.StartNew();
        if (silently)
        {
            _tree.AwaitLog("the page server is back");
            Assert.That(mended.Elapsed, Is.LessThan(TimeSpan.FromSeconds(3)), "not as long again as it was cut");
        }
        Assert.That(check.Result, Is.EqualTo(_tree.Digest));
        _tree.AssertAllIsWell();
        RealCriu.Run("kill", ["-TERM", TreeDump.Child(daemon)]);
        TreeDump.AssertEnds(daemon, 0);
    }

    /// <summary>Who does not want to wait for it any longer ends the processes: what they wait for would not be their memory.</summary>
    [Test]
    public void CutForGoodItEndsWithTheProcesses()
    {
        _ = _tree.Serve(_cable);
        Process daemon = _tree.Restore(served: true, _cable);
        _cable.Cut(silently: true);
        Task<string> check = Task.Run(() => _tree.Ask("CHECK"));
        Assert.That(check.Wait(TimeSpan.FromSeconds(1)), Is.False);
        Assert.That(_tree.Destination.Run("pkill", "-KILL", "-x", "tree").ExitCode, Is.Zero);
        Assert.That(daemon.WaitForExit(TimeSpan.FromSeconds(10)), Is.True, "although what it asked for has not come");
    }
}
