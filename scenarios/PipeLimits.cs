using Testbed.Core;

namespace Testbed.Scenarios;

/// <summary>
/// The kernel's limits on pipes, lifted for CRIU. They are the whole machine's, and several programs may need them at once: what they were
/// is kept in a file that each of them has locked, and the last one brings it back. After one that was killed, the next one's end does.
/// </summary>
public sealed class PipeLimits : IDisposable
{
    /// <summary>
    /// What fs.pipe-max-size has to be. CRIU's page server, and its dump with --lazy-pages, ask for a pipe of 819 pages (3.2 MiB), which the
    /// kernel rounds up to 4 MiB; they do not notice that it is refused, and fail at the first page ("tee", "splice: Bad file descriptor").
    /// </summary>
    public const long PipeBytes = 4 << 20;

    private const string Kept = "/run/testbed-pipe-limits", Soft = "/proc/sys/fs/pipe-user-pages-soft", Size = "/proc/sys/fs/pipe-max-size";
    private FileStream? _shared;

    /// <summary>Lifts them.</summary>
    /// <exception cref="BadInputException">They are too low and cannot be changed.</exception>
    public PipeLimits()
    {
        for (long end = Environment.TickCount64 + 5000; ; Thread.Sleep(5))
        {
            KeepIfFirst();
            _shared = Open(FileAccess.Read, FileShare.Read);
            try
            {
                Changed = [.. Changed, .. Lift()];
            }
            catch
            {
                Dispose();
                throw;
            }
            // Between the two, the last one of others may have brought them back; with the file shared, nobody does.
            if (_shared is not null || Environment.TickCount64 > end)
                return;
        }
    }

    /// <summary>What was changed, for people: <c>fs.pipe-max-size from 1048576 to 4194304</c>.</summary>
    public IReadOnlyList<string> Changed { get; private set; } = [];

    /// <inheritdoc/>
    public void Dispose()
    {
        _shared?.Dispose();
        using FileStream? alone = _shared is null ? null : Open(FileAccess.ReadWrite, FileShare.None);
        _shared = null;
        if (alone is null)
            return;
        using var reader = new StreamReader(alone, leaveOpen: true);
        foreach (string line in reader.ReadToEnd().Split('\n', StringSplitOptions.RemoveEmptyEntries))
        {
            string[] kept = line.Split(' ');
            File.WriteAllText(kept[0], kept[1]);
        }
        alone.SetLength(0);
    }

    /// <summary>Nobody else has them lifted: keeps what they are, unless one that was killed left what they had been.</summary>
    private static void KeepIfFirst()
    {
        using FileStream? alone = Open(FileAccess.ReadWrite, FileShare.None);
        if (alone is not { Length: 0 })
            return;
        using var writer = new StreamWriter(alone, leaveOpen: true) { NewLine = "\n" };
        foreach (string file in (string[])[Soft, Size])
            writer.WriteLine($"{file} {Read(file)}");
    }

    private static List<string> Lift()
    {
        var changed = new List<string>();
        if (Read(Soft) != 0)
            Set(Soft, 0);
        if (Read(Size) < PipeBytes)
            Set(Size, PipeBytes);
        return changed;

        void Set(string file, long wanted)
        {
            string name = "fs." + Path.GetFileName(file);
            long before = Read(file);
            try
            {
                File.WriteAllText(file, $"{wanted}");
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                throw new BadInputException($"{name} is {before} and cannot be changed here; expected {wanted}, which CRIU needs: as root of the host: sysctl -w {name}={wanted}", e);
            }
            changed.Add($"{name} from {before} to {wanted}");
        }
    }

    private static long Read(string file) => long.Parse(File.ReadAllText(file), System.Globalization.CultureInfo.InvariantCulture);

    /// <summary>Null when others have it, or where it cannot be made: then the limits stay lifted.</summary>
    private static FileStream? Open(FileAccess access, FileShare share)
    {
        try
        {
            return new FileStream(Kept, FileMode.OpenOrCreate, access, share);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }
}
