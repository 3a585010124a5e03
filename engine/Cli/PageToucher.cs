using System.Diagnostics;
using System.IO.Pipes;
using System.Runtime.InteropServices;
using Testbed.Core;
using Testbed.Uffd;

namespace Testbed.Cli;

/// <summary>
/// A process of its own that touches its pages in a known order and times each touch: what a calibration takes the memory of.
/// </summary>
internal sealed class PageToucher : IDisposable
{
    /// <summary>How the program is told, on its command line, to be the other side.</summary>
    public const string Verb = "touch-pages";

    private readonly AnonymousPipeServerStream _commands = new(PipeDirection.Out, HandleInheritability.None);
    private readonly AnonymousPipeServerStream _answers = new(PipeDirection.In, HandleInheritability.None);
    private readonly LaunchedProgram _program;

    /// <summary>Starts it, with so many pages, and waits until it has filled them.</summary>
    public PageToucher(int pages)
    {
        string[] own = OwnProgram.Command;
        _program = LaunchedProgram.Start(
            own[0], [.. own[1..], Verb, $"{pages}"],
            (int)_commands.ClientSafePipeHandle.DangerousGetHandle(), (int)_answers.ClientSafePipeHandle.DangerousGetHandle());
        _commands.DisposeLocalCopyOfClientHandle();
        _answers.DisposeLocalCopyOfClientHandle();
        First = new PageNumber((ulong)Read(1)[0] >> PageNumber.Shift);
        Order = Shuffled(pages);
    }

    /// <summary>The process.</summary>
    public int Pid => _program.Pid;

    /// <summary>The first of its pages.</summary>
    public PageNumber First { get; }

    /// <summary>In which order it touches them.</summary>
    public IReadOnlyList<int> Order { get; }

    /// <summary>Lets it touch the first pages of its order.</summary>
    /// <param name="count">How many.</param>
    /// <param name="works">Whether it works after each touch, as a program does: always the same, over a MiB of its own.</param>
    /// <returns>How long each touch and the work after it took, in nanoseconds.</returns>
    public (long[] Took, long[] Worked) Touch(int count, bool works)
    {
        _commands.Write(BitConverter.GetBytes(works ? -count : count));
        return (Read(count), Read(count));
    }

    /// <summary>Ends it at once, which also ends a <see cref="Touch"/> on another thread.</summary>
    public void Kill() => _program.Kill();

    /// <summary>Ends it.</summary>
    public void Dispose()
    {
        _commands.Dispose();
        _answers.Dispose();
        if (_program.WaitForExit(TimeSpan.FromSeconds(2)) is null)
        {
            _program.Kill();
            _ = _program.WaitForExit(TimeSpan.FromSeconds(2));
        }
        _program.Dispose();
    }

    /// <summary>The other side.</summary>
    public static int Run(int pages)
    {
        using Stream commands = Console.OpenStandardInput(), answers = Console.OpenStandardOutput();
        nint memory = Marshal.AllocHGlobal((pages + 1) << PageNumber.Shift);
        memory = (memory + PageNumber.Size - 1) & ~(nint)(PageNumber.Size - 1);
        for (int i = 0; i < pages; i++)
            Marshal.WriteInt32(memory + (i << PageNumber.Shift), i + 1);
        int[] order = Shuffled(pages);
        var (took, worked) = (new long[pages], new long[pages]);
        var own = new int[1 << 18];
        // Compiled now, and not while the memory is away.
        for (int i = 0; i < 40; i++)
            Touch(memory, order, took, pages, [], worked);
        answers.Write(BitConverter.GetBytes((long)memory));
        var count = new byte[sizeof(int)];
        while (commands.ReadAtLeast(count, count.Length, throwOnEndOfStream: false) == count.Length)
        {
            int n = BitConverter.ToInt32(count);
            // Our own arrays come back before the clock runs.
            Array.Clear(took);
            Array.Clear(worked);
            _ = order.Sum(i => (long)i);
            Work(own);
            Touch(memory, order, took, Math.Abs(n), n < 0 ? own : [], worked);
            answers.Write(MemoryMarshal.AsBytes(took.AsSpan(0, Math.Abs(n))));
            answers.Write(MemoryMarshal.AsBytes(worked.AsSpan(0, Math.Abs(n))));
        }
        return 0;
    }

    private static void Touch(nint memory, int[] order, long[] took, int count, int[] own, long[] worked)
    {
        double scale = 1e9 / Stopwatch.Frequency;
        for (int i = 0; i < count; i++)
        {
            long began = Stopwatch.GetTimestamp();
            _ = Marshal.ReadByte(memory + ((nint)order[i] << PageNumber.Shift));
            long touched = Stopwatch.GetTimestamp();
            took[i] = (long)((touched - began) * scale);
            Work(own);
            worked[i] = (long)((Stopwatch.GetTimestamp() - touched) * scale);
        }
    }

    private static void Work(int[] own)
    {
        for (int i = 0; i < own.Length; i += 16)
            own[i]++;
    }

    private static int[] Shuffled(int pages)
    {
        int[] order = [.. Enumerable.Range(0, pages)];
        new Random(7).Shuffle(order);
        return order;
    }

    private long[] Read(int count)
    {
        var values = new long[count];
        if (_answers.ReadAtLeast(MemoryMarshal.AsBytes(values.AsSpan()), count * sizeof(long), throwOnEndOfStream: false) < count * sizeof(long))
            throw new BadInputException("calibrate: the process that touches pages ended early; expected it to live as long as it is measured");
        return values;
    }
}
