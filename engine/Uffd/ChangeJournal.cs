using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using Testbed.Core;
using Testbed.Uffd.Interop;

namespace Testbed.Uffd;

/// <summary>How far a capture has come, as whoever finds its journal must know.</summary>
public enum CapturePhase
{
    /// <summary>All memory is where it belongs; the images may be incomplete.</summary>
    Prepared = 0,

    /// <summary>The images are complete, and memory is being dropped. The process is stopped.</summary>
    Evicting = 1,

    /// <summary>The process runs; what it changes is in the journal.</summary>
    Serving = 2,

    /// <summary>All memory is in again; areas are being unregistered.</summary>
    Finishing = 3,
}

/// <summary>
/// What a running process did to its address space while pages of it were away, kept beside the images, so that somebody
/// else can bring back the rest when the daemon was killed: which pages not to bring, and where those that moved are.
/// <para>
/// There is no moment in which a message is known to the dead daemon alone: the kernel writes messages straight into the
/// journal, which is mapped (<see cref="Begin"/>), and what was mapped outlives the process. A batch of mere faults is
/// overwritten by the next one; a batch with a change in it is kept.
/// </para>
/// </summary>
public sealed unsafe class ChangeJournal : IDisposable
{
    private const ulong Magic = 0x314C4E524A535454; // "TTSJRNL1" as bytes
    private const int HeaderBytes = 4096;
    private const int FileBytes = 4 << 20;
    private const int SlotsPerFile = (FileBytes - HeaderBytes) / SlotBytes;
    private const int SlotBytes = 32;
    private const int BatchMessages = 64;

    // No message of the kernel has this number. The slot before each batch: whose it is.
    private const byte BatchMark = 1;

    [StructLayout(LayoutKind.Sequential)]
    private struct Header
    {
        public ulong Magic;
        public int Pid, Phase;
        public long StartTime;
        public int TargetFd, Overflown;
        public ulong DroppingStart;
        public long DroppingPages;
        public ulong StagingStart;
        public int StagingPages, StagedCount;
    }

    /// <summary>Pages of the process, and where in the staging area they are, counted in pages from its start.</summary>
    [StructLayout(LayoutKind.Sequential)]
    internal struct StagedPages
    {
        public ulong Source;
        public int Pages, Offset;

        public readonly PageRange SourceRange => new(new PageNumber(Source), Pages);
    }

    // Behind the header, in the same page.
    private const int StagedOffset = 256;

    /// <summary>How many pieces the journal has room for.</summary>
    internal const int StagedMax = (HeaderBytes - StagedOffset) / 16;

    [StructLayout(LayoutKind.Explicit, Size = SlotBytes)]
    private struct Slot
    {
        [FieldOffset(0)] public byte Kind;
        [FieldOffset(8)] public int Space;
    }

    private readonly string _directory;
    private readonly List<nint> _files = [];
    private int _tail;

    private ChangeJournal(string directory) => _directory = directory;

    /// <summary>Begins a journal in the directory of a capture's images.</summary>
    /// <exception cref="BadInputException">There is no room, or no right to write.</exception>
    public static ChangeJournal Create(string directory, ProcessInfo target) =>
        Create(directory, new Header { Magic = Magic, Pid = target.Pid, StartTime = target.StartTime, TargetFd = -1 });

    /// <summary>Begins a journal of processes that somebody else restores.</summary>
    /// <exception cref="BadInputException">There is no room, or no right to write.</exception>
    public static ChangeJournal Create(string directory) => Create(directory, new Header { Magic = Magic, TargetFd = -1 });

    private static ChangeJournal Create(string directory, Header header)
    {
        Delete(directory);
        var journal = new ChangeJournal(directory);
        journal.AddFile(header);
        return journal;
    }

    /// <summary>Opens the journal of a capture whose daemon is dead, to read it and to go on with it.</summary>
    /// <exception cref="BadInputException">There is none, or it is none.</exception>
    public static ChangeJournal Open(string directory)
    {
        var journal = new ChangeJournal(directory);
        try
        {
            do
                journal.AddFile(null);
            while (File.Exists(journal.PathOf(journal._files.Count)));
            if (journal.Head->Magic != Magic)
                throw new BadInputException($"{journal.PathOf(0)}: is no journal of a capture of this version");
            journal._tail = SlotsPerFile;
            while (journal._tail > 0 && journal.SlotAt(journal._files.Count - 1, journal._tail - 1)->Kind == 0)
                journal._tail--;
            return journal;
        }
        catch
        {
            journal.Dispose();
            throw;
        }
    }

    /// <summary>Whether there is a journal in a directory.</summary>
    public static bool Exists(string directory) => File.Exists(Path.Combine(directory, "changes-0.journal"));

    /// <summary>Removes the journal in a directory, once everything is back.</summary>
    public static void Delete(string directory)
    {
        if (!Directory.Exists(directory))
            return;
        foreach (string file in Directory.EnumerateFiles(directory, "changes-*.journal*"))
            File.Delete(file);
    }

    /// <summary>The process that was captured.</summary>
    public int Pid => Head->Pid;

    /// <summary>When it was started, see <see cref="ProcessInfo.StartTime"/>: with the pid, it names one process for ever.</summary>
    public long StartTime => Head->StartTime;

    /// <summary>How far the capture has come.</summary>
    public CapturePhase Phase
    {
        get => (CapturePhase)Head->Phase;
        set => Volatile.Write(ref Head->Phase, (int)value);
    }

