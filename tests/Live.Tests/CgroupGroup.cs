using NUnit.Framework;

namespace Testbed.Live.Tests;

/// <summary>A cgroup of a test's own, with a parent of its own, that can be frozen as docker pause does.</summary>
internal sealed class CgroupGroup : IDisposable
{
    private static int s_count;
    private readonly bool _unified;
    private readonly string _outer, _inner;

    /// <summary>Makes it, and skips the test where the freezer of that version is not to be had.</summary>
    public CgroupGroup(int version)
    {
        _unified = version == 2;
        string? root = File.ReadLines("/proc/self/mountinfo").Select(line => line.Split(" - "))
            .Where(halves => IsWanted(halves[1].Split(' '))).Select(halves => halves[0].Split(' ')[4]).FirstOrDefault();
        _outer = Path.Combine(root ?? "/", $"testbed-{Environment.ProcessId}-{Interlocked.Increment(ref s_count)}");
        _inner = Path.Combine(_outer, "inner");
        if (root is null)
            Assert.Ignore($"SKIPPED: there is no cgroup freezer of version {version} here");
        Directory.CreateDirectory(_inner);
    }

    private bool IsWanted(string[] kind) =>
        _unified ? kind[0] == "cgroup2" : kind[0] == "cgroup" && kind[^1].Split(',').Contains("freezer");

    public void Add(int pid) => File.WriteAllText(Path.Combine(_inner, "cgroup.procs"), pid.ToString());

    /// <summary>Freezes the group, or its parent, and waits until all in it is.</summary>
    public void Freeze(bool parent = false)
    {
        Set(parent ? _outer : _inner, true);
        string file = Path.Combine(_inner, _unified ? "cgroup.events" : "freezer.state");
        string frozen = _unified ? "frozen 1" : "FROZEN";
        long end = Environment.TickCount64 + 10_000;
        for (; !File.ReadAllText(file).Contains(frozen, StringComparison.Ordinal); Thread.Sleep(1))
            Assert.That(Environment.TickCount64, Is.LessThan(end), "it does not freeze");
    }

    /// <summary>Begins to freeze it, and does not wait.</summary>
    public void BeginFreeze() => Set(_inner, true);

    public void Thaw()
    {
        Set(_inner, false);
        Set(_outer, false);
    }

    private void Set(string group, bool frozen)
    {
        if (_unified)
            File.WriteAllText(Path.Combine(group, "cgroup.freeze"), frozen ? "1" : "0");
        else
            File.WriteAllText(Path.Combine(group, "freezer.state"), frozen ? "FROZEN" : "THAWED");
    }

    public void Dispose()
    {
        if (!Directory.Exists(_inner))
            return;
        Thaw();
        // Its processes have been killed, and leave it a moment later.
        for (long end = Environment.TickCount64 + 10_000; ; Thread.Sleep(5))
        {
            try
            {
                Directory.Delete(_inner);
                Directory.Delete(_outer);
                return;
            }
            catch (IOException) when (Environment.TickCount64 < end)
            {
                // Still busy.
            }
        }
    }
}
