namespace Testbed.Core;

/// <summary>Files that people write, or that are kept like such: scenarios, calibrations, baselines.</summary>
public static class SmallFile
{
    /// <summary>16 MiB. The largest that is shipped, a baseline, has 60 kB.</summary>
    public const int BytesMax = 16 << 20;

    /// <summary>All bytes of a file, whatever length it claims: a device has none, and no end.</summary>
    /// <param name="read">Reads into an array, from a place on, at most a count; gives the bytes read, 0 at the end (as a stream's Read).</param>
    /// <param name="name">What messages call it.</param>
    /// <exception cref="BadInputException">It has more than <see cref="BytesMax"/>.</exception>
    public static byte[] Read(Func<byte[], int, int, int> read, string name)
    {
        var bytes = new byte[64 * 1024];
        int length = 0;
        for (int got; (got = read(bytes, length, bytes.Length - length)) > 0;)
        {
            length += got;
            if (length > BytesMax)
                throw new BadInputException($"{name}: more than {BytesMax} bytes; expected a file that a person writes");
            if (length == bytes.Length)
                Array.Resize(ref bytes, length * 2);
        }
        return bytes[..length];
    }
}
