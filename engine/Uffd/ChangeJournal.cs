using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using Mono.Unix.Native;
using Testbed.Core;
using Testbed.Uffd.Interop;
using static Testbed.Uffd.Interop.Native.Nr;

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

    /// <summary>All is well, and nothing is left to do.</summary>
    Ended = 4,
}

/// <summary>
/// What a running process did to its address space while pages of it were away, kept beside the images, so that somebody
/// else can bring back the rest when the daemon was killed: which pages not to bring, and where those that moved are.
/// <para>
/// There is no moment in which a message is known to the dead daemon alone: the kernel writes messages straight into the
/// journal, which is mapped (<see cref="Begin"/>), and what was mapped outlives the process. A batch of mere faults is
/// overwritten by the next one; a batch with a change in it is kept.
/// </para>
/// <para>
/// It is one file that grows. A recovery process gets it by descriptor (<see cref="Descriptor"/>, <see cref="Adopt"/>), never by name: what is under
/// the name later may be another service's. Whoever has the file open holds its lock, so that no second capture and no second rescue
/// uses the same directory.
/// </para>
/// </summary>
public sealed unsafe class ChangeJournal : IDisposable
{
    private const ulong Magic = 0x314C4E524A535454; // "TTSJRNL1" as bytes
    private const string FileName = "changes.journal";
    private const int HeaderBytes = 4096;
    private const int FileBytes = 4 << 20;
    private const int SlotsPerFile = (FileBytes - HeaderBytes) / SlotBytes;
    private static readonly TimeSpan LockPatience = TimeSpan.FromSeconds(2);
    private const int SlotBytes = 32;
    private const int BatchMessages = 64;

    // No message of the kernel has this number. The slot before each batch: whose it is.
    private const byte BatchMark = 1;

    // Notes of our own: which process an address space belongs to, an area of it that fork wipes, and that all is
    // written down which its own
    // fork wiped in it.
    private const byte ProcessNote = 2, WipedNote = 3, SettledNote = 4, FirstOfKernel = (byte)UffdEvent.PageFault;

    [StructLayout(LayoutKind.Sequential)]
    private struct Header
    {
        public ulong Magic;
        public int Pid, Phase;
        public long StartTime;
        public int TargetFd, Overflown;
        public ulong DroppingStart;
        public long DroppingPages;
        public int Holder;
        public int StagingPages;
        public ulong StagingStart;
        public int StagedCount;
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

    private readonly string? _directory;
    private readonly SafeFileHandle _file;
    private readonly List<nint> _files = [];
    private int _tail;

    private ChangeJournal(string? directory, SafeFileHandle file) => (_directory, _file) = (directory, file);

    /// <summary>Begins a journal in the directory of a capture's images, which is this capture's alone from now on.</summary>
    /// <exception cref="BadInputException">Another capture uses the directory, there is no room, or no right to write.</exception>
    public static ChangeJournal Create(string directory, ProcessInfo target)
    {
        RemoveOld(directory);
        string path = Path.Combine(directory, FileName), name = $"{path}.{Environment.ProcessId}.new";
        SafeFileHandle file = OpenFile(name, OpenFlags.O_RDWR | OpenFlags.O_CREAT | OpenFlags.O_EXCL);
        var journal = new ChangeJournal(directory, file);
        try
        {
            journal.Grow(new Header { Magic = Magic, Pid = target.Pid, StartTime = target.StartTime, TargetFd = -1, Holder = Environment.ProcessId });
            _ = journal.TryLock();
            // It appears under its name only when it is whole, and in nobody's place.
            File.Move(name, path);
            return journal;
        }
        catch (Exception e)
        {
            journal.Dispose();
            if (e is IOException or UnauthorizedAccessException)
                throw new BadInputException($"{path}: cannot be created ({e.Message}); expected a directory that no other capture uses", e);
            throw;
        }
        finally
        {
            File.Delete(name);
        }
    }

    /// <summary>Begins a journal without a name, of processes that somebody else restores: it lasts as long as somebody has it open.</summary>
    /// <exception cref="BadInputException">There is no room.</exception>
    public static ChangeJournal CreateUnnamed()
    {
        int fd;
        fixed (byte* name = "testbed-changes"u8)
            fd = (int)Native.Syscall(__NR_memfd_create, (long)name, Native.Memfd.MFD_CLOEXEC);
        if (fd < 0)
            throw new BadInputException($"memfd_create: {Native.Describe(Native.Errno)}; room for a file in memory is expected");
        var journal = new ChangeJournal(null, new SafeFileHandle(fd, ownsHandle: true));
        try
        {
            journal.Grow(new Header { Magic = Magic, TargetFd = -1, Holder = Environment.ProcessId });
            return journal;
        }
        catch
        {
            journal.Dispose();
            throw;
        }
    }

