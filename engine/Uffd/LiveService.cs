using System.Diagnostics;
using Testbed.Core;
using Testbed.PageXfer.Xfer;
using Testbed.Uffd.Interop;

namespace Testbed.Uffd;

/// <summary>Is told what the live service sees, on its thread. Must be quick and must not throw.</summary>
public interface ILiveLog
{
    /// <summary>An event goes to the fault service now.</summary>
    void OnEvent(in ServiceEvent e);

    /// <summary>A thread faulted that has not faulted before.</summary>
    /// <returns>Its index, used in events from now on.</returns>
    int OnNewThread(int tid);
}

/// <summary>Nanoseconds since a moment, by the monotonic clock.</summary>
public readonly struct MonotonicClock(long origin)
{
    /// <summary>A clock that begins now.</summary>
    public static MonotonicClock Start() => new(Stopwatch.GetTimestamp());

    /// <summary>The time since it began.</summary>
    public Instant Now => new((long)((Stopwatch.GetTimestamp() - origin) * (1e9 / Stopwatch.Frequency)));
}

/// <summary>
/// Joins the fault service to the kernel and to the page server: one thread that waits for faults and pages, turns them
/// into events, and carries out the commands that come back. It allocates nothing once it runs, and never touches the
/// target's memory but through userfaultfd.
/// </summary>
public sealed partial class LiveService : IDisposable
{
    private readonly FaultService _service;
    private readonly ILiveLog _log;
    private readonly MonotonicClock _clock;
    private readonly uint _sourcePid;
    private readonly Func<int, PageLane> _connect;
    private readonly LaneState[] _lanes;
    private readonly List<Target> _targets = [];
    private readonly Dictionary<int, int> _threadIndex = [];
    private readonly BufferPool _buffers = new();
    private readonly ChangeJournal _journal;
    private readonly Thread _thread;
    private readonly ManualResetEventSlim _complete = new();
    private readonly int _wakeFd = Native.EventFd(0, Native.Fcntl.O_NONBLOCK | Native.Fcntl.O_CLOEXEC);
    private Native.PollFd[] _polls = [];
    private ServiceCommand[] _queue = new ServiceCommand[256];
    private int _queueHead, _queueTail;
    private bool _executing;
    private Instant _woken;
    private int _nextSpace = 1;
    private long _allLanesDown = -1;
    private volatile bool _stop;
    private volatile bool _drain;
    private bool _drainTold;

    /// <summary>Prepares to serve; nothing happens before <see cref="Start"/>.</summary>
    /// <param name="service">The state machine, to which address space 0 has been added.</param>
    /// <param name="sourcePid">What the page server knows the process as.</param>
    /// <param name="lanes">How many lanes the transfer options name.</param>
    /// <param name="connect">Opens the lane with this number; throws when it cannot.</param>
    /// <param name="log">Is told every event.</param>
    /// <param name="clock">Its zero is the beginning of the run.</param>
    /// <param name="journal">Is kept of what the program changes.</param>
    public LiveService(
        FaultService service, uint sourcePid, int lanes, Func<int, PageLane> connect, ILiveLog log, MonotonicClock clock, ChangeJournal journal)
    {
        (_service, _sourcePid, _connect, _log, _clock, _journal) = (service, sourcePid, connect, log, clock, journal);
        _lanes = new LaneState[lanes];
        for (int lane = 0; lane < lanes; lane++)
            _lanes[lane] = new LaneState(this, lane, connect(lane));
        _thread = new Thread(Run) { IsBackground = true, Name = "fault service", Priority = ThreadPriority.Highest };
    }

    /// <summary>Why the service ended, when it did so by itself; null while all is well.</summary>
    public Exception? Failure { get; private set; }

    /// <summary>Why a lane was lost last, in words; null when none was.</summary>
    public string? LastLaneError { get; private set; }

    /// <summary>Whether the target's address space was found gone.</summary>
    public bool TargetGone { get; private set; }

    /// <summary>Called with each address space that a fork makes, before any page of it is served. Must not throw.</summary>
    public Action<int, UserFaultFd>? OnForked { get; init; }

    /// <summary>For how long no lane has been up; zero while one is. What is away then waits.</summary>
    public Duration ServerAway => Volatile.Read(ref _allLanesDown) is var since and >= 0 ? _clock.Now - new Instant(since) : default;

