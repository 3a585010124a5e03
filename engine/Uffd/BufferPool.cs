using System.Numerics;
using System.Runtime.InteropServices;
using Testbed.Core;

namespace Testbed.Uffd;

/// <summary>
/// Page-aligned native buffers, in sizes of a power of two, kept for reuse. Pages are received into one and installed
/// from it, so the collector never sees them. Bounded by what the fault service lets be in flight.
/// </summary>
internal sealed unsafe class BufferPool : IDisposable
{
    private readonly Stack<nint>[] _free = [.. Enumerable.Range(0, 32).Select(_ => new Stack<nint>(64))];
    private readonly List<nint> _all = [];

    /// <summary>A buffer of at least so many pages.</summary>
    public nint Rent(long pages)
    {
        Stack<nint> free = _free[ClassOf(pages)];
        if (free.TryPop(out nint buffer))
            return buffer;
        void* fresh = NativeMemory.AlignedAlloc((nuint)PageNumber.Size << ClassOf(pages), PageNumber.Size);
        _all.Add((nint)fresh);
        return (nint)fresh;
    }

    /// <summary>Gives a buffer back that was rented for so many pages.</summary>
    public void Return(nint buffer, long pages) => _free[ClassOf(pages)].Push(buffer);

    /// <summary>Frees all, also those that are out.</summary>
    public void Dispose()
    {
        foreach (nint buffer in _all)
            NativeMemory.AlignedFree((void*)buffer);
        _all.Clear();
    }

    private static int ClassOf(long pages) => BitOperations.Log2((ulong)Math.Max(1, pages - 1)) + (pages > 1 ? 1 : 0);
}