    /// <summary>Opens the journal of a capture, to look into it.</summary>
    /// <exception cref="BadInputException">There is none, or it is none.</exception>
    public static ChangeJournal Open(string directory) => From(OpenFile(Path.Combine(directory, FileName), OpenFlags.O_RDWR), directory);

    /// <summary>Opens the journal of a capture whose daemon is dead, to go on with it.</summary>
    /// <exception cref="BadInputException">There is none, or somebody who lives has it.</exception>
    public static ChangeJournal OpenToRescue(string directory)
    {
        ChangeJournal journal = Open(directory);
        for (long end = Environment.TickCount64 + (long)LockPatience.TotalMilliseconds; !journal.TryLock(); Thread.Sleep(20))
        {
            if (Environment.TickCount64 < end)
                continue;
            (int pid, int holder) = (journal.Pid, journal.Holder);
            journal.Dispose();
            throw new BadInputException($"{directory}: process {holder} holds the memory of process {pid}, and brings it back by itself; expected a capture that was killed together with its recovery process");
        }
        journal.Holder = Environment.ProcessId;
        return journal;
    }

    /// <summary>A journal that was handed over, open.</summary>
    /// <param name="fd">The descriptor, which becomes the journal's.</param>
    /// <param name="directory">Where the file has its name; null when it has none.</param>
    /// <exception cref="BadInputException">It is no journal.</exception>
    public static ChangeJournal Adopt(int fd, string? directory) => From(new SafeFileHandle(fd, ownsHandle: true), directory);

