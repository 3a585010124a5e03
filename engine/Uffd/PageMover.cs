using System.Runtime.InteropServices;
using Testbed.Core;
using Testbed.Uffd.Interop;
using static Testbed.Uffd.Interop.Native.E;
using static Testbed.Uffd.Interop.Native.Nr;

namespace Testbed.Uffd;

/// <summary>
/// Evicts pages by UFFDIO_MOVE, which the target itself has to call. The kernel refuses to move a page that a device,
/// or the kernel on behalf
/// of a request in flight, may still write to (it is pinned); such a page stays. What was moved nobody can write to any
/// more. It is
/// compared with what was dumped, goes back if it changed since, and is dropped if not: then the image holds exactly
/// what is away.
/// </summary>
internal sealed class PageMover
{
    private const int Huge = Pagemap.PagesPerHugePage;
    private const int ChunkPages = 256;

    private readonly RemoteCalls _calls;
    private readonly UserFaultFd _fd;
    private readonly int _fdInTarget;
    private readonly MemoryDump _dump;
    private readonly ChangeJournal? _journal;
    private readonly Pagemap _pagemap;
    private readonly List<long> _firstHash = [];
    private readonly List<ChangeJournal.StagedPages> _batch = [];
    private readonly byte[] _chunk = GC.AllocateUninitializedArray<byte>(ChunkPages * PageNumber.Size, pinned: true);
    private readonly List<Mapping> _owners = [];
    private readonly HashSet<Mapping> _refused = new(ReferenceEqualityComparer.Instance);
    private StagingArea? _staging;
    private long _used;

    /// <summary>Prepares; moves nothing yet.</summary>
    /// <param name="calls">The thread of the target that makes the calls.</param>
    /// <param name="fd">Its userfaultfd, with which the areas are registered.</param>
    /// <param name="fdInTarget">The number of that descriptor in the target.</param>
    /// <param name="dump">What was read.</param>
    /// <param name="pagemap">The target's page map.</param>
    /// <param name="journal">Is told what is where; or null.</param>
    public PageMover(RemoteCalls calls, UserFaultFd fd, int fdInTarget, MemoryDump dump, Pagemap pagemap, ChangeJournal? journal)
    {
        (_calls, _fd, _fdInTarget, _dump, _pagemap, _journal) = (calls, fd, fdInTarget, dump, pagemap, journal);
        long hashes = 0;
        foreach (PageRange range in dump.Content)
        {
            _firstHash.Add(hashes);
            hashes += range.Count;
        }
    }

    /// <summary>Whether pages of this area can be moved at all: the kernel moves writable ones only.</summary>
    public static bool CanMove(Mapping mapping) => (mapping.Protection & Native.Mman.PROT_WRITE) != 0;

    /// <summary>Evicts the pages of areas of one kind.</summary>
    /// <param name="mappings">Areas with the same access and lock state, registered.</param>
    /// <param name="keep">Pages that stay, by address.</param>
    /// <returns>The areas that the kernel does not move pages of; nothing was done to them.</returns>
    public List<Mapping> Evict(IReadOnlyList<Mapping> mappings, List<PageRange> keep)
    {
        _staging = StagingArea.TryMap(_calls, _journal, mappings[0].Protection, mappings[0].IsLocked);
        if (_staging is null)
            return [.. mappings];
        foreach (Mapping mapping in mappings)
        {
            foreach (PageRange piece in Pieces(mapping.Range, keep))
                Put(piece, mapping);
        }
        Flush();
        _staging.Unmap();
        _staging = null;
        return [.. mappings.Where(_refused.Contains)];
    }

    /// <summary>What exists of an area, in whole huge pages where it is large: address space without pages costs
    /// nothing.</summary>
    private List<PageRange> Pieces(PageRange area, List<PageRange> keep)
    {
        List<PageRange> existing = [], pieces = [];
        _pagemap.Scan(area, existing, zeroPages: true);
        List<PageRange> rounded = PageRanges.Normalize(existing.Select(run => PageRange.Between(
            new PageNumber(run.Start.Value / Huge * Huge), new PageNumber((run.End.Value + Huge - 1) / Huge * Huge)).Intersect(area)));
        foreach (PageRange piece in PageRanges.Subtract(rounded, keep))
            pieces.Add(piece);
        return pieces;
    }

