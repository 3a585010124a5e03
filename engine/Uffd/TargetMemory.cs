using Testbed.Core;
using Testbed.Uffd.Interop;

namespace Testbed.Uffd;

/// <summary>Reads and writes another process's memory.</summary>
internal sealed unsafe class TargetMemory : IDisposable
{
    private readonly int _pid;
    private readonly int _mem;

    public TargetMemory(int pid)
    {
        _pid = pid;
        _mem = Native.Open($"/proc/{pid}/mem", Native.Fcntl.O_RDONLY | Native.Fcntl.O_CLOEXEC);
        if (_mem < 0 && (Native.Errno is Native.E.ESRCH or Native.E.ENOENT))
            throw new TargetGoneException($"process {pid} is gone");
        if (_mem < 0)
            throw new BadInputException($"/proc/{pid}/mem: {Native.Describe(Native.Errno)}; a running process that this user may trace is expected");
    }

    /// <summary>Reads as much as can be read in one piece.</summary>
    /// <returns>The bytes read; 0 when the first page cannot be read at all.</returns>
    public int Read(ulong address, Span<byte> bytes)
    {
        fixed (byte* p = bytes)
        {
            Native.IoVec local = new() { iov_base = (ulong)p, iov_len = (ulong)bytes.Length };
            Native.IoVec remote = new() { iov_base = address, iov_len = (ulong)bytes.Length };
            nint n = Native.ProcessVmReadv(_pid, &local, 1, &remote, 1, 0);
            // What is mapped without read access is open to a tracer this way only.
            if (n <= 0)
                n = Native.Pread(_mem, p, bytes.Length, (long)address);
            return (int)Math.Max(0, n);
        }
    }

    public T Read<T>(ulong address) where T : unmanaged
    {
        T value;
        if (Read(address, new Span<byte>(&value, sizeof(T))) < sizeof(T))
            throw new TargetGoneException($"memory of process {_pid} at 0x{address:x} cannot be read");
        return value;
    }

    public void Write(ulong address, ReadOnlySpan<byte> bytes)
    {
        fixed (byte* p = bytes)
        {
            Native.IoVec local = new() { iov_base = (ulong)p, iov_len = (ulong)bytes.Length };
            Native.IoVec remote = new() { iov_base = address, iov_len = (ulong)bytes.Length };
            if (Native.ProcessVmWritev(_pid, &local, 1, &remote, 1, 0) != bytes.Length)
                throw new TargetGoneException($"memory of process {_pid} at 0x{address:x} cannot be written ({Native.Describe(Native.Errno)})");
        }
    }

    public void Dispose() => _ = Native.Close(_mem);
}
