using System.Diagnostics;
using System.Globalization;
using Testbed.Core;

namespace Testbed.Cli;

/// <summary>One line that changes: what goes on, how far, how fast, how long still. Silent when not on a terminal.</summary>
internal sealed class Progress : IDisposable
{
    private readonly bool _terminal = !Console.IsErrorRedirected;
    private readonly Stopwatch _sinceShown = Stopwatch.StartNew();
    private string _what = "";
    private long _began;
    private bool _shown;

    public void Show(string what, long done, long all, string unit)
    {
        if (what != _what)
            (_what, _began) = (what, Stopwatch.GetTimestamp());
        if (!_terminal || (_shown && _sinceShown.ElapsedMilliseconds < 100))
            return;
        _sinceShown.Restart();
        double seconds = Stopwatch.GetElapsedTime(_began).TotalSeconds;
        double rate = seconds > 0.2 ? done / seconds : 0;
        string left = rate > 0 && all > done ? $", {(all - done) / rate:0} s left" : "";
        Write($"\r\u001b[K{Printable.Of(what)} {Short(done)}{unit} of {Short(all)}{unit} ({(all == 0 ? 1 : (double)done / all):P0}), {Short(rate)}{unit}/s{left}");
        _shown = true;
    }

    /// <summary>A line that stays.</summary>
    public void Line(string text)
    {
        Clear();
        if (_terminal)
            Write(Printable.Of(text) + "\n");
    }

    /// <summary>A line that stays, also when nobody watches: what goes wrong, or is put right.</summary>
    public void Say(string text)
    {
        Clear();
        Write($"testbed: {Printable.Of(text)}\n");
    }

    public void Clear()
    {
        if (_shown)
            Write("\r\u001b[K");
        _shown = false;
    }

    /// <summary>A terminal that is gone is no reason to leave a process without its memory.</summary>
    private static void Write(string text)
    {
        try
        {
            Terminal.RawError.Write(text);
        }
        catch (IOException)
        {
        }
    }

    public void Dispose() => Clear();

    private static string Short(double value) => value switch
    {
        >= 1e9 => (value / 1e9).ToString("0.0 G", CultureInfo.InvariantCulture),
        >= 1e6 => (value / 1e6).ToString("0.0 M", CultureInfo.InvariantCulture),
        >= 1e4 => (value / 1e3).ToString("0 k", CultureInfo.InvariantCulture),
        _ => value.ToString("0", CultureInfo.InvariantCulture),
    };
}