    /// <summary>Gives a piece a place in the staging area, or its parts several; a batch that is full goes
    /// first.</summary>
    private void Put(PageRange piece, Mapping owner)
    {
        while (!piece.IsEmpty && !_refused.Contains(owner))
        {
            long offset = _used;
            // A huge page moves whole if it lies at the same place within a huge page's there.
            bool holdsHuge = (piece.Start.Value + Huge - 1) / Huge * Huge + Huge <= piece.End.Value
                && _staging!.Range.Count == StagingArea.PagesMax;
            if (holdsHuge)
                offset += (long)((piece.Start.Value - (ulong)offset) % Huge);
            long pages = Math.Min(piece.Count, _staging!.Range.Count - offset);
            if (holdsHuge && pages < piece.Count)
                pages -= (long)((piece.Start + pages).Value % Huge);
            if (pages <= 0 || _batch.Count == ChangeJournal.StagedMax)
            {
                Flush();
                continue;
            }
            _batch.Add(new ChangeJournal.StagedPages { Source = piece.Start.Value, Pages = (int)pages, Offset = (int)offset });
            _owners.Add(owner);
            _used = offset + pages;
            piece = PageRange.Between(piece.Start + pages, piece.End);
        }
    }

    /// <summary>Moves the batch out, moves back what changed, and drops the rest.</summary>
    private void Flush()
    {
        PageRange used = new(_staging!.Range.Start, _used);
        if (_batch.Count > 0 && _fd.Register(used) == 0)
        {
            _journal?.Staged = CollectionsMarshal.AsSpan(_batch);
            for (int i = 0; i < _batch.Count; i++)
            {
                if (!_refused.Contains(_owners[i]) && !MoveOut(_batch[i]))
                    _refused.Add(_owners[i]);
            }
            // It takes the lock of the address space for itself, so whoever found a page before it was moved has done
            // with it. (A write to
            // /proc/PID/mem holds that lock until the bytes are in the page.) And what is dropped there now causes no
            // message.
            _ = _fd.Unregister(used);
            foreach (ChangeJournal.StagedPages piece in _batch)
                MoveBackChanged(piece);
            _journal?.Staged = [];
            _staging.Drop(_used);
        }
        else
        {
            // It would have to be another userfaultfd's.
            _refused.UnionWith(_owners);
        }
        _batch.Clear();
        _owners.Clear();
        _used = 0;
    }

    /// <summary>Moves what can be moved of a piece.</summary>
    /// <returns>False when the kernel moves nothing of its area at all.</returns>
    private bool MoveOut(ChangeJournal.StagedPages piece)
    {
        const int Attempts = 100;
        PageRange source = piece.SourceRange;
        PageNumber staged = _staging!.Range.Start + piece.Offset, ownUntil = source.Start;
        int attempts = 0;
        for (long done = 0; done < source.Count;)
        {
            int error = Move(staged + done, source.Start + done, source.Count - done, out long moved);
            done += moved;
            if (error == EINVAL)
                return false;
            if (moved > 0 || error == 0)
                attempts = 0;
            else if (error == EAGAIN && attempts++ < Attempts)
                continue; // Somebody else has the page in hand: reclaim, migration.
            else if (error == EBUSY && source.Start + done >= ownUntil)
                ownUntil = MakeOwn(PageRange.Between(source.Start + done, source.End));
            else
                done += _pagemap.IsHuge(source.Start + done) ? Huge : 1; // Pinned, or no page that could be moved (a guard, say). It stays.
        }
        return true;
    }

    /// <summary>
    /// A page that is shared with a forked child since the fork, or merged with an equal one, is refused like a pinned
    /// one. A write would make
    /// it the process's own, and so does this. It does not change a pinned page, which is its own already.
    /// </summary>
    /// <returns>Up to where pages are the process's own now. A page before it that is still refused is
    /// pinned.</returns>
    private PageNumber MakeOwn(PageRange pages)
    {
        const long Most = 2048;
        List<PageRange> existing = [];
        _pagemap.Scan(pages with { Count = Math.Min(pages.Count, Most) }, existing);
        // Not beyond what exists: the thread would wait for the next page, and nobody serves it yet.
        if (existing.Count == 0 || existing[0].Start != pages.Start)
            return pages.Start + 1;
        PageRange run = existing[0];
        long error = _calls.Call(__NR_madvise, run.Start.Address, (ulong)run.Bytes, Native.Mman.MADV_POPULATE_WRITE);
        return error < 0 ? pages.Start + 1 : run.End;
    }

