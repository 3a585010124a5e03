namespace Testbed.Core;

/// <summary>
/// Input of any kind (image, trace, scenario, wire, command line) that cannot be used. The message is one line that
/// names the file or field, what was wrong and what was expected; the program prints it and ends with exit code 2.
/// </summary>
public sealed class BadInputException : Exception
{
    /// <summary>Bad input, described in one line.</summary>
    public BadInputException(string message) : base(message) { }

    /// <summary>Bad input, described in one line, found through <paramref name="inner"/>.</summary>
    public BadInputException(string message, Exception inner) : base(message, inner) { }
}
