using NUnit.Framework;
using Testbed.Scenarios;

namespace Testbed.Criu.Tests;

/// <summary>The kernel's limits on pipes: who says what they are, and who changes them.</summary>
[NonParallelizable]
public sealed class PipeLimitsTests
{
    private const string Size = "/proc/sys/fs/pipe-max-size", Soft = "/proc/sys/fs/pipe-user-pages-soft";

    private string _size = "", _soft = "";

    [SetUp]
    public void Remember()
    {
        RealCriu.Require();
        (_size, _soft) = (File.ReadAllText(Size), File.ReadAllText(Soft));
    }

    [TearDown]
    public void Restore()
    {
        if (_size.Length == 0)
            return;
        File.WriteAllText(Size, _size);
        File.WriteAllText(Soft, _soft);
    }

    [Test]
    public void Limits_come_back_when_the_last_of_several_ends_and_higher_ones_stay()
    {
        File.WriteAllText(Size, "1048576");
        File.WriteAllText(Soft, "16384");
        var first = new PipeLimits();
        var second = new PipeLimits();
        Assert.That(first.Changed, Is.EqualTo((string[])["fs.pipe-user-pages-soft from 16384 to 0", "fs.pipe-max-size from 1048576 to 4194304"]));
        Assert.That(second.Changed, Is.Empty);
        first.Dispose();
        Assert.That((Number(Size), Number(Soft)), Is.EqualTo((4194304, 0)), "the second one needs them still");
        second.Dispose();
        Assert.That((Number(Size), Number(Soft)), Is.EqualTo((1048576, 16384)));
        File.WriteAllText(Size, "8388608");
        using (CriuSetup.LiftPipeLimits())
            Assert.That(Number(Size), Is.EqualTo(8388608));
        Assert.That(Number(Size), Is.EqualTo(8388608));
    }

    [TestCase("2097152", "limited", "sysctl -w fs.pipe-max-size=4194304")]
    [TestCase("4194304", "ok", "")]
    public void Doctor_knows_what_size_of_pipes_criu_needs(string bytes, string status, string remedy)
    {
        File.WriteAllText(Size, bytes);
        if (HasResourceCapability)
            status = "ok";
        string said = RealCriu.Run("dotnet", [RealCriu.Testbed, "doctor"]).Output;
        Assert.That(said, Does.Match($@"(?m)^  fs\.pipe-max-size +{status} +{bytes} bytes"));
        Assert.That(System.Text.RegularExpressions.Regex.Replace(said, @"\s+", " "), Does.Contain(status == "ok" ? "bytes" : remedy));
    }

    [Test]
    public void Doctor_says_whether_migrate_works_here()
    {
        string said = RealCriu.Run("dotnet", [RealCriu.Testbed, "doctor"]).Output;
        Assert.That(said, Does.Contain("Migration works here."));
        Assert.That(said, Does.Match("(?m)^  namespaces and veth +ok ").And.Match("(?m)^  congestion control +(ok|limited) ").And.Match("(?m)^  criu check +ok "));
        DirectoryInfo little = Directory.CreateTempSubdirectory("testbed-path-");
        _ = File.CreateSymbolicLink(Path.Combine(little.FullName, "sleep"), "/bin/sleep");
        string without = RealCriu.Run("env", [$"PATH={little.FullName}", RealCriu.Run("which", ["dotnet"]).Output.Trim(), RealCriu.Testbed, "doctor"]).Output;
        little.Delete(recursive: true);
        Assert.That(without, Does.Match("(?m)^  its programs +missing +not on PATH: unshare").And.Contain("apt-get install util-linux").And.Match("(?m)^Migration does not: its programs"));
    }

    private static bool HasResourceCapability =>
        (Convert.ToUInt64(File.ReadLines("/proc/self/status").First(l => l.StartsWith("CapEff:", StringComparison.Ordinal))[7..].Trim(), 16) >> 24 & 1) != 0;

    private static long Number(string file) => long.Parse(File.ReadAllText(file));
}