    /// <summary>The number of the userfaultfd inside the process; -1 when there is none yet.</summary>
    public int TargetFd { get => Head->TargetFd; set => Head->TargetFd = value; }

    /// <summary>The range that the daemon itself drops at this moment; a message about it is no doing of the program.</summary>
    public PageRange Dropping
    {
        get => new(new PageNumber(Head->DroppingStart), Head->DroppingPages);
        set => (Head->DroppingStart, Head->DroppingPages) = (value.Start.Value, value.Count);
    }

    /// <summary>
    /// The mapping that eviction made in the process to move pages through; empty when there is none. It is cleared before the mapping is
    /// taken away, so that nobody else unmaps what the process has put in its place since.
    /// </summary>
    public PageRange Staging
    {
        get => new(new PageNumber(Head->StagingStart), Head->StagingPages);
        set => (Head->StagingStart, Head->StagingPages) = (value.Start.Value, (int)value.Count);
    }

    /// <summary>
    /// What is being moved into the staging area. While this is not empty, the area holds the only copy of pages that changed after they were
    /// dumped; once it is empty, whatever is still there is also in the images.
    /// </summary>
    internal ReadOnlySpan<StagedPages> Staged
    {
        get => new((byte*)Head + StagedOffset, Volatile.Read(ref Head->StagedCount));
        set
        {
            value.CopyTo(new Span<StagedPages>((byte*)Head + StagedOffset, StagedMax));
            Volatile.Write(ref Head->StagedCount, value.Length);
        }
    }

    /// <summary>Whether changes were lost because it could not grow.</summary>
    public bool HasOverflown => Head->Overflown != 0;

    private Header* Head => (Header*)_files[0];

    /// <summary>Where the kernel is to write the next messages about an address space. They count as soon as they are there.</summary>
    public Span<UffdMessage> Begin(int space)
    {
        if (_tail + 1 + BatchMessages > SlotsPerFile)
            Grow();
        Slot* mark = SlotAt(_files.Count - 1, _tail);
        *mark = new Slot { Kind = BatchMark, Space = space };
        return new Span<UffdMessage>(mark + 1, BatchMessages);
    }

    /// <summary>The first <paramref name="messages"/> of the batch are kept: the next one goes behind them.</summary>
    public void Keep(int messages) => _tail += 1 + messages;

    /// <summary>All changes, in order, with the address space that each is about: 0, or the n-th that a Fork made, from 1 on.</summary>
    public List<(int Space, UffdMessage Message)> ReadChanges()
    {
        List<(int, UffdMessage)> changes = [];
        for (int file = 0; file < _files.Count; file++)
        {
            int space = 0;
            for (int i = 0; i < SlotsPerFile; i++)
            {
                Slot* slot = SlotAt(file, i);
                if (slot->Kind == BatchMark)
                    space = slot->Space;
                else if (slot->Kind != 0 && slot->Kind != (byte)UffdEvent.PageFault)
                    changes.Add((space, *(UffdMessage*)slot));
            }
        }
        return changes;
    }

    /// <summary>Lets go of the files; they stay.</summary>
    public void Dispose()
    {
        foreach (nint file in _files)
            _ = Native.Munmap(file, FileBytes);
        _files.Clear();
    }

    /// <summary>Without room the service goes on, and only a rescue would fail.</summary>
    private void Grow()
    {
        try
        {
            AddFile(default(Header));
            _tail = 0;
        }
        catch (BadInputException)
        {
            Head->Overflown = 1;
            _tail = SlotsPerFile - BatchMessages - 1;
        }
    }

    private Slot* SlotAt(int file, int index) => (Slot*)(_files[file] + HeaderBytes) + index;

    private string PathOf(int file) => Path.Combine(_directory, $"changes-{file}.journal");

    /// <summary>Maps the next file; one with a header is new, and appears under its name only when it is whole.</summary>
    private void AddFile(Header? header)
    {
        bool create = header is not null;
        string path = PathOf(_files.Count);
        string name = create ? path + ".new" : path;
        try
        {
            // Its room is taken at once: a full disk must not be found out by the kernel, with a message in its hands.
            using SafeFileHandle handle = File.OpenHandle(
                name, create ? FileMode.Create : FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite | FileShare.Delete,
                preallocationSize: create ? FileBytes : 0);
            if (create)
                RandomAccess.SetLength(handle, FileBytes);
            else if (RandomAccess.GetLength(handle) != FileBytes)
                throw new BadInputException($"{path}: has {RandomAccess.GetLength(handle)} bytes; expected {FileBytes}");
            nint address = Native.Mmap(
                0, FileBytes, Native.Mman.PROT_READ | Native.Mman.PROT_WRITE, Native.Mman.MAP_SHARED | Native.Mman.MAP_POPULATE,
                (int)handle.DangerousGetHandle(), 0);
            if (address == -1)
                throw new BadInputException($"{path}: cannot be mapped ({Native.Describe(Native.Errno)})");
            _files.Add(address);
            if (header is not { } head)
                return;
            *(Header*)address = head;
            File.Move(name, path, overwrite: true);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new BadInputException($"{path}: cannot be {(create ? "created" : "opened")} ({e.Message}); expected the journal of a capture, with room for {FileBytes >> 20} MiB", e);
        }
    }
}
