using Testbed.Core;

namespace Testbed.Traces;

/// <summary>
/// How much a file may make of itself when it is read. What is stored compressed, run-length coded or by reference can claim any size in
/// a few bytes; so each count is held against the size of the whole file. Real files stay far below: the constants say how far.
/// </summary>
internal static class Budget
{
    // A record of a real capture takes 5 to 15 bytes of the file, and 0.5 where its times are made by a rule.
    private const long RecordsBase = 1 << 20, RecordsPerByte = 50;

    // zstd makes columns of varints 2 to 8 times smaller; a rule's, up to a hundred.
    private const long UnpackedBase = 64 << 20, UnpackedPerByte = 200;

    // Names and page ranges, which become objects: the header of a 500 MB redis has 20 kB. The header of a fragmented TiB has some MiB.
    private const long DescriptionBase = 4 << 20, DescriptionPerByte = 16;

    // The page map of a replay takes two bits a page: 64 MiB for a TiB of areas, which a Java or Haskell program reserves in earnest, and
    // 16 bytes more for each byte of the file.
    private const long PagesBase = 1L << 28, PagesPerByte = 64;

    /// <summary>Faults and events, threads among them, that a file of this size may hold.</summary>
    public static long Records(long fileBytes) => RecordsBase + (RecordsPerByte * fileBytes);

    /// <summary>Bytes that all its blocks may unpack to.</summary>
    public static long Unpacked(long fileBytes) => UnpackedBase + (UnpackedPerByte * fileBytes);

    /// <summary>Bytes that its blocks of names and ranges may unpack to.</summary>
    public static long Description(long fileBytes) => DescriptionBase + (DescriptionPerByte * fileBytes);

    /// <summary>Pages of all areas that a replay of it may have to keep a state for.</summary>
    public static long Pages(long fileBytes) => Math.Min(uint.MaxValue, PagesBase + (PagesPerByte * fileBytes));

    /// <summary>Holds a count of records against the budget.</summary>
    /// <exception cref="BadInputException">It is above.</exception>
    public static void CheckRecords(string name, long records, long fileBytes)
    {
        if (records > Records(fileBytes))
            throw new BadInputException($"{name}: {records} records in {fileBytes} bytes; expected at most {Records(fileBytes)} ({RecordsBase} and {RecordsPerByte} a byte)");
    }
}
