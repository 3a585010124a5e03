namespace Testbed.Uffd;

/// <summary>What the kernel itself touches in a thread's memory: when the thread ends, or changes its
/// processor.</summary>
/// <param name="Space">The number of its address space.</param>
/// <param name="ClearTid">Where the kernel writes 0 for who joins the thread (set_tid_address); 0 for nowhere.</param>
/// <param name="RobustList">The head of the list of its robust mutexes (set_robust_list); 0 for none.</param>
/// <param name="Rseq">Its area of restartable sequences; 0 for none.</param>
/// <param name="RseqBytes">How large that is.</param>
public readonly record struct ThreadExit(int Space, ulong ClearTid, ulong RobustList, ulong Rseq, uint RseqBytes);
