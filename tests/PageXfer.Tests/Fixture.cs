using System.Runtime.InteropServices;
using Testbed.Core;
using Testbed.PageXfer.Images;
using Testbed.PageXfer.Xfer;

namespace Testbed.PageXfer.Tests;

/// <summary>A directory that goes away with the test.</summary>
internal sealed class Scratch : IDisposable
{
    public string Path { get; } = Directory.CreateTempSubdirectory("pagexfer").FullName;

    public string this[string file] => System.IO.Path.Combine(Path, file);

    public void Dispose() => Directory.Delete(Path, recursive: true);
}

/// <summary>A small process whose pages tell which they are.</summary>
internal static class Sample
{
    public const uint Pid = 42;
    public static readonly PageNumber Heap = new(0x1000);
    public static readonly PageNumber Arena = new(0x7f0000000);

    /// <summary>Heap of 600 pages, all there; an arena of 300 of which 100 are holes.</summary>
    public static readonly PageRange[] Present =
    [
        new(Heap, 100), new(Heap + 100, 500), new(Arena, 50), new(Arena + 150, 150),
    ];

    public static long Pages => Present.Sum(r => r.Count);

    public static void Content(PageNumber page, int version, Span<byte> destination)
    {
        Span<ulong> words = MemoryMarshal.Cast<byte, ulong>(destination[..PageNumber.Size]);
        for (int i = 0; i < words.Length; i++)
            words[i] = page.Value * 0x9e3779b97f4a7c15ul + (ulong)i + ((ulong)version << 56);
    }

    public static byte[] Content(PageRange range, int version = 0)
    {
        var bytes = new byte[range.Bytes];
        for (int i = 0; i < range.Count; i++)
            Content(range.Start + i, version, bytes.AsSpan(i << PageNumber.Shift));
        return bytes;
    }

    public static void WritePages(IPageSink sink)
    {
        foreach (PageRange range in Present)
        {
            sink.WritePagemap(range, PagemapFlags.Lazy | PagemapFlags.Present);
            byte[] content = Content(range);
            // In two parts, to see that parts are welcome.
            sink.WritePages(content.AsSpan(0, 5000 % content.Length));
            sink.WritePages(content.AsSpan(5000 % content.Length));
        }
        sink.Complete();
    }

    public static void WriteOthers(string directory) => ProcessImages.Write(
        directory,
        new ProcessIdentity(Pid, 42, 40, [42, 43, 44]),
        ProcessImages.NewLayout(
        [
            ProcessImages.NewArea(new PageRange(new PageNumber(0x400), 16), 5, isPrivate: true, isFile: true, 0x2000, "/usr/bin/sample"),
            ProcessImages.NewArea(new PageRange(Heap, 100), 3, true, false, 0, "[heap]"),
            ProcessImages.NewArea(new PageRange(Heap + 100, 500), 3, true, false, 0, ""),
            ProcessImages.NewArea(new PageRange(Arena, 300), 3, true, false, 0, ""),
        ]));

    public static void Write(string directory)
    {
        using (var sink = new LocalPageSink(directory, PagemapId.Task(Pid)))
            WritePages(sink);
        WriteOthers(directory);
    }
}

/// <summary>Keeps every page by tag, and checks what the contract of the lane promises.</summary>
internal sealed class Collector : IPageReceiver
{
    private readonly Dictionary<int, (PageRange Range, byte[] Memory, PageNumber Next)> _requests = [];

    public long Arrivals { get; private set; }

    public Action? OnArrived { get; init; }

    public void Expect(int tag, PageRange range) => _requests[tag] = (range, new byte[range.Bytes], range.Start);

    public Span<byte> BufferFor(int tag, PageRange range)
    {
        (PageRange asked, byte[] memory, PageNumber next) = _requests[tag];
        Assert.That(range.Start, Is.EqualTo(next));
        Assert.That(range.End, Is.LessThanOrEqualTo(asked.End));
        return memory.AsSpan((int)((range.Start - asked.Start) << PageNumber.Shift));
    }

    public void Arrived(int tag, PageRange range)
    {
        (PageRange asked, byte[] memory, PageNumber next) = _requests[tag];
        Assert.That(range.Start, Is.EqualTo(next));
        _requests[tag] = (asked, memory, range.End);
        Arrivals++;
        OnArrived?.Invoke();
    }

    public void AssertComplete()
    {
        foreach ((PageRange asked, byte[] memory, PageNumber next) in _requests.Values)
        {
            Assert.That(next, Is.EqualTo(asked.End));
            Assert.That(memory.AsSpan().SequenceEqual(Sample.Content(asked)), Is.True, $"content of {asked}");
        }
    }
}

internal static class LaneExtensions
{
    /// <summary>Runs the lane until nothing is outstanding.</summary>
    public static void Run(this PageLane lane, IPageReceiver receiver, int seconds = 20)
    {
        long deadline = Environment.TickCount64 + seconds * 1000;
        while (lane.Outstanding > 0)
        {
            Assert.That(Environment.TickCount64, Is.LessThan(deadline), $"{lane.Outstanding} requests without an answer");
            if (lane.WantsWrite)
                lane.Flush();
            lane.Socket.Poll(10_000, System.Net.Sockets.SelectMode.SelectRead);
            lane.Receive(receiver);
        }
    }
}
