using System.Globalization;

namespace Testbed.Core;

/// <summary>A span of time, in whole nanoseconds.</summary>
public readonly record struct Duration(long Nanoseconds) : IComparable<Duration>
{
    /// <summary>No time at all.</summary>
    public static Duration Zero => default;

    /// <summary>The duration in microseconds.</summary>
    public double Microseconds => Nanoseconds / 1e3;

    /// <summary>The duration in milliseconds.</summary>
    public double Milliseconds => Nanoseconds / 1e6;

    /// <summary>The duration in seconds.</summary>
    public double Seconds => Nanoseconds / 1e9;

    /// <summary>A duration of <paramref name="value"/> microseconds, rounded to the nanosecond.</summary>
    public static Duration FromMicroseconds(double value) => new((long)Math.Round(value * 1e3));

    /// <summary>A duration of <paramref name="value"/> milliseconds, rounded to the nanosecond.</summary>
    public static Duration FromMilliseconds(double value) => new((long)Math.Round(value * 1e6));

    /// <summary>A duration of <paramref name="value"/> seconds, rounded to the nanosecond.</summary>
    public static Duration FromSeconds(double value) => new((long)Math.Round(value * 1e9));

    /// <summary>The sum of two durations.</summary>
    public static Duration operator +(Duration a, Duration b) => new(a.Nanoseconds + b.Nanoseconds);

    /// <summary>The difference of two durations.</summary>
    public static Duration operator -(Duration a, Duration b) => new(a.Nanoseconds - b.Nanoseconds);

    /// <summary>Whether <paramref name="a"/> is shorter.</summary>
    public static bool operator <(Duration a, Duration b) => a.Nanoseconds < b.Nanoseconds;

    /// <summary>Whether <paramref name="a"/> is longer.</summary>
    public static bool operator >(Duration a, Duration b) => a.Nanoseconds > b.Nanoseconds;

    /// <summary>Whether <paramref name="a"/> is not longer.</summary>
    public static bool operator <=(Duration a, Duration b) => a.Nanoseconds <= b.Nanoseconds;

    /// <summary>Whether <paramref name="a"/> is not shorter.</summary>
    public static bool operator >=(Duration a, Duration b) => a.Nanoseconds >= b.Nanoseconds;

    /// <inheritdoc/>
    public int CompareTo(Duration other) => Nanoseconds.CompareTo(other.Nanoseconds);

    /// <summary>Three significant digits with the unit that fits: <c>840 ns</c>, <c>43.1 us</c>, <c>1.02 s</c>.</summary>
    public override string ToString()
    {
        double ns = Math.Abs((double)Nanoseconds);
        (double value, string unit) = ns switch
        {
            < 1e3 => (Nanoseconds, "ns"),
            < 1e6 => (Microseconds, "us"),
            < 1e9 => (Milliseconds, "ms"),
            _ => (Seconds, "s"),
        };
        string format = Math.Abs(value) switch { < 10 => "0.##", < 100 => "0.#", _ => "0" };
        return value.ToString(format, CultureInfo.InvariantCulture) + " " + unit;
    }
}

/// <summary>A point in time, in nanoseconds since the run began.</summary>
public readonly record struct Instant(long Nanoseconds) : IComparable<Instant>
{
    /// <summary>The beginning of the run.</summary>
    public static Instant Zero => default;

    /// <summary>Later than everything that happens.</summary>
    public static Instant Never => new(long.MaxValue);

    /// <summary>Seconds since the run began.</summary>
    public double Seconds => Nanoseconds / 1e9;

    /// <summary>The time from <paramref name="b"/> to <paramref name="a"/>.</summary>
    public static Duration operator -(Instant a, Instant b) => new(a.Nanoseconds - b.Nanoseconds);

    /// <summary>The instant <paramref name="d"/> after <paramref name="t"/>.</summary>
    public static Instant operator +(Instant t, Duration d) => new(t.Nanoseconds + d.Nanoseconds);

    /// <summary>Whether <paramref name="a"/> is earlier.</summary>
    public static bool operator <(Instant a, Instant b) => a.Nanoseconds < b.Nanoseconds;

    /// <summary>Whether <paramref name="a"/> is later.</summary>
    public static bool operator >(Instant a, Instant b) => a.Nanoseconds > b.Nanoseconds;

    /// <summary>Whether <paramref name="a"/> is not later.</summary>
    public static bool operator <=(Instant a, Instant b) => a.Nanoseconds <= b.Nanoseconds;

    /// <summary>Whether <paramref name="a"/> is not earlier.</summary>
    public static bool operator >=(Instant a, Instant b) => a.Nanoseconds >= b.Nanoseconds;

    /// <inheritdoc/>
    public int CompareTo(Instant other) => Nanoseconds.CompareTo(other.Nanoseconds);

    /// <summary>The later of two instants.</summary>
    public static Instant Max(Instant a, Instant b) => a.Nanoseconds >= b.Nanoseconds ? a : b;
}

/// <summary>A transfer rate. Zero or less means unlimited.</summary>
public readonly record struct ByteRate(double BytesPerSecond)
{
    /// <summary>No limit.</summary>
    public static ByteRate Unlimited => default;

    /// <summary>Whether there is no limit.</summary>
    public bool IsUnlimited => BytesPerSecond <= 0;

    /// <summary>A rate of so many bits per second.</summary>
    public static ByteRate FromBitsPerSecond(double bits) => new(bits / 8);

    /// <summary>How long <paramref name="bytes"/> bytes take on the wire, rounded up to the nanosecond.</summary>
    public Duration TimeFor(long bytes) =>
        IsUnlimited ? Duration.Zero : new Duration((long)Math.Ceiling(bytes * 1e9 / BytesPerSecond));
}
