using System.Diagnostics;
using NUnit.Framework;

namespace Testbed.Criu.Tests;

/// <summary>
/// Processes that were restored by the real CRIU change their memory while most of it is away; then the daemon is killed, or stopped, or
/// loses its server.
/// </summary>
[NonParallelizable]
public sealed class LossTests
{
    private readonly TreeDump _tree = new();

    [SetUp]
    public void DumpATree() => _tree.Start();

    [TearDown]
    public void Stop() => _tree.Stop();

    [TestCase(true, TestName = "The daemon is killed: its guard brings everything in from the server")]
    [TestCase(false, TestName = "The daemon is killed: its guard brings everything in from the images")]
    public void TheDaemonIsKilled(bool served)
    {
        Process? server = served ? _tree.Serve(sessions: 1) : null;
        Process daemon = _tree.Restore(served);
        _tree.Churn();
        RealCriu.Run("kill", ["-KILL", TreeDump.Child(daemon)]);
        _tree.AssertAllIsWell();
        _tree.AwaitLog("all pages are in");
        AssertGuardEnds();
        // The client that was killed did not end its session; the guard did.
        if (server is not null)
            TreeDump.AssertEnds(server, 0);
    }

    /// <summary>At any moment: a child that was just forked has its memory nowhere else.</summary>
    [Test]
    public void TheDaemonIsKilledWhileAllForkAndMove()
    {
        _ = _tree.Serve();
        for (int round = 0; round < 2; round++)
        {
            Process daemon = _tree.Restore(served: true);
            Task<string> race = Task.Run(() => _tree.Ask("RACE 60"));
            int moment = Random.Shared.Next(150);
            Thread.Sleep(moment);
            Assert.That(race.IsCompleted, Is.False, "it is under way");
            RealCriu.Run("kill", ["-KILL", TreeDump.Child(daemon)]);
            Assert.That(race.Result, Is.EqualTo("ok"), $"killed after {moment} ms");
            Assert.That(_tree.Ask("CHECK"), Is.EqualTo(_tree.Digest), $"killed after {moment} ms");
            _tree.AwaitLog("all pages are in");
            _tree.Forget();
        }
    }

    /// <summary>CRIU has told it, and lets the processes run; it died before it looked.</summary>
    [Test]
    public void TheDaemonIsKilledBeforeItHearsThatTheProcessesRun()
    {
        _ = _tree.Serve();
        Process daemon = _tree.StartDaemon(served: true, null, "--pidfile", "lazy.pid");
        _tree.Succeeds(_tree.RestoreByCriu($"kill -STOP $(cat {_tree.In("lazy.pid")})"));
        RealCriu.Run("kill", ["-KILL", TreeDump.Child(daemon)]);
        // nsenter stopped itself with its child.
        RealCriu.Run("kill", ["-CONT", $"{daemon.Id}"]);
        _tree.AssertAllIsWell();
        _tree.AwaitLog("before it heard that the processes run");
        _tree.AwaitLog("all pages are in");
    }

    [Test]
    public void TheDaemonIsKilledBeforeTheProcessesRun()
    {
        _ = _tree.Serve();
        _ = _tree.StartDaemon(served: true, null, "--pidfile", "lazy.pid");
        // Dead when no thread is left: until then it holds the socket, CRIU finds a listener, and its guard takes over as in the test above.
        Outcome restored = _tree.RestoreByCriu(
            $"p=$(cat {_tree.In("lazy.pid")}); kill -KILL $p; while cat /proc/$p/task/*/stat 2>/dev/null | grep -qv ') Z '; do sleep 0.01; done");
        Assert.That(restored.ExitCode, Is.EqualTo(1), "CRIU takes the restore back");
        Assert.That(_tree.Destination.Run("pgrep", "-r", "R,S,D,T", "-x", "tree").Output, Is.Empty, "no process is left");
        _tree.AwaitLog("the processes have ended");
        AssertGuardEnds();
    }

    [Test]
    public void TheServerIsKilledAndComesBack()
    {
        Process server = _tree.Serve();
        Process daemon = _tree.Restore(served: true);
        _tree.Churn();
        server.Kill();
        server.WaitForExit();
        Thread.Sleep(500);
        server = _tree.Serve(sessions: 1);
        _tree.AssertAllIsWell();
        RealCriu.Run("kill", ["-TERM", TreeDump.Child(daemon)]);
        TreeDump.AssertEnds(daemon, 0);
        TreeDump.AssertEnds(server, 0);
        _tree.AwaitLog("the page server is back");
    }

    /// <summary>Waits are interrupted by stops: where CRIU's ends with EINTR.</summary>
    [Test]
    public void TheDaemonIsStoppedAndContinuedAllTheTime()
    {
        _ = _tree.Serve();
        Process daemon = _tree.Restore(served: true);
        string pid = TreeDump.Child(daemon);
        using var storm = RealCriu.Start("sh", ["-c", $"while kill -STOP {pid} && sleep 0.01 && kill -CONT {pid}; do sleep 0.02; done"]);
        _tree.Churn();
        _tree.AssertAllIsWell();
        storm.Kill();
        // nsenter stops itself when its child is stopped.
        RealCriu.Run("kill", ["-CONT", pid, $"{daemon.Id}"]);
        RealCriu.Run("kill", ["-TERM", pid]);
        TreeDump.AssertEnds(daemon, 0);
    }

    [Test]
    public void AProcessThatIsKilledTakesNobodyWithIt()
    {
        Process server = _tree.Serve(sessions: 1);
        Process daemon = _tree.Restore(served: true);
        // By name: the command line of a process may be away.
        Assert.That(_tree.Destination.Run("pkill", "-KILL", "-n", "-x", "tree").ExitCode, Is.Zero);
        Assert.That(_tree.Ask("CHURN 3"), Does.StartWith("error").And.Contain("has ended"), "the others answer");
        Assert.That(_tree.Destination.Run("pkill", "-KILL", "-o", "-x", "tree").ExitCode, Is.Zero);
        // The others read the end of their pipes and exit: nobody is left, and nothing is away.
        TreeDump.AssertEnds(daemon, 0);
        TreeDump.AssertEnds(server, 0);
    }

    private void AssertGuardEnds()
    {
        Assert.That(() => Directory.GetFiles(_tree.Folder, "*.journal"), Is.Empty.After(5000, 50));
        Assert.That(() => RealCriu.Run("pgrep", ["-f", $"testbed(.dll)? lazy-pages -D {_tree.Folder}"]).Output, Is.Empty.After(5000, 50));
    }
}