    /// <summary>One call.</summary>
    /// <returns>0, or the error number; EAGAIN also when it came but part of the way.</returns>
    private unsafe int Move(PageNumber to, PageNumber from, long pages, out long moved)
    {
        Native.UffdioMove move = new()
        {
            dst = to.Address,
            src = from.Address,
            len = (ulong)pages << PageNumber.Shift,
            mode = Native.UffdMove.UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES,
        };
        _calls.Memory.Write(_calls.Data, new ReadOnlySpan<byte>(&move, sizeof(Native.UffdioMove)));
        long result = _calls.Call(__NR_ioctl, (ulong)_fdInTarget, Native.UffdMove.UFFDIO_MOVE, _calls.Data);
        moved = pages;
        if (result == 0)
            return 0;
        moved = Math.Max(0, _calls.Memory.Read<Native.UffdioMove>(_calls.Data).move) >> PageNumber.Shift;
        return (int)-result;
    }

    /// <summary>Looks at what was moved of a piece, and moves back what is not as it was dumped.</summary>
    private void MoveBackChanged(ChangeJournal.StagedPages piece)
    {
        PageNumber staged = _staging!.Range.Start + piece.Offset;
        List<PageRange> moved = [], changed = [];
        _pagemap.Scan(new PageRange(staged, piece.Pages), moved);
        foreach (PageRange run in moved)
        {
            PageRange source = new(new PageNumber(piece.Source) + (run.Start - staged), run.Count);
            int next = FirstContentFrom(source.Start);
            for (long done = 0; done < run.Count;)
            {
                int wanted = (int)Math.Min(ChunkPages, run.Count - done);
                Span<byte> bytes = _chunk.AsSpan(0, wanted * PageNumber.Size);
                int read = _calls.Memory.Read((run.Start + done).Address, bytes) / PageNumber.Size;
                for (int i = 0; i < read; i++)
                {
                    if (!IsAsDumped(source.Start + done + i, bytes.Slice(i * PageNumber.Size, PageNumber.Size), ref next))
                        changed.Add(PageRange.Single(source.Start + done + i));
                }
                if (read == 0)
                    changed.Add(PageRange.Single(source.Start + done)); // Broken memory. The process had better find out by itself.
                done += Math.Max(1, read);
            }
        }
        foreach (PageRange run in PageRanges.Normalize(changed))
            MoveBack(run, staged + (run.Start - new PageNumber(piece.Source)));
    }

    private void MoveBack(PageRange source, PageNumber staged)
    {
        for (long done = 0, attempts = 0; done < source.Count;)
        {
            int error = Move(source.Start + done, staged + done, source.Count - done, out long moved);
            done += moved;
            if (moved > 0 || error == 0 || (error == EAGAIN && attempts++ < 100))
                continue;
            CopyBack(source.Start + done, staged + done);
            done++;
        }
    }

    /// <summary>Should the kernel not move a page back, its bytes go there: it is the only copy.</summary>
    private unsafe void CopyBack(PageNumber source, PageNumber staged)
    {
        if (_calls.Memory.Read(staged.Address, _chunk.AsSpan(0, PageNumber.Size)) != PageNumber.Size)
            return;
        fixed (byte* page = _chunk)
            _ = _fd.Copy(source, (nint)page, 1, out _);
    }

    private int FirstContentFrom(PageNumber page)
    {
        int low = 0, high = _dump.Content.Count;
        while (low < high)
        {
            int middle = (low + high) / 2;
            if (_dump.Content[middle].End <= page)
                low = middle + 1;
            else
                high = middle;
        }
        return low;
    }

    private bool IsAsDumped(PageNumber page, ReadOnlySpan<byte> bytes, ref int next)
    {
        while (next < _dump.Content.Count && _dump.Content[next].End <= page)
            next++;
        return next < _dump.Content.Count && _dump.Content[next].Start <= page
            ? MemoryDump.HashOf(bytes) == _dump.Hashes[(int)(_firstHash[next] + (page - _dump.Content[next].Start))]
            : MemoryDump.IsZero(bytes);
    }
}
