using Testbed.Uffd;

namespace Testbed.Live.Tests;

/// <summary>A process with its pages away, served by the simplest service.</summary>
internal sealed class Capture : IDisposable
{
    public InPlaceTarget Target { get; }
    public MemoryStore Store { get; }
    public EvictedMemory Evicted { get; }
    public MiniService Service { get; }

    public Capture(int pid, RegionSelection selection)
    {
        Target = InPlaceTarget.Attach(pid, selection);
        Store = new MemoryStore(Target.EstimatedDumpBytes);
        Target.Dump(Store);
        Evicted = Target.Evict();
        Service = new MiniService(Target.Fd, Evicted.Image, Store);
        Target.Resume();
    }

    public FinishOutcome Finish()
    {
        Service.Drain();
        return Target.Finish();
    }

    public void Dispose()
    {
        Service.Dispose();
        Target.Dispose();
        Store.Dispose();
    }
}
