using Testbed.Core;
using Testbed.PageXfer.Xfer;
using Testbed.Uffd.Interop;

namespace Testbed.Uffd;

/// <content>Commands and lanes.</content>
public sealed partial class LiveService : IPageReceiver
{
    private Asked[] _requests = new Asked[64];

    // Pages that do not come in ahead are here, for each lane, a part at a time, and installed from here while the processor's cache still holds them.
    private readonly nint[] _parts;
    private (int Request, PageRange Range) _arriving = (-1, default);

    // How many requests are open, and when something came last, or the first of them was sent: read by others, to see a server that is silent.
    private static readonly Duration LongSilence = Duration.FromSeconds(4);
    private int _openRequests;
    private long _heard;

    /// <summary>A request that is open.</summary>
    /// <param name="Lane">Where.</param>
    /// <param name="Range">What was asked for.</param>
    /// <param name="Ahead">Whether its pages come in ahead of being told of.</param>
    /// <param name="Buffer">Where they are then; else where those are kept that could not be installed at once, 0 when there were none.</param>
    /// <param name="Space">Whose pages.</param>
    /// <param name="IsWaitedFor">Whether a thread waits for the only page: no guard page can be there, for that would
    /// have ended the wait.</param>
    /// <param name="IsDelayed">Whether the source cannot give them now.</param>
    private readonly record struct Asked(
        int Lane, PageRange Range, bool Ahead, nint Buffer, int Space, bool IsWaitedFor, bool IsDelayed = false);

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
                if (_requests[command.Request].Buffer is var buffer and not 0)
                    _buffers.Return(buffer, _requests[command.Request].Range.Count);
                if (!_requests[command.Request].IsDelayed)
                    Volatile.Write(ref _openRequests, _openRequests - 1);
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
        bool ahead = _lanes[command.Lane] is { ReceivesAhead: true };
        nint buffer = ahead ? _buffers.Rent(command.Range.Count) : 0;
        _requests[command.Request] = new Asked(
            command.Lane, command.Range, ahead, buffer, command.Space, command.Cause == Cause.Demand && command.Range.Count == 1);
        if (_openRequests == 0)
            Volatile.Write(ref _heard, _clock.Now.Nanoseconds);
        Volatile.Write(ref _openRequests, _openRequests + 1);
        // What is asked of a lane that breaks is lazy again when it is told as down.
        if (_broken[command.Lane] is not null)
            return;
        try
        {
            _lanes[command.Lane]?.Request(command.Request, _sourcePids[command.Space], command.Range, buffer);
        }
        catch (BadInputException e)
        {
            // Not now: this may be in the middle of receiving from it.
            _broken[command.Lane] = e;
        }
    }

    private void Copy(in ServiceCommand command)
    {
        if (Find(command.Space) is not { } target)
        {
            FeedOutcome(command, command.Range, InstallOutcome.ProcessGone);
            return;
        }
        CopyOutcome outcome = target.Fd.Copy(command.Range.Start, SourceOf(command.Request, command.Source), command.Range.Count, out long done);
        if (outcome == CopyOutcome.Again || (outcome == CopyOutcome.Gone && _service.IsHeld))
            Keep(command.Request, new PageRange(command.Source + done, command.Range.Count - done));
        FeedOutcomes(command, outcome, done);
    }

    private nint SourceOf(int request, PageNumber page)
    {
        ref readonly Asked asked = ref _requests[request];
        return _arriving.Request == request && _arriving.Range.Contains(page)
            ? PlaceInPart(asked, page)
            : asked.Buffer + (nint)((page - asked.Range.Start) << PageNumber.Shift);
    }

    /// <summary>By the page's place in its request, so that pages which follow each other do so here, however they are told of.</summary>
    private nint PlaceInPart(in Asked asked, PageNumber page) => _parts[asked.Lane] + (nint)((page - asked.Range.Start) % ServiceLane.QuietPartPages << PageNumber.Shift);

    /// <summary>These will be tried again when other pages are where they are now.</summary>
    private unsafe void Keep(int request, PageRange pages)
    {
        ref Asked asked = ref _requests[request];
        if (_arriving.Request != request || !_arriving.Range.Contains(pages.Start))
            return;
        if (asked.Buffer == 0)
            asked = asked with { Buffer = _buffers.Rent(asked.Range.Count) };
        var there = new Span<byte>((byte*)asked.Buffer + ((pages.Start - asked.Range.Start) << PageNumber.Shift), (int)pages.Bytes);
        new ReadOnlySpan<byte>((byte*)PlaceInPart(asked, pages.Start), (int)pages.Bytes).CopyTo(there);
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
            TargetGone = true;
            // In place, children that it forked may live on: their memory is brought in.
            if (DrainsWithFirst)
                Drain();
        }
        if (Find(space) is not { } target)
            return;
        _targets.Remove(target);
        target.Close();
        CollectPolls();
    }

    private void NoteUp(int lane)
    {
        Feed(new ServiceEvent(ServiceEventKind.LaneUp, _clock.Now, 0, default) { Lane = lane });
        if (lane != 0)
            return;
        Volatile.Write(ref _allLanesDown, -1);
        // The others follow the first: where it cannot be reached, they cannot.
        for (int other = 1; other < _lanes.Length; other++)
        {
            if (_lanes[other] is null && !_isLocal)
                _connector.Want(other);
        }
    }

    private void Opened(int number, PageLane lane)
    {
        // Wanted twice: the first lane was lost and came back in between.
        if (_lanes[number] is not null)
        {
            lane.Dispose();
            return;
        }
        _lanes[number] = LaneOver(number, lane);
        CollectPolls();
        NoteUp(number);
    }

    private ServiceLane LaneOver(int number, PageLane lane) =>
        WithPart(number, number == 0 || !_bulkThreads ? new PolledLane(lane) : new ThreadedLane(lane, NudgeIfAsleep));

    private ServiceLane WithPart(int number, ServiceLane lane)
    {
        if (!lane.ReceivesAhead && _parts[number] == 0)
            _parts[number] = _buffers.Rent(ServiceLane.QuietPartPages);
        return lane;
    }

    private void Receive(int number)
    {
        try
        {
            _lanes[number]?.Receive(this);
        }
        catch (BadInputException e) when (!_isLocal)
        {
            _broken[number] = e;
        }
        if (_broken[number] is { } broken)
            Lost(number, broken);
        if (_isLocal && (_sourceTrouble is not null || _lanes[number] is { DelayedPages: > 0 }))
            NoteTrouble();
    }

    /// <summary>A page of a request cannot be read now: nothing is to be expected of it.</summary>
    private void NoteDelayed(int request)
    {
        if (_requests[request].IsDelayed)
            return;
        _requests[request] = _requests[request] with { IsDelayed = true };
        Volatile.Write(ref _openRequests, _openRequests - 1);
        Feed(new ServiceEvent(ServiceEventKind.Delayed, _clock.Now, 0, default) { Request = request });
    }

    private bool IsWanted(int request, PageNumber page) => Find(_requests[request].Space) is not null
        && _service.MapOf(_requests[request].Space) is { } map && map.TryIndex(page, out long index) && map[index] == PageState.InFlight;

    private void NoteTrouble()
    {
        long pages = 0;
        string? why = null;
        foreach (ServiceLane? lane in _lanes)
        {
            pages += lane?.DelayedPages ?? 0;
            why ??= lane?.Trouble;
        }
        Volatile.Write(ref _sourceTrouble, pages == 0 ? null : $"{why}; {pages} pages wait");
    }

    private void Lost(int number, BadInputException e)
    {
        _lostLane = $"lane {number}: {e.Message}";
        _lanes[number]?.Dispose();
        (_lanes[number], _broken[number]) = (null, null);
        CollectPolls();
        if (Array.TrueForAll(_lanes, lane => lane is null))
            Volatile.Write(ref _allLanesDown, _clock.Now.Nanoseconds);
        Feed(new ServiceEvent(ServiceEventKind.LaneDown, _clock.Now, 0, default) { Lane = number });
        _connector.Want(number);
    }

    unsafe Span<byte> IPageReceiver.BufferFor(int tag, PageRange range)
    {
        ref readonly Asked asked = ref _requests[tag];
        long room = ServiceLane.QuietPartPages - ((range.Start - asked.Range.Start) % ServiceLane.QuietPartPages);
        long pages = Math.Min(range.Count, IsQuiet ? room : Math.Min(room, ServiceLane.PartPages));
        return new Span<byte>((byte*)PlaceInPart(asked, range.Start), (int)(pages << PageNumber.Shift));
    }

    void IPageReceiver.Arrived(int tag, PageRange range)
    {
        if (!_requests[tag].Ahead)
            _arriving = (tag, range);
        Instant now = _clock.Now;
        Volatile.Write(ref _heard, now.Nanoseconds);
        if (!_requests[tag].IsWaitedFor)
            DropGuarded(_requests[tag], range, now);
        bool shows = Needed is { IsWaiting: true };
        if (shows)
            ShowNeeded(Needed!, tag, range);
        Feed(new ServiceEvent(ServiceEventKind.Arrived, now, 0, range) { Request = tag });
        _arriving = (-1, default);
        if (shows)
            AskForNeeded(Needed!);
    }
}
