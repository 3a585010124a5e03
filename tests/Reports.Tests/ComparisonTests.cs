using MathNet.Numerics.Distributions;
using MathNet.Numerics.Random;
using NUnit.Framework;
using Testbed.Reports.Statistics;

namespace Testbed.Reports.Tests;

/// <summary>Tests and effect sizes against numbers worked out elsewhere, and against what they promise.</summary>
[TestFixture]
public sealed class ComparisonTests
{
    private static double[] Draw(int seed, int n, double shift)
    {
        var random = new Xoshiro256StarStar(seed, false);
        return [.. Enumerable.Range(0, n).Select(_ => Normal.Sample(random, shift, 1))];
    }

    [Test]
    public void MannWhitneyAgreesWithTheTextbook()
    {
        // Ranks 1..5 against 6..10: U = 0, mean 12.5, variance 5 * 5 * 11 / 12; z = (12.5 - 0.5) / 4.787 = 2.507.
        Assert.That(Comparison.MannWhitney([1, 2, 3, 4, 5], [6, 7, 8, 9, 10]), Is.EqualTo(0.01219).Within(1e-5));
        Assert.That(Comparison.MannWhitney([1, 1, 1], [1, 1, 1]), Is.EqualTo(1));
    }

    [Test]
    public void PermutationFindsAShiftAndNotItsAbsence()
    {
        Assert.That(Comparison.Permutation(Draw(1, 20, 0), Draw(2, 20, 3), 1), Is.LessThan(0.01));
        // 2 of the 252 ways to choose five of ten lie as far apart: 0.0079.
        Assert.That(Comparison.Permutation([1, 2, 3, 4, 5], [6, 7, 8, 9, 10], 1, 99_999), Is.EqualTo(2 / 252.0).Within(0.001));
        Assert.That(Comparison.Permutation([1, 1, 2], [1, 1, 2], 1), Is.EqualTo(1), "the same on both sides");
        int alarms = Enumerable.Range(0, 100).Count(i => Comparison.Permutation(Draw(2 * i, 12, 0), Draw((2 * i) + 1, 12, 0), 1, 499) < 0.05);
        Assert.That(alarms, Is.LessThanOrEqualTo(12), "false alarms in 100 at the 5 % level");
    }

    [Test]
    public void CliffsDeltaCountsPairs()
    {
        Assert.That(Comparison.CliffsDelta([4, 5], [1, 2]), Is.EqualTo(1));
        Assert.That(Comparison.CliffsDelta([1, 2], [1, 2]), Is.Zero);
        Assert.That(Comparison.CliffsDelta([1, 3], [2, 2]), Is.Zero);
        Assert.That(Comparison.CliffsDelta([1, 2], [2, 3]), Is.EqualTo(-0.75));
    }

    [Test]
    public void HolmCorrectsStepByStep() =>
        Assert.That(Comparison.Holm([0.01, 0.04, 0.03, 0.005]), Is.EqualTo((double[])[0.03, 0.06, 0.06, 0.02]).Within(1e-12));

    [Test]
    public void AnEmptySampleIsRefused() =>
        Assert.That(() => Comparison.MannWhitney([], [1]), Throws.ArgumentException);
}
