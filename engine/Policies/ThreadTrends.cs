namespace Testbed.Policies;

/// <summary>The stride of each thread: one that came twice, touches in between unseen.</summary>
internal sealed class ThreadTrends(int threads)
{
    private struct Trend
    {
        public bool Used;
        public int Thread;
        public long Last, Stride;
    }

    private readonly Trend[] _table = new Trend[threads];

    /// <summary>The thread's stride after this fault, 0 when it has none; up to <paramref name="ahead"/> strides between
    /// two faults were prefetched, and are one.</summary>
    public long Learn(int thread, long page, int ahead)
    {
        ref Trend t = ref _table[(int)((uint)thread % (uint)threads)];
        if (!t.Used || t.Thread != thread)
        {
            t = new Trend { Used = true, Thread = thread, Last = page };
            return 0;
        }
        long distance = page - t.Last;
        t.Last = page;
        if (t.Stride != 0 && distance % t.Stride == 0 && distance / t.Stride >= 1 && distance / t.Stride <= ahead + 1)
            return t.Stride;
        t.Stride = distance;
        return 0;
    }
}
