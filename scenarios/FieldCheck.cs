using System.Text.RegularExpressions;
using Testbed.Core;

namespace Testbed.Scenarios;

/// <summary>Checks of values, each with the line that a person gets when it fails.</summary>
internal readonly partial record struct FieldCheck(string File)
{
    public object? Require(string path, bool good, string wrong, string expected) =>
        good ? null : throw new BadInputException($"{File}: $.{path}: {wrong}; expected {expected}");

    public void Name(string path, string value) =>
        Require(path, NameForm().IsMatch(value), $"\"{value}\"", "a name of small letters, digits and -");

    /// <summary>As the kernel names them: dctcp, bbr, tcp_bbr2 ...; at most 15 characters.</summary>
    public void CongestionControl(string path, string value) =>
        Require(path, KernelName().IsMatch(value), $"\"{value}\"", "names as sysctl net.ipv4.tcp_available_congestion_control lists them: cubic, reno, bbr ...");

    public void Range(string path, long value, long min, long max) =>
        Require(path, value >= min && value <= max, $"{value}", $"{min} to {max}");

    public void Range(string path, double value, double min, double max) =>
        Require(path, value >= min && value <= max, FormattableString.Invariant($"{value}"), FormattableString.Invariant($"{min} to {max}"));

    public void Range(string path, Duration value, Duration min, Duration max) =>
        Require(path, value >= min && value <= max, $"\"{Units.Format(value)}\"", $"{Units.Format(min)} to {Units.Format(max)}");

    public void Range(string path, ByteSize value, ByteSize min, ByteSize max) =>
        Require(path, value.Bytes >= min.Bytes && value.Bytes <= max.Bytes, $"\"{value}\"", $"{min} to {max}");

    public void Pages(string path, ByteSize? value)
    {
        if (value is not { } size)
            return;
        Range(path, size, new ByteSize(PageNumber.Size), new ByteSize(1L << 30));
        Require(path, size.Bytes % PageNumber.Size == 0, $"\"{size}\"", "whole pages: a multiple of 4KiB");
    }

    public void Strings(string path, IEnumerable<string> values)
    {
        int i = 0;
        foreach (string? value in values)
            Require($"{path}[{i++}]", value is not null, "null", "a string");
    }

    public void Unique(string path, IReadOnlyList<string> values)
    {
        Require(path, values.Count > 0, "empty", "at least one");
        Strings(path, values);
        for (int i = 1; i < values.Count; i++)
            Require($"{path}[{i}]", !values.Take(i).Contains(values[i]), $"\"{values[i]}\" is there twice", "each once");
    }

    [GeneratedRegex(@"\A[A-Za-z0-9_-]{1,15}\z")]
    private static partial Regex KernelName();

    [GeneratedRegex(@"\A[a-z][a-z0-9-]{0,39}\z")]
    private static partial Regex NameForm();
}
