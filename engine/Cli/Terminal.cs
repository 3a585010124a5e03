using System.Text;
using Testbed.Core;

namespace Testbed.Cli;

/// <summary>
/// Standard output and error, through which nothing reaches a terminal that steers it: whatever a verb prints may hold names from traces,
/// scenarios, certificates and other processes. What the program itself paints with, the line of <see cref="Progress"/>, goes around.
/// </summary>
internal static class Terminal
{
    /// <summary>Standard error as it is, for what is ours alone.</summary>
    public static TextWriter RawError { get; private set; } = Console.Error;

    /// <summary>From now on, the console's writers are safe. Once, at the beginning.</summary>
    public static void Guard()
    {
        RawError = Console.Error;
        Console.SetOut(new Safe(Console.Out));
        Console.SetError(new Safe(Console.Error));
    }

    private sealed class Safe(TextWriter to) : TextWriter
    {
        public override Encoding Encoding => to.Encoding;

        public override void Write(char value) => to.Write(value == '\n' ? "\n" : Printable.Of(value.ToString()));

        public override void Write(string? value)
        {
            if (value is not null)
                to.Write(Printable.Lines(value));
        }

        public override void Write(char[] buffer, int index, int count) => Write(new string(buffer, index, count));

        public override void Write(ReadOnlySpan<char> buffer) => Write(buffer.ToString());

        public override void WriteLine(string? value) => Write(value + "\n");

        public override void Flush() => to.Flush();
    }
}
