using Testbed.Core;
using Testbed.Uffd.Interop;
using static Testbed.Uffd.Interop.Native.Nr;

namespace Testbed.Uffd;

/// <summary>
/// The pages that the kernel itself reads or writes on behalf of a thread when nobody can serve it: while the thread
/// exits, a missing page is
/// an error that the kernel passes over in silence. Then a joiner, or whoever waits for a robust mutex, waits for ever.
/// So these pages
/// stay where they are.
/// </summary>
internal static class KernelPages
{
    /// <summary>
    /// Enough for the thread control block of glibc (2,304 bytes) and of musl, where the thread pointer points: the
    /// thread's id is in there.
    /// </summary>
    private const ulong ControlBlockBytes = 2304;

    /// <summary>What the kernel tells from outside about a stopped thread, and what the thread's robust list says
    /// now.</summary>
    public static List<PageRange> Of(StoppedThread thread, TargetMemory memory)
    {
        List<PageRange> pages = [];
        (ulong address, uint size) = thread.RestartableSequences();
        Add(pages, address, size);
        if (thread.TryGetRegisters(out Native.UserRegs regs) && regs.fs_base != 0)
            Add(pages, regs.fs_base, ControlBlockBytes);
        AddRobustList(pages, Native.GetRobustList(thread.Tid), memory);
        return pages;
    }

    /// <summary>
    /// Adds the word that the kernel clears when a thread exits, and wakes a joiner by (clear_child_tid). Only the
    /// thread itself can ask where
    /// it is.
    /// </summary>
    /// <param name="pages">Takes the pages.</param>
    /// <param name="host">The thread that calls are injected into.</param>
    /// <param name="threads">All stopped threads.</param>
    public static void AddExitWords(List<PageRange> pages, RemoteCalls host, IEnumerable<StoppedThread> threads)
    {
        Add(pages, TidAddress(host, host.Data), sizeof(int));
        ulong frame = 0;
        try
        {
            foreach (StoppedThread thread in threads)
            {
                if (thread.Tid == host.Tid || !CanCall(thread))
                    continue;
                if (frame == 0 && (frame = MapFrame(host)) == 0)
                    return;
                using RemoteCalls calls = new(host, thread, frame);
                Add(pages, TidAddress(calls, host.Data), sizeof(int));
            }
        }
        finally
        {
            if (frame != 0)
                _ = host.Call(__NR_munmap, frame, RemoteCalls.FrameBytes);
        }
    }

    /// <summary>Not every thread can be made to call: where its calls become signals, what it has at its control block must do.</summary>
    private static bool CanCall(StoppedThread thread) =>
        !ProcessInfo.IsKernelWorker(thread.Pid, thread.Tid) && !thread.DispatchesCalls
        && (thread.SuspendSeccomp() == 0 || !ProcessInfo.HasThreadSeccomp(thread.Pid, thread.Tid));

    /// <summary>One frame serves all threads, one after the other: whoever had it before has its own registers
    /// back.</summary>
    private static ulong MapFrame(RemoteCalls host)
    {
        long frame = host.Call(__NR_mmap, 0, RemoteCalls.FrameBytes, Native.Mman.PROT_READ | Native.Mman.PROT_WRITE,
            Native.Mman.MAP_SHARED | Native.Mman.MAP_ANONYMOUS, ulong.MaxValue);
        return frame is < 0 and > -4096 ? 0 : (ulong)frame;
    }

    private static ulong TidAddress(RemoteCalls calls, ulong answer) =>
        calls.Call(__NR_prctl, Native.Prctl.PR_GET_TID_ADDRESS, answer) == 0 ? calls.Memory.Read<ulong>(answer) : 0;

    /// <summary>The list as exit_robust_list in the kernel walks it: as long, and no further than memory
    /// goes.</summary>
    private static void AddRobustList(List<PageRange> pages, ulong head, TargetMemory memory)
    {
        const ulong PriorityInheritance = 1;
        Span<ulong> words = stackalloc ulong[3]; // struct robust_list_head: list.next, futex_offset, list_op_pending
        if (head == 0 || !TryRead(memory, head, words))
            return;
        Add(pages, head, (ulong)words.Length * sizeof(ulong));
        (ulong entry, ulong offset, ulong pending) = (words[0], words[1], words[2] & ~PriorityInheritance);
        if (pending != 0)
            AddNode(pages, pending, offset);
        for (int i = 0; i < Native.Futex.ROBUST_LIST_LIMIT; i++)
        {
            entry &= ~PriorityInheritance;
            if (entry == head || !TryRead(memory, entry, words[..1]))
                return;
            AddNode(pages, entry, offset);
            entry = words[0];
        }
    }

    private static void AddNode(List<PageRange> pages, ulong node, ulong futexOffset)
    {
        Add(pages, node, sizeof(ulong));
        Add(pages, node + futexOffset, sizeof(int));
    }

    private static bool TryRead(TargetMemory memory, ulong address, Span<ulong> words)
    {
        Span<byte> bytes = System.Runtime.InteropServices.MemoryMarshal.AsBytes(words);
        return memory.Read(address, bytes) == bytes.Length;
    }

    private static void Add(List<PageRange> pages, ulong address, ulong size)
    {
        if (address != 0 && size != 0 && address + size > address)
            pages.Add(PageRange.Between(PageNumber.Of(address), PageNumber.Of(address + size - 1) + 1));
    }
}
