using System.Runtime.InteropServices;
using Testbed.Core;
using Testbed.PageXfer.Images;
using Testbed.Uffd;

namespace Testbed.Live;

/// <summary>Brings memory back without fault service, lanes or server: straight from the images into the process.</summary>
internal static class Rescue
{
    private const int ChunkPages = 256;

    /// <summary>Installs every page that is lazy or in flight. Pages that the process dropped meanwhile are neither, and stay zero.</summary>
    public static void Restore(UserFaultFd fd, PageMap map, PageReader pages)
    {
        byte[] buffer = GC.AllocateUninitializedArray<byte>(ChunkPages * PageNumber.Size, pinned: true);
        nint source = Marshal.UnsafeAddrOfPinnedArrayElement(buffer, 0);
        for (long index = 0; index < map.Count; index++)
        {
            if (map[index] is not (PageState.Lazy or PageState.InFlight))
                continue;
            long count = 1;
            long end = Math.Min(map.AreaBounds(index).End, index + ChunkPages);
            while (index + count < end && map[index + count] is PageState.Lazy or PageState.InFlight)
                count++;
            var range = new PageRange(map.PageAt(index), count);
            pages.Read(range, buffer.AsSpan(0, (int)range.Bytes));
            Install(fd, range, source);
            index += count - 1;
        }
    }

    private static void Install(UserFaultFd fd, PageRange range, nint source)
    {
        for (long at = 0; at < range.Count;)
        {
            PageNumber page = range.Start + at;
            CopyOutcome outcome = fd.Copy(page, source + (nint)(at << PageNumber.Shift), range.Count - at, out long done);
            at += done;
            switch (outcome)
            {
                case CopyOutcome.ProcessGone:
                    return;
                case CopyOutcome.AlreadyPresent or CopyOutcome.Gone:
                    fd.Wake(PageRange.Single(page + done));
                    at++;
                    break;
            }
        }
    }
}
