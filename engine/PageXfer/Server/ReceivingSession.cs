using Testbed.Core;
using Testbed.PageXfer.Images;
using Testbed.PageXfer.Protocol;
using Testbed.PageXfer.Xfer;

namespace Testbed.PageXfer.Server;

/// <summary>The images that come over one connection. They get their names at CLOSE, all together.</summary>
internal sealed class ReceivingSession(string directory) : IDisposable
{
    private readonly Dictionary<PagemapId, LocalPageSink> _sinks = [];

    public bool IsEmpty => _sinks.Count == 0;

    /// <summary>Begins a pagemap, again if it is there; says whether it has a parent.</summary>
    public bool Open(PagemapId id)
    {
        if (_sinks.Remove(id, out LocalPageSink? old))
            old.Dispose();
        var sink = new LocalPageSink(directory, id, PageServer.FirstReceivedPagesId);
        _sinks.Add(id, sink);
        return sink.HasParent;
    }

    public bool HasParent(PagemapId id) => File.Exists(Path.Combine(directory, "parent", id.FileName));

    public void Add(BlockingPeer peer, in PageServerMessage message, PagemapFlags flags)
    {
        // Old clients add without having opened.
        if (!_sinks.TryGetValue(message.ToPagemap(), out LocalPageSink? sink))
        {
            Open(message.ToPagemap());
            sink = _sinks[message.ToPagemap()];
        }
        PageRange range = message.ToRange();
        sink.WritePagemap(range, flags);
        if ((flags & PagemapFlags.Present) == 0)
            return;
        for (long left = range.Bytes; left > 0;)
        {
            ReadOnlySpan<byte> some = peer.ReadSome(left);
            sink.WritePages(some);
            left -= some.Length;
        }
    }

    public void Complete()
    {
        foreach (LocalPageSink sink in _sinks.Values)
            sink.Complete();
        Dispose();
    }

    public void Dispose()
    {
        foreach (LocalPageSink sink in _sinks.Values)
            sink.Dispose();
        _sinks.Clear();
    }
}