    /// <summary>Serves <paramref name="target"/>, which stays the caller's, on a thread of its own.</summary>
    public void Start(UserFaultFd target)
    {
        AddTarget(0, target);
        _thread.Start();
    }

    /// <summary>
    /// Goes on where another service ended, with the address spaces whose descriptors were saved; the fault service knows of
    /// <paramref name="spaces"/>. Whoever waits for an answer of the other one asks again.
    /// </summary>
    public void Continue(IEnumerable<(int Space, UserFaultFd Fd)> targets, int spaces)
    {
        _nextSpace = spaces;
        CollectPolls();
        foreach ((int space, UserFaultFd fd) in targets)
        {
            AddTarget(space, fd);
            fd.WakeAll();
        }
        _thread.Start();
    }

    /// <summary>Stops, and hands the descriptors to the caller, open: for <see cref="Continue"/> of another service.</summary>
    public IReadOnlyList<(int Space, UserFaultFd Fd)> StopAndRelease()
    {
        Stop();
        var targets = _targets.Select(t => (t.Space, t.Fd)).ToList();
        _targets.Clear();
        return targets;
    }

    /// <summary>From now on everything that is away is fetched. May be called from any thread.</summary>
    public void Drain()
    {
        _drain = true;
        Nudge();
    }

    /// <summary>Waits until a drain is over: nothing is away any more, in no address space, or the service has ended.</summary>
    /// <returns>False when the time was up first.</returns>
    public bool WaitUntilComplete(TimeSpan timeout) => _complete.Wait(timeout);

    /// <summary>Ends the service's thread. Faults from now on are unserved: the areas must have been unregistered.</summary>
    public void Stop()
    {
        _stop = true;
        Nudge();
        if (_thread.IsAlive)
            _thread.Join();
    }

    /// <summary>Stops, and closes lanes and descriptors.</summary>
    public void Dispose()
    {
        Stop();
        foreach (LaneState lane in _lanes)
            lane.Lane?.Dispose();
        foreach (Target target in _targets)
            target.Close();
        _buffers.Dispose();
        _ = Native.Close(_wakeFd);
        _complete.Dispose();
    }

    private unsafe void Nudge()
    {
        ulong one = 1;
        _ = Native.Write(_wakeFd, &one, sizeof(ulong));
    }

    private void Run()
    {
        try
        {
            for (int lane = 0; lane < _lanes.Length; lane++)
                Feed(new ServiceEvent(ServiceEventKind.LaneUp, _clock.Now, 0, default) { Lane = lane });
            Feed(new ServiceEvent(ServiceEventKind.Idle, _clock.Now, 0, default));
            while (!_stop)
                Turn();
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            // Whoever waits for completion sees the failure and brings the rest back another way.
            Failure = e;
        }
        _complete.Set();
    }

    /// <summary>One round: wait, then everything that is there: memory events, faults, pages, and what idleness allows.</summary>
    private unsafe void Turn()
    {
        const int LookAfterTargets = 100;
        int ready;
        for (int lane = 0; lane < _lanes.Length; lane++)
            _polls[1 + lane].events = _lanes[lane].Events;
        fixed (Native.PollFd* polls = _polls)
            ready = Native.Poll(polls, (ulong)_polls.Length, _service.WantsIdle ? 0 : LookAfterTargets);
        _woken = _clock.Now;
        if (ready <= 0 && !_service.WantsIdle)
            LookAfter();
        if (_polls[0].revents != 0)
            TakeNudge();
        // The lists may change under the hands of what is read; then the next round sees the rest.
        Native.PollFd[] polled = _polls;
        for (int i = 0; i < _targets.Count && polled == _polls; i++)
        {
            if (polled[1 + _lanes.Length + i].revents != 0)
                ReadMessages(_targets[i]);
        }
        for (int lane = 0; lane < _lanes.Length && polled == _polls; lane++)
        {
            if (polled[1 + lane].revents != 0)
                _lanes[lane].Receive();
        }
        if (_service.WantsIdle)
            Feed(new ServiceEvent(ServiceEventKind.Idle, _clock.Now, 0, default));
        if (_drainTold && _service.IsComplete)
            _complete.Set();
    }

    private unsafe void TakeNudge()
    {
        ulong count;
        _ = Native.Read(_wakeFd, &count, sizeof(ulong));
        if (_drain && !_drainTold)
        {
            _drainTold = true;
            Feed(new ServiceEvent(ServiceEventKind.Drain, _clock.Now, 0, default));
        }
    }