    private static ChangeJournal From(SafeFileHandle file, string? directory)
    {
        var journal = new ChangeJournal(directory, file);
        try
        {
            long length = RandomAccess.GetLength(file);
            for (long at = 0; at + FileBytes <= length; at += FileBytes)
                journal.Map(at);
            if (journal._files.Count == 0 || journal.Head->Magic != Magic)
                throw new BadInputException($"{directory}/{FileName}: is no journal of a capture of this version");
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
    public static bool Exists(string directory) => File.Exists(Path.Combine(directory, FileName));

    /// <summary>The file, to be handed over.</summary>
    public int Descriptor => (int)_file.DangerousGetHandle();

    /// <summary>The same journal, opened anew: it goes on behind what the other one wrote.</summary>
    public ChangeJournal Again()
    {
        int fd = Syscall.dup(Descriptor);
        return fd >= 0 ? Adopt(fd, _directory) : throw new BadInputException($"dup: {Stdlib.GetLastError()}; room for a descriptor is expected");
    }

    /// <summary>Removes the file, once everything is back; not one that has come into its place.</summary>
    public void Remove()
    {
        if (_directory is not null && IsAt(_directory))
            File.Delete(Path.Combine(_directory, FileName));
    }

    /// <summary>Whether the file in a directory is this one.</summary>
    public bool IsAt(string directory) =>
        Syscall.stat(Path.Combine(directory, FileName), out Stat there) == 0 && Syscall.fstat(Descriptor, out Stat ours) == 0
        && (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino);

    /// <summary>A journal that is left from before is removed, unless memory depends on it.</summary>
    private static void RemoveOld(string directory)
    {
        if (!Exists(directory))
            return;
        using ChangeJournal old = Open(directory);
        // Of one that ended well nobody needs anything, whoever has it open still.
        if (old.Phase != CapturePhase.Ended && !old.TryLock())
            throw new BadInputException($"{directory}: process {old.Holder} uses it for a capture of process {old.Pid}; expected a directory of its own for each capture");
        if (old.Phase is CapturePhase.Evicting or CapturePhase.Serving or CapturePhase.Finishing && ProcessInfo.IsRunning(old.Pid, old.StartTime))
            throw new BadInputException($"{directory}: holds memory of process {old.Pid}, whose capture was killed; first run: testbed rescue --pid {old.Pid} --images {directory}");
        old.Remove();
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

    /// <summary>The process that serves the memory, for messages.</summary>
    public int Holder { get => Head->Holder; set => Head->Holder = value; }

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

    /// <summary>Writes down changes that the kernel tells nobody about: pages of an address space that are
    /// dropped.</summary>
    public void NoteDropped(int space, IReadOnlyList<PageRange> pages) => Append(space, [.. pages.Select(UffdMessage.Removed)]);

    /// <summary>Writes down what is known of an address space: which process it belongs to, and what a fork
    /// wipes.</summary>
    /// <param name="space">Its number.</param>
    /// <param name="view">The process.</param>
    /// <param name="dropped">What its own fork wiped in it; none for one that was not forked.</param>
    public void NoteProcess(int space, ProcessView view, IReadOnlyList<PageRange> dropped) => Append(space,
    [
        .. dropped.Select(UffdMessage.Removed),
        new UffdMessage(ProcessNote, (ulong)view.Pid, (ulong)view.StartTime),
        .. view.WipedOnFork.Select(range => new UffdMessage(WipedNote, range.Start.Address, range.End.Address)),
        new UffdMessage(SettledNote, 0, 0),
    ]);

    private void Append(int space, ReadOnlySpan<UffdMessage> messages)
    {
        while (messages.Length > 0)
        {
            Span<UffdMessage> batch = Begin(space);
            int count = Math.Min(batch.Length, messages.Length);
            // In this order, whatever the moment of our death: what says that all is written down comes last.
            for (int i = 0; i < count; i++)
            {
                batch[i] = messages[i];
                Interlocked.MemoryBarrier();
            }
            Keep(count);
            messages = messages[count..];
        }
    }

    /// <summary>What is known of the address spaces whose processes were written down.</summary>
    public Dictionary<int, JournaledProcess> ReadProcesses()
    {
        Dictionary<int, JournaledProcess> processes = [];
        Dictionary<int, (int Pid, long StartTime, List<PageRange> Wiped)> open = [];
        foreach ((int space, UffdMessage note) in ReadAll().Where(entry => (byte)entry.Message.Event < FirstOfKernel))
        {
            (ulong first, ulong second) = note.Numbers;
            if ((byte)note.Event == ProcessNote)
                open[space] = ((int)first, (long)second, []);
            else if ((byte)note.Event == WipedNote && open.TryGetValue(space, out var process))
                process.Wiped.Add(PageRange.Between(PageNumber.Of(first), PageNumber.Of(second)));
            else if ((byte)note.Event == SettledNote && open.TryGetValue(space, out process))
                processes[space] = new JournaledProcess(process.Pid, process.StartTime, process.Wiped);
        }
        return processes;
    }

    /// <summary>All changes, in order, with the address space that each is about: 0, or the n-th that a Fork made, from 1 on.</summary>
    public List<(int Space, UffdMessage Message)> ReadChanges() =>
        [.. ReadAll().Where(entry => (byte)entry.Message.Event >= FirstOfKernel)];

    private List<(int Space, UffdMessage Message)> ReadAll()
    {
        List<(int Space, UffdMessage Message)> changes = [];
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

    /// <summary>Lets go of the file; it stays.</summary>
    public void Dispose()
    {
        foreach (nint file in _files)
            _ = Native.Munmap(file, FileBytes);
        _files.Clear();
        _file.Dispose();
    }

    /// <summary>Without room the service goes on, and only a rescue would fail.</summary>
    private void Grow()
    {
        try
        {
            Grow(default);
            _tail = 0;
        }
        catch (BadInputException)
        {
            Head->Overflown = 1;
            _tail = SlotsPerFile - BatchMessages - 1;
        }
    }

    private Slot* SlotAt(int file, int index) => (Slot*)(_files[file] + HeaderBytes) + index;

    /// <summary>Adds a part. Its room is taken at once: a full disk must not be found out by the kernel, with a message in its hands.</summary>
    private void Grow(Header head)
    {
        long offset = (long)_files.Count * FileBytes;
        if (Native.Syscall(__NR_fallocate, Descriptor, 0, offset, FileBytes) < 0)
        {
            int errno = Native.Errno;
            if (errno == Native.E.ENOSPC || Syscall.ftruncate(Descriptor, offset + FileBytes) != 0)
                throw new BadInputException($"{_directory ?? "memory"}: no journal can be written ({Native.Describe(errno)}); expected room for {FileBytes >> 20} MiB");
        }
        Map(offset);
        *(Header*)_files[^1] = head;
    }

    private void Map(long offset)
    {
        nint address = Native.Mmap(
            0, FileBytes, Native.Mman.PROT_READ | Native.Mman.PROT_WRITE, Native.Mman.MAP_SHARED | Native.Mman.MAP_POPULATE, Descriptor, offset);
        if (address == -1)
            throw new BadInputException($"{_directory}/{FileName}: cannot be mapped ({Native.Describe(Native.Errno)}); expected the journal of a capture");
        // A page that is given up and cannot be read again, as its disk fails, would be the end of whoever touches it. Not everybody may.
        _ = Native.Syscall(__NR_mlock, address, FileBytes);
        _files.Add(address);
    }

    /// <summary>Whether it is ours alone: the lock is held as long as anybody has the file open whom we gave it to.</summary>
    private bool TryLock() => Native.Syscall(__NR_flock, Descriptor, Native.FileLock.LOCK_EX | Native.FileLock.LOCK_NB) == 0;

    private static SafeFileHandle OpenFile(string path, OpenFlags flags)
    {
        int fd = Syscall.open(path, flags | OpenFlags.O_CLOEXEC | OpenFlags.O_NOFOLLOW, FilePermissions.S_IRUSR | FilePermissions.S_IWUSR);
        return fd >= 0 ? new SafeFileHandle(fd, ownsHandle: true)
            : throw new BadInputException($"{path}: cannot be {((flags & OpenFlags.O_CREAT) != 0 ? "created" : "opened")} ({Stdlib.GetLastError()}); expected the journal of a capture");
    }
}
