using Testbed.Core;
using Testbed.Policies;
using Testbed.Traces;

namespace Testbed.Replay;

/// <summary>Turns recorded traces into what replays run.</summary>
public static class TraceWorkload
{
    /// <summary>The what-if workload of a capture: the target's first touches. Those of children that it forked are left
    /// out: their memory is a copy, and their lives depend on the parent's.</summary>
    /// <exception cref="BadInputException">The trace was not recorded demand-only: prefetch hides touches.</exception>
    public static ReplayWorkload From(Trace trace)
    {
        if (trace.Header.Kind == RecordingKind.Live)
            throw new BadInputException($"{trace.Name}: recorded live under policy {trace.Header.Policy}, which hides touches; expected a capture (testbed record)");
        FirstTouches touches = trace.FirstTouches();
        if (touches.Count == 0)
            throw new BadInputException($"{trace.Name}: no faults in it; expected a capture of a process that ran");
        return new ReplayWorkload(
            trace.Header.Workload, trace.Image,
            [.. touches.Threads.Select(t => new TouchSequence(t.Pages, t.ThinkNanoseconds, [.. t.Access.Select(a => a == Access.Write)])
            {
                BeforeFirstResponse = t.BeforeFirstResponse,
            })])
        {
            FirstResponseTail = touches.FirstResponseTail,
            Recording = touches.Recording,
        };
    }

    /// <summary>Feeds the recorded events of a live run to a fresh fault service.</summary>
    /// <returns>The hash of its commands: the live run's own, if this is the same machine.</returns>
    /// <exception cref="BadInputException">The trace has no events.</exception>
    public static ulong ExactHash(Trace trace, TransferOptions transfer, PolicySpec policy, IReadOnlyList<PageNumber> recording)
    {
        if (trace.Events.Length == 0)
            throw new BadInputException($"{trace.Name}: holds no service events; expected a trace of testbed live, or of record --events");
        var service = new FaultService(
            transfer, map => policy.Create(new PolicyEnvironment(map, recording, trace.Header.Seed)), new RunMetrics(trace.Image.PresentPages));
        service.AddSpace(0, trace.Image);
        foreach (ref readonly ServiceEvent e in trace.Events.AsSpan())
            _ = service.Handle(e);
        return service.CommandHash;
    }
}
