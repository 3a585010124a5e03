using System.Globalization;
using NUnit.Framework;

namespace Testbed.Criu.Tests;

/// <summary>
/// kill -9 of everybody, at random moments. A short run by default; <c>TESTBED_KILLS=1000 TESTBED_KILL_SEED=7</c> before the command that runs this
/// test makes it longer, and another one.
/// </summary>
[NonParallelizable]
public sealed class KillTests
{
    [Test]
    public void Kill_of_anybody_at_any_moment_loses_nothing()
    {
        RealCriu.Require();
        int kills = Number("TESTBED_KILLS", 20), seed = Number("TESTBED_KILL_SEED", 18);
        var loop = new KillLoop(seed, TestContext.Progress);
        const int Block = 10;
        for (bool captures = false; loop.Kills < kills; captures = !captures)
        {
            int more = Math.Min(Block, kills - loop.Kills);
            if (captures)
                loop.Captures(more);
            else
                loop.Restores(more);
        }
        TestContext.Progress.WriteLine(loop.Summary);
        TestContext.Out.WriteLine(loop.Summary);
        Assert.That(loop.Kills, Is.GreaterThanOrEqualTo(kills));
    }

    private static int Number(string name, int otherwise) =>
        int.TryParse(Environment.GetEnvironmentVariable(name), CultureInfo.InvariantCulture, out int number) ? number : otherwise;
}
