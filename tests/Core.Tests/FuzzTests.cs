using NUnit.Framework;

namespace Core.Tests;

/// <summary>
/// Deterministic simulation. A seed is a bug report: <c>TESTBED_SEED=1234 dotnet test tests/Core.Tests --filter Fuzz</c> repeats it
/// alone (with <c>TESTBED_STEPS</c>, no further than that), and <c>TESTBED_SEEDS=1000000</c> runs more of them, on all cores
/// (from <c>TESTBED_FIRST_SEED</c> on).
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
            new Model(int.Parse(one)).Run(int.Parse(Environment.GetEnvironmentVariable("TESTBED_STEPS") ?? $"{Steps}"));
            return;
        }
        int seeds = int.Parse(Environment.GetEnvironmentVariable("TESTBED_SEEDS") ?? "10000");
        long answered = 0;
        int first = int.Parse(Environment.GetEnvironmentVariable("TESTBED_FIRST_SEED") ?? "0");
        Parallel.For(first, first + seeds, (seed, state) =>
        {
            try
            {
                var model = new Model(seed);
                model.Run(Steps);
                Interlocked.Add(ref answered, model.Answered);
            }
            catch (Exception e)
            {
                state.Stop();
                Assert.Fail($"TESTBED_SEED={seed} TESTBED_STEPS={FewestSteps(seed)}: {e}");
            }
        });
        Assert.That(answered, Is.GreaterThan(seeds * 10L), "the model must not go to sleep");
    }

    /// <summary>The shortest beginning of the run that fails, too, when it is brought to its end from there.</summary>
    private static int FewestSteps(int seed)
    {
        for (int steps = 0; steps < Steps; steps++)
        {
            try
            {
                new Model(seed).Run(steps);
            }
            catch (Exception)
            {
                return steps;
            }
        }
        return Steps;
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
