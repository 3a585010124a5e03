using NUnit.Framework;

namespace Core.Tests;

/// <summary>
/// A seed is a bug report: <c>TESTBED_SEED=1234 dotnet test tests/Core.Tests --filter Fuzz</c> repeats it alone, and
/// <c>TESTBED_SEEDS=100000</c> runs more of them.
/// </summary>
[TestFixture]
public sealed class FuzzTests
{
    private const int Steps = 400;

    [Test]
    public void Every_page_comes_in_once_and_right_whatever_happens_when()
    {
        if (Environment.GetEnvironmentVariable("TESTBED_SEED") is { } one)
        {
            new Model(int.Parse(one)).Run(Steps);
            return;
        }
        int seeds = int.Parse(Environment.GetEnvironmentVariable("TESTBED_SEEDS") ?? "3000");
        long answered = 0;
        for (int seed = 0; seed < seeds; seed++)
        {
            try
            {
                var model = new Model(seed);
                model.Run(Steps);
                answered += model.Answered;
            }
            catch (Exception e)
            {
                Assert.Fail($"TESTBED_SEED={seed}: {e}");
            }
        }
        Assert.That(answered, Is.GreaterThan(seeds * 10L), "the model must not go to sleep");
    }

    [Test]
    public void The_same_seed_gives_the_same_commands()
    {
        for (int seed = 0; seed < 50; seed++)
        {
            Model a = new(seed), b = new(seed);
            a.Run(Steps);
            b.Run(Steps);
            Assert.That(a.CommandHash, Is.EqualTo(b.CommandHash), $"TESTBED_SEED={seed}");
        }
    }
}
