using Testbed.Core;
using Testbed.PageXfer.Xfer;
using Testbed.Uffd.Interop;

namespace Testbed.Uffd;

/// <summary>
/// A lane as the fault-service thread sees it. All members are that thread's. Failures of the way to the source are
/// <see cref="BadInputException"/>s, after which the lane can only be disposed.
/// </summary>
internal abstract class ServiceLane : IDisposable
{
    /// <summary>What is installed in one go, for a fault that comes meanwhile waits that long: some 20 us.</summary>
    public const int PartPages = 16;

    /// <summary>The same while no faults come: with fewer system calls a quarter more in the same time (measured).</summary>
    public const int QuietPartPages = 64;

    /// <summary>A descriptor to poll; -1 when there is none.</summary>
    public virtual int PollHandle => -1;

    /// <summary>What to poll it for.</summary>
    public virtual short PollEvents => Native.PollH.POLLIN;

    /// <summary>Whether there is something to receive that no poll tells of.</summary>
    public virtual bool HasArrivals => false;

    /// <summary>Whether pages come in before they are told of, and need a place each. If not, they are put where the receiver says, a part at a time.</summary>
    public virtual bool ReceivesAhead => false;

    /// <summary>Pages of open requests that the source cannot give now; they are tried again.</summary>
    public virtual long DelayedPages => 0;

    /// <summary>Why it cannot; null when it can.</summary>
    public virtual string? Trouble => null;

    /// <summary>Asks for pages, to be put at <paramref name="buffer"/> by a lane that receives ahead.</summary>
    public abstract void Request(int tag, uint pid, PageRange range, nint buffer);

    /// <summary>Tells of what has come: a part, so that faults are looked at in between.</summary>
    public abstract void Receive(IPageReceiver receiver);

    /// <summary>Somebody waits for a page of a request: if it has come and only waits to be told of, it is told of now.</summary>
    public virtual bool Hurry(int tag, PageNumber page, IPageReceiver receiver) => false;

    /// <summary>Ends the lane; no buffer is written to any more when this returns.</summary>
    public abstract void Dispose();

    /// <summary>Ends it in peace, if nothing is on the way: tells the source that all is in.</summary>
    public abstract void Close(Duration patience);

    /// <summary>Ends it in peace, and leaves it to another lane to tell the source.</summary>
    public abstract void Leave(Duration patience);
}

/// <summary>A connection that the fault-service thread polls and reads itself: for what threads wait for, the shortest way; for bulk, where processors are few.</summary>
internal sealed class PolledLane(PageLane lane) : ServiceLane
{
    private bool _more;

    // Left over for its budget, perhaps deciphered already and in no socket.
    public override bool HasArrivals => _more;

    public override int PollHandle => (int)lane.Socket.SafeHandle.DangerousGetHandle();

    public override short PollEvents => lane.WantsWrite ? (short)(Native.PollH.POLLIN | Native.PollH.POLLOUT) : Native.PollH.POLLIN;

    public override void Request(int tag, uint pid, PageRange range, nint buffer) => lane.Request(tag, pid, range);

    public override void Receive(IPageReceiver receiver)
    {
        if (lane.WantsWrite)
            lane.Flush();
        if (lane.Outstanding == 0)
            lane.CheckIdle();
        _more = lane.Receive(receiver);
    }

    public override void Dispose() => lane.Dispose();

    public override void Close(Duration patience) => lane.Close(patience);

    public override void Leave(Duration patience) => lane.Leave(patience);
}
