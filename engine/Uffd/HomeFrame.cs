using System.Buffers.Binary;
using Testbed.Core;
using Testbed.Uffd.Interop;

namespace Testbed.Uffd;

/// <summary>
/// The way back for a thread that makes a call for us while there are no scratch pages yet, or no more: a signal frame
/// below its stack, where the kernel itself would put one, and two places in the program's code that lead to it,
/// <c>syscall; ret</c> and the C library's return from a signal handler. When its tracer dies during the call, the
/// thread returns to its own business, as it does from the scratch pages (<see cref="SignalFrame"/>).
/// <para>
/// Only the first thread has one, while it is on the stack that the kernel made: below that, a program keeps nothing.
/// Stacks of other kinds may be smaller than a frame (goroutines, coroutines).
/// </para>
/// </summary>
internal sealed class HomeFrame
{
    // What lies up to here below the stack pointer belongs to the function that runs (the ABI's red zone).
    private const ulong RedZone = 128;
    private const int ChunkBytes = 256 * 1024, SearchBytesMax = 32 << 20;

    private readonly byte[] _before;

    private HomeFrame(ulong call, ulong stackPointer, byte[] before) => (Call, StackPointer, _before) = (call, stackPointer, before);

    /// <summary>Where the code <c>syscall; ret</c> is.</summary>
    public ulong Call { get; }

    /// <summary>The stack pointer for the call: there is the address of the return from a handler.</summary>
    public ulong StackPointer { get; }

    /// <summary>The pages of the stack that hold the frame.</summary>
    public PageRange Pages => PageRange.Between(PageNumber.Of(StackPointer), PageNumber.Of(StackPointer + (ulong)_before.Length - 1) + 1);

    private static ReadOnlySpan<byte> CallCode => [0x0f, 0x05, 0xc3];

    /// <summary>mov $__NR_rt_sigreturn,%rax; syscall: as glibc, musl and debuggers know it.</summary>
    private static ReadOnlySpan<byte> ReturnCode => [0x48, 0xc7, 0xc0, Native.Nr.__NR_rt_sigreturn, 0, 0, 0, 0x0f, 0x05];

    /// <summary>Writes the frame of a stopped thread.</summary>
    /// <param name="thread">The thread.</param>
    /// <param name="stopped">The registers that it is to go back to.</param>
    /// <param name="mask">Its blocked signals.</param>
    /// <param name="memory">The memory of its process.</param>
    /// <param name="mappings">The mappings of its process.</param>
    /// <returns>Null when there is no safe place for a frame, or the code has nothing that leads to it.</returns>
    public static HomeFrame? TryWrite(
        StoppedThread thread, in Native.UserRegs stopped, ulong mask, TargetMemory memory, IReadOnlyList<Mapping> mappings)
    {
        ulong rsp = stopped.rsp;
        Mapping? stack = mappings.FirstOrDefault(m => m.Name == "[stack]");
        if (thread.Tid != thread.Pid || stack is null || rsp < stack.Range.Start.Address || rsp >= stack.Range.End.Address)
            return null;
        byte[] xsave = thread.ExtendedState();
        ulong length = (ulong)SignalFrame.Build(0, stopped, mask, xsave).Length;
        ulong address = (rsp - RedZone - length) & ~63ul;
        if (address < stack.Range.Start.Address || !TryFindCode(memory, mappings, out ulong call, out ulong sigreturn))
            return null;
        byte[] frame = SignalFrame.Build(address, stopped, mask, xsave);
        BinaryPrimitives.WriteUInt64LittleEndian(frame, sigreturn);
        byte[] before = new byte[frame.Length];
        if (memory.Read(address, before) != before.Length)
            return null;
        memory.Write(address, frame);
        return new HomeFrame(call, address, before);
    }

    /// <summary>After the last call: the stack holds what it held before, as if nothing had been.</summary>
    public void Remove(TargetMemory memory) => memory.Write(StackPointer, _before);

    private static bool TryFindCode(TargetMemory memory, IReadOnlyList<Mapping> mappings, out ulong call, out ulong sigreturn)
    {
        (call, sigreturn) = (0, 0);
        byte[] chunk = new byte[ChunkBytes];
        long left = SearchBytesMax;
        // The C library first: a large program has its code elsewhere.
        IEnumerable<Mapping> code = mappings.Where(m => (m.Protection & 4) != 0 && m.Inode != 0)
            .OrderBy(m => !Path.GetFileName(m.Name).StartsWith("libc", StringComparison.Ordinal));
        foreach (Mapping mapping in code)
        {
            // Chunks overlap, so that nothing lies across two of them unseen.
            ulong step = (ulong)(ChunkBytes - ReturnCode.Length);
            for (ulong at = mapping.Range.Start.Address; at < mapping.Range.End.Address && left > 0; at += step, left -= ChunkBytes)
            {
                int wanted = (int)Math.Min((ulong)ChunkBytes, mapping.Range.End.Address - at);
                Span<byte> bytes = chunk.AsSpan(0, memory.Read(at, chunk.AsSpan(0, wanted)));
                Find(bytes, at, CallCode, ref call);
                Find(bytes, at, ReturnCode, ref sigreturn);
                if (call != 0 && sigreturn != 0)
                    return true;
            }
        }
        return false;
    }

    private static void Find(ReadOnlySpan<byte> bytes, ulong start, ReadOnlySpan<byte> code, ref ulong address)
    {
        if (address == 0 && bytes.IndexOf(code) is >= 0 and var at)
            address = start + (ulong)at;
    }
}
