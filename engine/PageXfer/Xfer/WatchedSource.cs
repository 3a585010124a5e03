using Microsoft.Win32.SafeHandles;
using Testbed.Core;

namespace Testbed.PageXfer.Xfer;

/// <summary>A page source whose failures are told to somebody besides whoever asked for the pages.</summary>
internal sealed class WatchedSource(IPageSource source, Action<string> onFailure) : IPageSource
{
    public long Available(uint pid, PageRange range) => source.Available(pid, range);

    public void ReadPages(uint pid, PageRange range, Span<byte> destination)
    {
        try
        {
            source.ReadPages(pid, range, destination);
        }
        catch (BadInputException e)
        {
            onFailure(e.Message);
            throw;
        }
    }

    public long Locate(uint pid, PageNumber page, out SafeFileHandle? file, out long offset) => source.Locate(pid, page, out file, out offset);
}
