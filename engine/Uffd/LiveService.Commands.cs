using Testbed.Core;
using Testbed.PageXfer.Xfer;
using Testbed.Uffd.Interop;

namespace Testbed.Uffd;

/// <content>Commands and lanes.</content>
public sealed partial class LiveService
{
    private (nint Buffer, PageRange Range)[] _requests = new (nint, PageRange)[64];

    /// <summary>Gives an event to the fault service and carries out what comes back, and what comes back from that.</summary>
    private void Feed(in ServiceEvent e)
    {
        _log.OnEvent(e);
        foreach (ref readonly ServiceCommand command in _service.Handle(e))
            Enqueue(command);
        // An outcome met while carrying out a command is fed from within this loop: its commands queue up behind.
        if (_executing)
            return;
        _executing = true;
        while (_queueHead < _queueTail)
            Execute(_queue[_queueHead++]);
        _queueHead = _queueTail = 0;
        _executing = false;
    }

    private void Enqueue(in ServiceCommand command)
    {
        if (_queueTail == _queue.Length)
            Array.Resize(ref _queue, _queueTail * 2);
        _queue[_queueTail++] = command;
    }

    private void Execute(in ServiceCommand command)
    {
        switch (command.Kind)
        {
            case CommandKind.Request:
                Send(command);
                break;
            case CommandKind.Install:
                Copy(command);
                break;
            case CommandKind.Zero:
                Zero(command);
                break;
            case CommandKind.Wake:
                Find(command.Space)?.Fd.Wake(command.Range);
                break;
            case CommandKind.Release:
                _buffers.Return(_requests[command.Request].Buffer, _requests[command.Request].Range.Count);
                _requests[command.Request] = default;
                break;
            case CommandKind.Unregister:
                Drop(command.Space);
                break;
        }
    }

    private void Send(in ServiceCommand command)
    {
        if (command.Request >= _requests.Length)
            Array.Resize(ref _requests, Math.Max(command.Request + 1, _requests.Length * 2));
        _requests[command.Request] = (_buffers.Rent(command.Range.Count), command.Range);
        _lanes[command.Lane].Request(command.Request, command.Range);
    }

    private void Copy(in ServiceCommand command)
    {
        (nint buffer, PageRange range) = _requests[command.Request];
        nint source = buffer + (nint)((command.Source - range.Start) << PageNumber.Shift);
        if (Find(command.Space) is not { } target)
        {
            FeedOutcome(command, command.Range, InstallOutcome.ProcessGone);
            return;
        }
        CopyOutcome outcome = target.Fd.Copy(command.Range.Start, source, command.Range.Count, out long done);
        FeedOutcomes(command, outcome, done);
    }

    private void Zero(in ServiceCommand command)
    {
        if (Find(command.Space) is not { } target)
            return;
        CopyOutcome outcome = target.Fd.Zero(command.Range, out long done);
        FeedOutcomes(command, outcome, done);
    }

    /// <summary>The part that went in, and what the kernel said about the rest.</summary>
    private void FeedOutcomes(in ServiceCommand command, CopyOutcome outcome, long done)
    {
        if (done > 0)
            FeedOutcome(command, command.Range with { Count = done }, InstallOutcome.Installed);
        if (done < command.Range.Count)
            FeedOutcome(command, new PageRange(command.Range.Start + done, command.Range.Count - done), (InstallOutcome)outcome);
    }

    private void FeedOutcome(in ServiceCommand command, PageRange range, InstallOutcome outcome) =>
        Feed(new ServiceEvent(ServiceEventKind.InstallOutcome, _clock.Now, command.Space, range)
        {
            Request = command.Kind == CommandKind.Zero ? -1 : command.Request,
            Outcome = outcome,
        });

    private Target? Find(int space)
    {
        foreach (Target target in _targets)
        {
            if (target.Space == space)
                return target;
        }
        return null;
    }

    private void Drop(int space)
    {
        if (space == 0)
        {
            // Children that it forked may live on: their memory is brought in.
            TargetGone = true;
            Drain();
        }
        if (Find(space) is not { } target)
            return;
        _targets.Remove(target);
        target.Close();
        CollectPolls();
    }

    private void NoteLanes()
    {
        bool up = Array.Exists(_lanes, lane => lane.Lane is not null);
        if (up || _allLanesDown < 0)
            Volatile.Write(ref _allLanesDown, up ? -1 : _clock.Now.Nanoseconds);
    }

    /// <summary>A lane and its way to the fault service. A lane that fails is told as down, and tried again while idle.</summary>
    private sealed class LaneState(LiveService owner, int number, PageLane lane) : IPageReceiver
    {
        public int Number => number;

        public PageLane? Lane { get; private set; } = lane;

        public int Handle => Lane is null ? -1 : (int)Lane.Socket.SafeHandle.DangerousGetHandle();

        public short Events => Lane is { WantsWrite: true } ? (short)(Native.PollH.POLLIN | Native.PollH.POLLOUT) : Native.PollH.POLLIN;

        public void Request(int request, PageRange range)
        {
            try
            {
                Lane?.Request(request, owner._sourcePid, range);
            }
            catch (BadInputException e)
            {
                Fail(e);
            }
        }

        public void Receive()
        {
            if (Lane is null)
                return;
            try
            {
                if (Lane.WantsWrite)
                    Lane.Flush();
                // Readable with nothing asked for: the server hung up, or speaks out of turn.
                if (Lane.Outstanding == 0)
                    Fail(new BadInputException($"lane {number}: the page server closed the connection"));
                else
                    Lane.Receive(this);
            }
            catch (BadInputException e)
            {
                Fail(e);
            }
        }

        public void Reconnect()
        {
            try
            {
                Lane = owner._connect(number);
            }
            catch (BadInputException e)
            {
                owner.LastLaneError = e.Message;
                return;
            }
            owner.CollectPolls();
            owner.NoteLanes();
            owner.Feed(new ServiceEvent(ServiceEventKind.LaneUp, owner._clock.Now, 0, default) { Lane = number });
        }

        private void Fail(BadInputException e)
        {
            owner.LastLaneError = e.Message;
            Lane?.Dispose();
            Lane = null;
            owner.CollectPolls();
            owner.NoteLanes();
            owner.Feed(new ServiceEvent(ServiceEventKind.LaneDown, owner._clock.Now, 0, default) { Lane = number });
        }

        unsafe Span<byte> IPageReceiver.BufferFor(int tag, PageRange range)
        {
            (nint buffer, PageRange whole) = owner._requests[tag];
            return new Span<byte>((byte*)buffer + ((range.Start - whole.Start) << PageNumber.Shift), (int)range.Bytes);
        }

        void IPageReceiver.Arrived(int tag, PageRange range) =>
            owner.Feed(new ServiceEvent(ServiceEventKind.Arrived, owner._clock.Now, 0, range) { Request = tag });
    }
}
