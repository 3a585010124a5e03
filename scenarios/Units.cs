using System.Globalization;
using System.Text.RegularExpressions;
using Testbed.Core;

namespace Testbed.Scenarios;

/// <summary>A number of bytes.</summary>
public readonly record struct ByteSize(long Bytes)
{
    /// <summary>The largest unit that divides it: <c>512MB</c>, <c>64KiB</c>, <c>700B</c>.</summary>
    public override string ToString() => Units.Format(this);
}

/// <summary>
/// Quantities as people write them: a number and its unit, with or without a space between. Decimal prefixes are
/// powers of 1,000 (kB, MB, GB), binary ones of 1,024 (KiB, MiB, GiB).
/// </summary>
public static partial class Units
{
    /// <summary>What a duration looks like, for messages and schemas.</summary>
    public const string DurationForm = "a time such as \"50us\", \"1.5ms\" or \"30s\"";

    /// <summary>What a size looks like.</summary>
    public const string SizeForm = "a size such as \"700B\", \"64KiB\" or \"512MB\"";

    /// <summary>What a rate looks like.</summary>
    public const string RateForm = "a rate such as \"1Gbit/s\", \"100Mbit/s\", \"125MB/s\" or \"unlimited\"";

    private static readonly Dictionary<string, double> Times = new(StringComparer.Ordinal)
    { ["ns"] = 1, ["us"] = 1e3, ["µs"] = 1e3, ["ms"] = 1e6, ["s"] = 1e9, ["min"] = 60e9, ["h"] = 3600e9 };

    private static readonly Dictionary<string, double> Sizes = new(StringComparer.Ordinal)
    {
        ["B"] = 1,
        ["kB"] = 1e3,
        ["KB"] = 1e3,
        ["MB"] = 1e6,
        ["GB"] = 1e9,
        ["TB"] = 1e12,
        ["KiB"] = 1L << 10,
        ["MiB"] = 1L << 20,
        ["GiB"] = 1L << 30,
        ["TiB"] = 1L << 40,
    };

    private static readonly Dictionary<string, double> BitRates = new(StringComparer.Ordinal)
    { ["bit/s"] = 1, ["kbit/s"] = 1e3, ["Mbit/s"] = 1e6, ["Gbit/s"] = 1e9, ["Tbit/s"] = 1e12 };

    /// <summary>Understands <c>50us</c>, <c>1.5 ms</c>, <c>30s</c>.</summary>
    /// <exception cref="BadInputException">Not a time, or negative, or too long for nanoseconds in 64 bits.</exception>
    public static Duration ParseDuration(string text) => new((long)Math.Round(Parse(text, Times, DurationForm)));

    /// <summary>Understands <c>700B</c>, <c>64KiB</c>, <c>512 MB</c>.</summary>
    /// <exception cref="BadInputException">Not a size, or not a whole number of bytes.</exception>
    public static ByteSize ParseSize(string text)
    {
        double bytes = Parse(text, Sizes, SizeForm);
        if (bytes != Math.Floor(bytes))
            throw new BadInputException($"\"{text}\" is not a whole number of bytes; expected {SizeForm}");
        return new ByteSize((long)bytes);
    }

    /// <summary>Understands <c>1Gbit/s</c>, <c>125MB/s</c>, and <c>unlimited</c>.</summary>
    /// <exception cref="BadInputException">Not a rate, or zero.</exception>
    public static ByteRate ParseRate(string text)
    {
        if (text == "unlimited")
            return ByteRate.Unlimited;
        double bytes = text.EndsWith("bit/s", StringComparison.Ordinal) ? Parse(text, BitRates, RateForm) / 8
            : text.EndsWith("/s", StringComparison.Ordinal) ? Parse(text[..^2], Sizes, RateForm)
            : throw new BadInputException($"\"{text}\" is not a rate; expected {RateForm}");
        return bytes > 0 ? new ByteRate(bytes)
            : throw new BadInputException($"\"{text}\": a rate of zero moves nothing; expected {RateForm}");
    }

    /// <summary>The inverse of <see cref="ParseSize"/>.</summary>
    public static string Format(ByteSize size)
    {
        foreach (string unit in (string[])["TiB", "TB", "GiB", "GB", "MiB", "MB", "KiB", "kB"])
        {
            long factor = (long)Sizes[unit];
            if (size.Bytes != 0 && size.Bytes % factor == 0)
                return (size.Bytes / factor).ToString(CultureInfo.InvariantCulture) + unit;
        }
        return size.Bytes.ToString(CultureInfo.InvariantCulture) + "B";
    }

    /// <summary>The inverse of <see cref="ParseDuration"/>: exact, in the largest unit without a fraction.</summary>
    public static string Format(Duration duration)
    {
        foreach (string unit in (string[])["s", "ms", "us"])
        {
            long factor = (long)Times[unit];
            if (duration.Nanoseconds != 0 && duration.Nanoseconds % factor == 0)
                return (duration.Nanoseconds / factor).ToString(CultureInfo.InvariantCulture) + unit;
        }
        return duration.Nanoseconds.ToString(CultureInfo.InvariantCulture) + "ns";
    }

    private static double Parse(string text, Dictionary<string, double> units, string expected)
    {
        Match match = NumberAndUnit().Match(text);
        if (!match.Success)
            throw new BadInputException($"\"{text}\" is not a number with a unit; expected {expected}");
        if (!units.TryGetValue(match.Groups[2].Value, out double factor))
            throw new BadInputException($"\"{text}\" has an unknown unit; expected {expected}");
        double value = double.Parse(match.Groups[1].Value, CultureInfo.InvariantCulture) * factor;
        return value < long.MaxValue ? value : throw new BadInputException($"\"{text}\" is too large; expected {expected}");
    }

    [GeneratedRegex(@"\A([0-9]+(?:\.[0-9]+)?) ?([A-Za-zµ/]+)\z")]
    private static partial Regex NumberAndUnit();
}
