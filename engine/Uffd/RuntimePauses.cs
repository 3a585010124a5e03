using System.Runtime;

namespace Testbed.Uffd;

/// <summary>What the runtime took from a thread: collections, for which every thread stands still, and methods that were compiled on it.</summary>
/// <param name="Collections">How many.</param>
/// <param name="Collecting">How long all of them together.</param>
/// <param name="Methods">How many; none in native code.</param>
/// <param name="Compiling">How long all of them together.</param>
public readonly record struct RuntimePauses(int Collections, TimeSpan Collecting, long Methods, TimeSpan Compiling)
{
    /// <summary>On the calling thread, since it began.</summary>
    public static RuntimePauses Now() => new(
        GC.CollectionCount(0), GC.GetTotalPauseDuration(), JitInfo.GetCompiledMethodCount(currentThread: true), JitInfo.GetCompilationTime(currentThread: true));

    /// <summary>What came since <paramref name="before"/>.</summary>
    public RuntimePauses Since(RuntimePauses before) => new(
        Collections - before.Collections, Collecting - before.Collecting, Methods - before.Methods, Compiling - before.Compiling);

    /// <inheritdoc/>
    public override string ToString() =>
        $"{Collections} collections in {Collecting.TotalMicroseconds:0} us, {Methods} methods compiled in {Compiling.TotalMicroseconds:0} us";
}
