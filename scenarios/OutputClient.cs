using System.Diagnostics;
using System.Text;
using System.Text.RegularExpressions;

namespace Testbed.Scenarios;

/// <summary>
/// Reads what a program prints, as if it answered: a request is a regular expression, and its answer the next line that
/// matches, from the first group on when there is one.
/// </summary>
internal sealed class OutputClient : WorkloadClient
{
    private static readonly TimeSpan Look = TimeSpan.FromMilliseconds(1);

    private readonly string _file;
    private readonly TimeSpan _timeout;
    private readonly Func<bool> _ended;
    private readonly CancellationToken _cancel;
    private readonly Queue<Regex> _asked = new();
    private long _position;

    /// <param name="file">What the program prints goes there.</param>
    /// <param name="fromStart">Whether what was printed before counts.</param>
    /// <param name="timeout">How long an answer may take.</param>
    /// <param name="ended">Whether the program has ended: then nothing more comes.</param>
    /// <param name="cancel">Ends the wait for an answer.</param>
    public OutputClient(string file, bool fromStart, TimeSpan timeout, Func<bool> ended, CancellationToken cancel)
    {
        (_file, _timeout, _ended, _cancel) = (file, timeout, ended, cancel);
        _position = fromStart || !File.Exists(file) ? 0 : new FileInfo(file).Length;
    }

    public override void Add(ReadOnlySpan<byte> request) => _asked.Enqueue(new Regex(Encoding.UTF8.GetString(request)));

    public override void Flush() { }

    public override Reply Receive()
    {
        Regex wanted = _asked.Dequeue();
        long start = Stopwatch.GetTimestamp();
        while (true)
        {
            // Looked at first: what it printed before its end is still read.
            bool ended = _ended();
            foreach (string line in NewLines())
            {
                if (Answer(wanted, line) is { } answer)
                    return new Reply(ReplyKind.Value, Encoding.UTF8.GetBytes(answer));
            }
            if (ended)
                throw new IOException($"the program ended without a line like {wanted}");
            if (Stopwatch.GetElapsedTime(start) > _timeout)
                throw new IOException($"no line like {wanted} within {_timeout.TotalSeconds} s");
            if (_cancel.WaitHandle.WaitOne(Look))
                _cancel.ThrowIfCancellationRequested();
        }
    }

    /// <summary>The answer of the last line that matches, of all that was printed so far; null: none does.</summary>
    public static string? Last(string file, string pattern)
    {
        var wanted = new Regex(pattern);
        return Read(file, 0).Split('\n').Select(l => Answer(wanted, l)).LastOrDefault(a => a is not null);
    }

    private static string? Answer(Regex wanted, string line) => wanted.Match(line) is { Success: true } match ? match.Groups[match.Groups.Count > 1 ? 1 : 0].Value : null;

    private IEnumerable<string> NewLines()
    {
        string text = Read(_file, _position);
        // A line counts when its end is there.
        int whole = text.LastIndexOf('\n') + 1;
        int at = 0;
        while (at < whole)
        {
            int end = text.IndexOf('\n', at);
            string line = text[at..end];
            _position += Encoding.Latin1.GetByteCount(line) + 1;
            at = end + 1;
            yield return line;
        }
    }

    private static string Read(string file, long from)
    {
        if (!File.Exists(file))
            return "";
        using var stream = new FileStream(file, FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
        stream.Position = Math.Min(from, stream.Length);
        // A byte is a character, so that positions are right whatever is printed.
        using var reader = new StreamReader(stream, Encoding.Latin1);
        return reader.ReadToEnd();
    }
}