    /// <summary>What no descriptor tells: an address space that ended (exit, exec), and a lane that may come back.</summary>
    private void LookAfter()
    {
        for (int i = _targets.Count - 1; i >= 0; i--)
        {
            if (!_targets[i].Fd.IsAddressSpaceAlive())
                Feed(new ServiceEvent(ServiceEventKind.Exited, _clock.Now, _targets[i].Space, default));
        }
        foreach (LaneState lane in _lanes)
        {
            if (lane.Lane is null)
                lane.Reconnect();
        }
    }

    private void ReadMessages(Target target)
    {
        int count;
        bool more;
        do
        {
            Span<UffdMessage> messages = _journal.Begin(target.Space);
            count = target.Fd.Read(messages);
            more = count == messages.Length;
            bool changed = false;
            // What changes the memory counts before any fault of the same batch, which may be about changed memory.
            for (int i = 0; i < count; i++)
            {
                if (messages[i].Event == UffdEvent.PageFault)
                    continue;
                HandleChange(target, messages[i]);
                changed = true;
            }
            for (int i = 0; i < count; i++)
            {
                if (messages[i].Event == UffdEvent.PageFault)
                    HandleFault(target, messages[i]);
            }
            if (changed)
                _journal.Keep(count);
        }
        while (more);
    }

    private void HandleChange(Target target, in UffdMessage message)
    {
        bool forked = message.Event == UffdEvent.Fork;
        int child = forked ? _nextSpace++ : 0;
        UserFaultFd? fd = forked ? new UserFaultFd(message.ForkedFd) : null;
        if (fd is not null)
            OnForked?.Invoke(child, fd);
        Feed(ChangeOf(message, target.Space, child, _clock.Now));
        if (fd is not null)
            AddTarget(child, fd);
    }

    /// <summary>What a message that is no fault means to the fault service.</summary>
    /// <param name="message">The message.</param>
    /// <param name="space">Whose it is.</param>
    /// <param name="child">Fork: the number of the new address space; they are numbered from 1 on in the order of their forks.</param>
    /// <param name="now">The event's time.</param>
    public static ServiceEvent ChangeOf(in UffdMessage message, int space, int child, Instant now) => message.Event switch
    {
        UffdEvent.Remove => new ServiceEvent(ServiceEventKind.Removed, now, space, message.Range),
        UffdEvent.Unmap => new ServiceEvent(ServiceEventKind.Unmapped, now, space, message.Range),
        UffdEvent.Remap => new ServiceEvent(ServiceEventKind.Remapped, now, space, message.From) { Destination = message.To.Start },
        UffdEvent.Fork => new ServiceEvent(ServiceEventKind.Forked, now, space, default) { Other = child },
        _ => throw new InvalidOperationException($"message {message.Event} is no change"),
    };

    private void HandleFault(Target target, in UffdMessage message)
    {
        if (!_threadIndex.TryGetValue(message.Thread, out int thread))
        {
            thread = _log.OnNewThread(message.Thread);
            _threadIndex.Add(message.Thread, thread);
        }
        Feed(new ServiceEvent(ServiceEventKind.Fault, _clock.Now, target.Space, PageRange.Single(message.Page))
        {
            Thread = thread,
            Access = message.Access,
            Woken = _woken,
        });
    }

    private void AddTarget(int space, UserFaultFd fd)
    {
        _targets.Add(new Target(space, fd));
        CollectPolls();
    }

    private void CollectPolls()
    {
        var polls = new Native.PollFd[1 + _lanes.Length + _targets.Count];
        polls[0] = new() { fd = _wakeFd, events = Native.PollH.POLLIN };
        for (int lane = 0; lane < _lanes.Length; lane++)
            polls[1 + lane] = new() { fd = _lanes[lane].Handle, events = Native.PollH.POLLIN };
        for (int i = 0; i < _targets.Count; i++)
            polls[1 + _lanes.Length + i] = new() { fd = _targets[i].Fd.Fd, events = Native.PollH.POLLIN };
        _polls = polls;
    }

    private sealed record Target(int Space, UserFaultFd Fd)
    {
        /// <summary>The first one is the caller's, who still unregisters through it; children's came to us in messages.</summary>
        public void Close()
        {
            if (Space != 0)
                Fd.Dispose();
        }
    }
}
