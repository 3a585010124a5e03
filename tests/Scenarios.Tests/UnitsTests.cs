using NUnit.Framework;
using Testbed.Core;

namespace Testbed.Scenarios.Tests;

/// <summary>Quantities as people write them.</summary>
public sealed class UnitsTests
{
    [TestCase("50us", 50_000)]
    [TestCase("1.5ms", 1_500_000)]
    [TestCase("30 s", 30_000_000_000)]
    [TestCase("2min", 120_000_000_000)]
    [TestCase("0s", 0)]
    public void Durations(string text, long nanoseconds)
    {
        Assert.That(Units.ParseDuration(text).Nanoseconds, Is.EqualTo(nanoseconds));
        Assert.That(Units.ParseDuration(Units.Format(new Duration(nanoseconds))).Nanoseconds, Is.EqualTo(nanoseconds));
    }

    [TestCase("700B", 700)]
    [TestCase("64KiB", 65_536)]
    [TestCase("512MB", 512_000_000)]
    [TestCase("1.5kB", 1_500)]
    public void Sizes(string text, long bytes)
    {
        Assert.That(Units.ParseSize(text).Bytes, Is.EqualTo(bytes));
        Assert.That(Units.ParseSize(new ByteSize(bytes).ToString()).Bytes, Is.EqualTo(bytes));
    }

    [TestCase("10g", 10e9 / 8, 50)]
    [TestCase("1g", 1e9 / 8, 1000)]
    [TestCase("100m", 100e6 / 8, 20_000)]
    [TestCase("1Gbit/s,1ms", 1e9 / 8, 1000)]
    [TestCase("125MB/s, 0.5ms", 125e6, 500)]
    [TestCase("local", 0, 0)]
    public void Links(string text, double bytesPerSecond, double microseconds)
    {
        LinkSpec link = LinkSpec.Parse(text);
        Assert.That(link.Parameters, Is.EqualTo(new LinkParameters(new ByteRate(bytesPerSecond), Duration.FromMicroseconds(microseconds))));
        Assert.That(link.ToString(), Is.EqualTo(text));
    }

    [TestCase("")]
    [TestCase("5")]
    [TestCase("-5ms")]
    [TestCase("5 parsecs")]
    [TestCase("ms")]
    [TestCase("1e3ms")]
    [TestCase("99999999999h")]
    public void BadDurations(string text) =>
        Assert.That(() => Units.ParseDuration(text), Throws.TypeOf<BadInputException>().With.Message.Contains($"\"{text}\""));

    [TestCase("0.3B")]
    [TestCase("5 bit")]
    public void BadSizes(string text) =>
        Assert.That(() => Units.ParseSize(text), Throws.TypeOf<BadInputException>().With.Message.Contains($"\"{text}\""));
}
