using Microsoft.Win32.SafeHandles;
using Mono.Unix.Native;
using Testbed.Core;

namespace Testbed.PageXfer.Images;

/// <summary>
/// A file pages-N.img that is open for as long as its pages may be needed. Deleting or replacing the file changes nothing. If the open file
/// fails (it was cut short, or the disk has errors), a read says so, and later reads try again: the same file, or a whole one that was put
/// at its path. Reads may come from several threads at once.
/// </summary>
internal sealed class PagesFile : IDisposable
{
    // A file that is being written again must not be read before it is whole: two looks, this far apart, must find it the same.
    private static readonly TimeSpan Settling = TimeSpan.FromMilliseconds(400);

    private const int ComparedPages = 16;

    private readonly record struct Look(ulong Device, ulong Inode, long Bytes, long Changed, long ChangedNanoseconds);

    private readonly string _path;
    private readonly string _pagemapPath;
    private readonly byte[] _pagemap;
    private readonly long _needed;
    private readonly List<SafeFileHandle> _opened = [];
    private readonly Lock _gate = new();
    private volatile SafeFileHandle _file;

    // Bytes that were never missing. Those behind are believed again when the file has settled.
    private long _sound;
    private long _looked;
    private (Look? Ours, Look? AtPath) _seen;

    /// <summary>Opens it.</summary>
    /// <param name="path">Where it is.</param>
    /// <param name="needed">Bytes that the pagemap says are there.</param>
    /// <param name="pagemapPath">The pagemap that it belongs to.</param>
    /// <exception cref="BadInputException">It is missing or too short.</exception>
    public PagesFile(string path, long needed, string pagemapPath)
    {
        (_path, _pagemapPath, _needed, _sound) = (Path.GetFullPath(path), Path.GetFullPath(pagemapPath), needed, needed);
        long length;
        try
        {
            _pagemap = File.ReadAllBytes(pagemapPath);
            _file = File.OpenHandle(path, options: FileOptions.RandomAccess);
            length = RandomAccess.GetLength(_file);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or NotSupportedException)
        {
            throw new BadInputException($"{path}: cannot be opened ({e.Message}); expected the pages of {pagemapPath}", e);
        }
        _opened.Add(_file);
        if (length >= needed)
            return;
        _file.Dispose();
        throw new BadInputException($"{path}: has {length} bytes; expected {needed}, the present pages of {pagemapPath}");
    }

    /// <summary>The open file.</summary>
    public SafeFileHandle Handle => _file;

    /// <summary>Reads bytes of the file, as far as that is possible now.</summary>
    /// <param name="destination">Where they go.</param>
    /// <param name="offset">Of the first byte in the file.</param>
    /// <param name="why">Why it was not more; null when it was all.</param>
    /// <returns>How many bytes were read.</returns>
    public int TryRead(Span<byte> destination, long offset, out string? why)
    {
        why = null;
        if (offset + destination.Length > Volatile.Read(ref _sound))
            Mend();
        int done = 0;
        while (done < destination.Length)
        {
            long at = offset + done;
            int length = (int)Math.Min(destination.Length - done, Volatile.Read(ref _sound) - at);
            int got = length > 0 ? Read(_file, destination.Slice(done, length), at, out why) : 0;
            done += got;
            if (got > 0)
                continue;
            if (why is null)
                NoteCut(at);
            why = why is null ? $"{_path}: was cut short, {_needed} bytes are expected" : $"{_path}: cannot be read ({why})";
            Mend();
            break;
        }
        return done;
    }

    /// <summary>Closes the file.</summary>
    public void Dispose()
    {
        lock (_gate)
            _opened.ForEach(file => file.Dispose());
    }

    private static int Read(SafeFileHandle file, Span<byte> destination, long offset, out string? error)
    {
        error = null;
        try
        {
            return RandomAccess.Read(file, destination, offset);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            error = e.Message;
            return 0;
        }
    }

    private void NoteCut(long end)
    {
        lock (_gate)
            Volatile.Write(ref _sound, Math.Min(_sound, end));
    }

    /// <summary>Looks, now and then, whether the file is whole again, or a whole one is at its path.</summary>
    private void Mend()
    {
        if (!_gate.TryEnter())
            return;
        try
        {
            long now = Environment.TickCount64;
            if (now - _looked < (long)Settling.TotalMilliseconds)
                return;
            _looked = now;
            (Look? ours, Look? atPath) = (Of(_file), Of(_path));
            if (_sound < _needed && IsWhole(ours, _seen.Ours))
                Volatile.Write(ref _sound, _needed);
            else if (IsWhole(atPath, _seen.AtPath) && (atPath!.Value.Device, atPath.Value.Inode) != (ours?.Device, ours?.Inode))
                Replace();
            _seen = (ours, atPath);
        }
        finally
        {
            _gate.Exit();
        }
    }

    private bool IsWhole(Look? look, Look? before) => look is { } now && now == before && now.Bytes >= _needed;

    /// <summary>Takes the file at the path instead of the one that fails, if it is the same as far as can be seen.</summary>
    private void Replace()
    {
        SafeFileHandle? other = null;
        try
        {
            other = File.OpenHandle(_path, options: FileOptions.RandomAccess);
            if (!File.ReadAllBytes(_pagemapPath).AsSpan().SequenceEqual(_pagemap) || !Agrees(other))
            {
                other.Dispose();
                return;
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            other?.Dispose();
            return;
        }
        _opened.Add(other);
        _file = other;
        Volatile.Write(ref _sound, _needed);
    }

    /// <summary>Compares some of the pages that can still be read with those of another file.</summary>
    private bool Agrees(SafeFileHandle other)
    {
        byte[] one = new byte[PageNumber.Size], two = new byte[PageNumber.Size];
        long pages = _sound >> PageNumber.Shift;
        for (long i = 0; i < Math.Min(pages, ComparedPages); i++)
        {
            long offset = pages * i / Math.Min(pages, ComparedPages) << PageNumber.Shift;
            if (Read(_file, one, offset, out _) == one.Length && (RandomAccess.Read(other, two, offset) != two.Length || !one.AsSpan().SequenceEqual(two)))
                return false;
        }
        return true;
    }

    private static Look? Of(SafeFileHandle file) => Syscall.fstat((int)file.DangerousGetHandle(), out Stat stat) == 0 ? Of(stat) : null;

    private static Look? Of(string path) => Syscall.stat(path, out Stat stat) == 0 ? Of(stat) : null;

    private static Look Of(in Stat stat) => new(stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime, stat.st_mtime_nsec);
}
