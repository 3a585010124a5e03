using System.Buffers.Binary;
using Testbed.Core;

namespace Testbed.Uffd;

/// <summary>
/// Finds the pages that the kernel touches by itself when threads end. It does not wait for a userfault then: a robust
/// mutex whose page is
/// missing stays locked for ever, and whoever joins the thread waits for ever. The list of robust mutexes lies in the
/// process's own memory, from one
/// mutex to the next, so a walk needs the content of each page before it knows the next one. Not the program's to
/// trust: a list may be garbage.
/// </summary>
public sealed class ExitPages
{
    // What the kernel itself goes along, ROBUST_LIST_LIMIT.
    private const int MaxNodes = 2048;

    // Addresses of user space end below this.
    private const ulong UserEnd = 1ul << 56;

    private readonly Func<int, PageNumber, byte[]?> _readHere;
    private readonly Queue<(int Space, PageNumber Page)> _wanted = [];
    private readonly HashSet<(int Space, PageNumber Page)> _known = [];
    private readonly Dictionary<(int Space, PageNumber Page), byte[]?> _content = [];
    private readonly Dictionary<(int Space, PageNumber Page), List<IEnumerator<PageNumber>>> _waiting = [];

    /// <summary>Begins with what is known before any page is there.</summary>
    /// <param name="threads">All threads.</param>
    /// <param name="readHere">Reads a page (by address space and dump address) that is not missing; null when it
    /// cannot.</param>
    public ExitPages(IEnumerable<ThreadExit> threads, Func<int, PageNumber, byte[]?> readHere)
    {
        _readHere = readHere;
        foreach (ThreadExit thread in threads)
        {
            Want(thread.Space, thread.ClearTid, sizeof(int));
            Want(thread.Space, thread.Rseq, thread.RseqBytes);
            if (thread.RobustList != 0)
                GoOn(thread.Space, Walk(thread.Space, thread.RobustList).GetEnumerator());
        }
    }

    /// <summary>How many pages were found so far.</summary>
    public int Count => _known.Count;

    /// <summary>Whether a walk waits for the content of a page.</summary>
    internal bool IsWaiting => _waiting.Count > 0;

    /// <summary>The next page that is needed and was not told of before.</summary>
    internal bool TryTake(out int space, out PageNumber page)
    {
        bool any = _wanted.TryDequeue(out (int Space, PageNumber Page) next);
        (space, page) = next;
        return any;
    }

    /// <summary>Whether a walk waits for this page's content.</summary>
    internal bool Awaits(int space, PageNumber page) => _waiting.ContainsKey((space, page));

    /// <summary>A page is not missing: its content is read here, or there is none.</summary>
    internal void IsHere(int space, PageNumber page)
    {
        if (Awaits(space, page))
            Take(space, page, _readHere(space, page));
    }

    /// <summary>The content of a page that a walk waits for.</summary>
    internal void Came(int space, PageNumber page, ReadOnlySpan<byte> content) => Take(space, page, content.ToArray());

    private void Take(int space, PageNumber page, byte[]? content)
    {
        _content[(space, page)] = content;
        if (!_waiting.Remove((space, page), out List<IEnumerator<PageNumber>>? walks))
            return;
        foreach (IEnumerator<PageNumber> walk in walks)
            GoOn(space, walk);
    }

    /// <summary>Up to the next page whose content is not known yet.</summary>
    private void GoOn(int space, IEnumerator<PageNumber> walk)
    {
        while (walk.MoveNext())
        {
            if (_content.ContainsKey((space, walk.Current)))
                continue;
            if (!_waiting.TryGetValue((space, walk.Current), out List<IEnumerator<PageNumber>>? walks))
                _waiting[(space, walk.Current)] = walks = [];
            walks.Add(walk);
            return;
        }
    }

    /// <summary>Along one list: gives each page whose content it needs next.</summary>
    private IEnumerable<PageNumber> Walk(int space, ulong head)
    {
        // struct robust_list_head: the first node, the futex's place seen from its node, and the node that is being
        // taken or given back.
        const uint HeadBytes = 24, NodeBytes = 8;
        foreach (PageNumber page in Want(space, head, HeadBytes))
            yield return page;
        ulong node = Read(space, head), offset = Read(space, head + 8), pending = Read(space, head + 16);
        if (Entry(pending) != 0)
            Want(space, Entry(pending) + offset, sizeof(int));
        for (int i = 0; i < MaxNodes && Entry(node) != 0 && Entry(node) != head; i++)
        {
            ulong at = Entry(node);
            Want(space, at + offset, sizeof(int));
            foreach (PageNumber page in Want(space, at, NodeBytes))
                yield return page;
            node = Read(space, at);
        }
    }

    /// <summary>The lowest bit says which kind of mutex it is.</summary>
    private static ulong Entry(ulong node) => node & ~1ul;

    private List<PageNumber> Want(int space, ulong address, uint bytes)
    {
        List<PageNumber> pages = [];
        if (address == 0 || bytes == 0 || address >= UserEnd || bytes > PageNumber.Size)
            return pages;
        for (PageNumber page = PageNumber.Of(address); page <= PageNumber.Of(address + bytes - 1); page += 1)
        {
            pages.Add(page);
            if (_known.Add((space, page)))
                _wanted.Enqueue((space, page));
        }
        return pages;
    }

    /// <summary>Eight bytes; 0 when they are not known, which ends a walk.</summary>
    private ulong Read(int space, ulong address)
    {
        Span<byte> bytes = stackalloc byte[8];
        for (int i = 0; i < bytes.Length; i++)
        {
            ulong at = address + (ulong)i;
            bytes[i] = _content.GetValueOrDefault((space, PageNumber.Of(at))) is { } page ? page[(int)(at % PageNumber.Size)] : (byte)0;
        }
        return BinaryPrimitives.ReadUInt64LittleEndian(bytes);
    }
}
