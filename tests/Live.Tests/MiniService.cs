using System.Runtime.InteropServices;
using Testbed.Core;
using Testbed.Uffd;

namespace Testbed.Live.Tests;

/// <summary>The dump in the memory of the test.</summary>
internal sealed unsafe class MemoryStore(long capacity) : IMemoryDumpSink, IDisposable
{
    private readonly byte* _bytes = (byte*)NativeMemory.AlignedAlloc((nuint)Math.Max(capacity, 4096), 4096);
    private long _used;

    public Dictionary<ulong, nint> Pages { get; } = [];

    public void BeginArea(MemoryArea area) { }

    public void WritePages(PageRange range, ReadOnlySpan<byte> pages)
    {
        pages.CopyTo(new Span<byte>(_bytes + _used, pages.Length));
        for (long i = 0; i < range.Count; i++)
            Pages.Add((range.Start + i).Value, (nint)(_bytes + _used + i * PageNumber.Size));
        _used += pages.Length;
    }

    public void Dispose() => NativeMemory.AlignedFree(_bytes);
}

/// <summary>The simplest right service of one process and its children: a thread, a dictionary of what is away, one page at a time.</summary>
internal sealed class MiniService : IDisposable
{
    private readonly List<Space> _spaces = [];
    private readonly Thread _thread;
    private readonly UffdMessage[] _messages = new UffdMessage[64];
    private volatile bool _drain, _stop;

    private sealed record Space(UserFaultFd Fd, Dictionary<ulong, nint> Away)
    {
        public bool Gone { get; set; }
    }

    public int Faults { get; private set; }
    public int Forks { get; private set; }
    public HashSet<int> FaultingThreads { get; } = [];
    public Exception? Error { get; private set; }
    public bool ProcessGone => _spaces[0].Gone;

    public MiniService(UserFaultFd fd, MemoryImage image, MemoryStore store)
    {
        Dictionary<ulong, nint> away = [];
        foreach (PageRange range in image.Present)
        {
            for (long i = 0; i < range.Count; i++)
                away.Add((range.Start + i).Value, store.Pages[(range.Start + i).Value]);
        }
        _spaces.Add(new Space(fd, away));
        _thread = new Thread(Run) { IsBackground = true };
        _thread.Start();
    }

    /// <summary>Brings everything in, then ends.</summary>
    public void Drain()
    {
        _drain = true;
        if (!_thread.Join(TimeSpan.FromSeconds(60)))
            throw new TimeoutException($"drain: {string.Join(", ", _spaces.Select(s => s.Away.Count))} pages left");
        if (Error is not null)
            throw new InvalidOperationException("service", Error);
    }

    public void Dispose()
    {
        _stop = true;
        _thread.Join();
        foreach (Space child in _spaces.Skip(1))
            child.Fd.Dispose();
    }

    private void Run()
    {
        try
        {
            while (!_stop && !(_drain && _spaces.All(s => s.Gone || s.Away.Count == 0)))
            {
                bool busy = false;
                for (int i = 0; i < _spaces.Count; i++)
                {
                    busy |= ReadAll(_spaces[i]);
                    if (_drain && !_spaces[i].Gone && _spaces[i].Away.Count > 0)
                    {
                        Install(_spaces[i], _spaces[i].Away.Keys.First());
                        busy = true;
                    }
                    else if (!_spaces[i].Gone && !_spaces[i].Fd.IsAddressSpaceAlive())
                        _spaces[i].Gone = true;
                }
                if (!busy)
                    _spaces[0].Fd.WaitReadable(1);
            }
        }
        catch (Exception e)
        {
            Error = e;
        }
    }

    private bool ReadAll(Space space)
    {
        int n = space.Fd.Read(_messages);
        UffdMessage[] batch = _messages[..n];
        foreach (UffdMessage m in batch.Where(m => m.Event != UffdEvent.PageFault))
            Apply(space, m);
        foreach (UffdMessage m in batch.Where(m => m.Event == UffdEvent.PageFault))
        {
            Faults++;
            FaultingThreads.Add(m.Thread);
            Install(space, m.Page.Value);
        }
        return n > 0;
    }

    private void Apply(Space space, UffdMessage m)
    {
        switch (m.Event)
        {
            case UffdEvent.Fork:
                Forks++;
                _spaces.Add(new Space(new UserFaultFd(m.ForkedFd), new Dictionary<ulong, nint>(space.Away)));
                break;
            case UffdEvent.Remove or UffdEvent.Unmap:
                for (long i = 0; i < m.Range.Count; i++)
                    space.Away.Remove((m.Range.Start + i).Value);
                break;
            case UffdEvent.Remap:
                for (long i = 0; i < m.From.Count; i++)
                {
                    if (space.Away.Remove((m.From.Start + i).Value, out nint source))
                        space.Away[(m.To.Start + i).Value] = source;
                }
                break;
        }
    }

    private void Install(Space space, ulong page)
    {
        PageNumber number = new(page);
        CopyOutcome outcome = space.Away.TryGetValue(page, out nint source)
            ? space.Fd.Copy(number, source, 1, out _)
            : space.Fd.Zero(PageRange.Single(number), out _);
        if (outcome == CopyOutcome.ProcessGone)
            space.Gone = true;
        // The message that says what changes comes next; who waits asks again after it.
        if (outcome != CopyOutcome.Again)
            space.Away.Remove(page);
        if (outcome != CopyOutcome.Installed)
            space.Fd.Wake(PageRange.Single(number));
    }
}
