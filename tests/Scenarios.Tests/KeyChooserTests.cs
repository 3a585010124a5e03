using NUnit.Framework;

namespace Testbed.Scenarios.Tests;

/// <summary>The distributions are what they say, and repeat with their seed.</summary>
public sealed class KeyChooserTests
{
    private const int Keys = 1000;
    private const int Draws = 200_000;

    [Test]
    public void UniformDrawsEachAlike()
    {
        int[] counts = Count(KeyDistribution.Uniform);
        // 200 expected each; 6 standard deviations are 85.
        Assert.That(counts, Has.All.InRange(115, 285));
    }

    [Test]
    public void ZipfDrawsRanksByTheirPower()
    {
        int[] counts = [.. Count(KeyDistribution.Zipf).OrderDescending()];
        double zeta = Enumerable.Range(1, Keys).Sum(i => Math.Pow(i, -0.99));
        Assert.That(counts[0], Is.EqualTo(Draws / zeta).Within(10).Percent, "the hottest key");
        Assert.That(counts.Take(10).Sum(), Is.EqualTo(Draws / zeta * Enumerable.Range(1, 10).Sum(i => Math.Pow(i, -0.99))).Within(15).Percent, "the ten hottest");
    }

    [Test]
    public void SameSeedSameKeys([Values] KeyDistribution distribution)
    {
        var a = new KeyChooser(distribution, 0.99, Keys, 5);
        var b = new KeyChooser(distribution, 0.99, Keys, 5);
        Assert.That(Enumerable.Range(0, 100).Select(_ => a.Next()), Is.EqualTo(Enumerable.Range(0, 100).Select(_ => b.Next())));
    }

    /// <summary>Pages full of values must be as hard to compress as their six random bits a byte make them.</summary>
    [Test]
    public void ValuesOfDifferentKeysHaveNothingInCommon()
    {
        WorkloadFile file = WorkloadFile.FromFile(Repository.Workload("redis"));
        RequestTemplate template = RequestTemplate.Parse("{value}", file);
        var values = new ByteBuffer();
        for (int key = 0; key < 200; key++)
            template.Render(key, values);
        using var packed = new MemoryStream();
        using (var zip = new System.IO.Compression.BrotliStream(packed, System.IO.Compression.CompressionLevel.SmallestSize, leaveOpen: true))
            zip.Write(values.Written);
        Assert.That((double)packed.Length / values.Length, Is.InRange(0.74, 0.80));
    }

    private static int[] Count(KeyDistribution distribution)
    {
        var chooser = new KeyChooser(distribution, 0.99, Keys, 5);
        int[] counts = new int[Keys];
        for (int i = 0; i < Draws; i++)
            counts[chooser.Next()]++;
        return counts;
    }
}
