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

/// <summary>A process that is served.</summary>
/// <param name="Space">The number of its address space.</param>
/// <param name="SourcePid">What the page source knows it as.</param>
/// <param name="Fd">Its userfaultfd.</param>
/// <param name="View">What /proc shows of it; null: it is not known which process it is. Becomes the service's.</param>
public readonly record struct ServedProcess(int Space, uint SourcePid, UserFaultFd Fd, ProcessView? View = null);

/// <summary>
/// Joins the fault service to the kernel and to the page source: one thread that waits for faults and pages, turns them
/// into events, and carries out the commands that come back. It allocates nothing once it runs, and never touches the
/// target's memory but through userfaultfd. Bulk comes in on threads of its own (<see cref="ThreadedLane"/>), or, where
/// processors are few, on this one, and is installed in small parts, with a look at the faults between any two.
/// </summary>
public sealed partial class LiveService : IDisposable
{
    private static readonly Duration Quiet = Duration.FromMilliseconds(10);

    private readonly FaultService _service;
    private readonly ILiveLog _log;
    private readonly MonotonicClock _clock;
    private readonly bool _isLocal;
    private readonly bool _bulkThreads;
    private readonly LaneConnector _connector;
    private readonly ServiceLane?[] _lanes;
    private readonly BadInputException?[] _broken;
    private readonly List<Target> _targets = [];
    private readonly Dictionary<int, int> _threadIndex = [];
    private readonly BufferPool _buffers = new();
    private readonly UffdMessage[] _messages = GC.AllocateArray<UffdMessage>(64, pinned: true);
    private readonly Thread _thread;
    private readonly ManualResetEventSlim _complete = new();
    private readonly int _wakeFd = Native.EventFd(0, Native.Fcntl.O_NONBLOCK | Native.Fcntl.O_CLOEXEC);
    private Native.PollFd[] _polls = [];
    private uint[] _sourcePids = new uint[8];
    private ServiceCommand[] _queue = new ServiceCommand[256];
    private int _queueHead, _queueTail;
    private bool _executing;
    private Instant _woken;
    private Instant _lastFault;
    private int _nextSpace = 1;
    private long _allLanesDown = -1;
    private int _sleeps;
    private volatile bool _stop;
    private volatile bool _drain;
    private volatile bool _release;
    private bool _drainTold;
    private bool _releaseTold;

    /// <summary>Prepares to serve; nothing happens before <see cref="Start"/>. Opens the lanes, and waits for that.</summary>
    /// <param name="service">The state machine, to which the address spaces have been added, numbered from 0 on.</param>
    /// <param name="lanes">How many lanes the transfer options name.</param>
    /// <param name="connect">Opens the lane with this number; throws when it cannot, and gives null for a lane other than
    /// the first when there is none yet: it is asked again when the first one is up. Later called from another thread.</param>
    /// <param name="local">What is on this machine, instead of lanes to a server; stays the caller's.</param>
    /// <param name="log">Is told every event.</param>
    /// <param name="clock">Its zero is the beginning of the run.</param>
    /// <param name="bulkThreads">Whether lanes other than the first have a thread each that receives; if not, the service's own does.</param>
    /// <exception cref="BadInputException">A lane cannot be opened.</exception>
    public LiveService(
        FaultService service, int lanes, Func<int, PageLane?> connect, IPageSource? local, ILiveLog log, MonotonicClock clock, bool bulkThreads = true)
    {
        (_service, _isLocal, _log, _clock, _bulkThreads) = (service, local is not null, log, clock, bulkThreads);
        _parts = new nint[lanes];
        _lanes = new ServiceLane?[lanes];
        _broken = new BadInputException?[lanes];
        for (int lane = 0; lane < lanes; lane++)
            _lanes[lane] = local is not null ? WithPart(lane, new LocalLane(local, NoteDelayed, IsWanted)) : connect(lane) is { } opened ? LaneOver(lane, opened) : null;
        _connector = new LaneConnector(connect, Nudge);
        CollectPolls();
        _thread = new Thread(Run) { IsBackground = true, Name = "fault service", Priority = ThreadPriority.Highest };
    }

    /// <summary>Why the service ended, when it did so by itself; null while all is well.</summary>
    public Exception? Failure { get; private set; }

    /// <summary>What the runtime took from the service's thread; known when it has ended.</summary>
    public RuntimePauses Pauses { get; private set; }

    /// <summary>Why <see cref="ServerAway"/>, in words.</summary>
    public string WhyAway => Volatile.Read(ref _allLanesDown) < 0 ? "it does not answer" : _lostLane ?? _connector.LastError ?? "not reached yet";

    private string? _lostLane;

    /// <summary>
    /// Why pages of images on this machine cannot be read, and how many are waited for; null when there are none. They are tried again until they
    /// can be read, or nobody needs them.
    /// </summary>
    public string? SourceTrouble => Volatile.Read(ref _sourceTrouble);

    private string? _sourceTrouble;

    /// <summary>Whether all address spaces were found gone. The service's thread's, until <see cref="Stop"/>.</summary>
    public bool NobodyLeft => _targets.Count == 0;

    /// <summary>Whether the first target's address space was found gone.</summary>
    public bool TargetGone { get; private set; }

    /// <summary>Whether everything is drained when the first target ends: in place, only children can need it then.</summary>
    public bool DrainsWithFirst { get; init; } = true;

    /// <summary>Is kept of what the program changes; stays the caller's.</summary>
    public ChangeJournal? Journal { get; init; }

    /// <summary>Called with each address space that a fork makes, before any page of it is served. Must not throw.</summary>
    public Action<int, UserFaultFd>? OnForked { get; init; }

    /// <summary>
    /// For how long no lane has been up, or, if that is some seconds, nothing has come of what was asked for: a link that is cut tells nobody. Zero
    /// when all is well. What is away then waits.
    /// </summary>
    public Duration ServerAway
    {
        get
        {
            if (Volatile.Read(ref _allLanesDown) is var since and >= 0)
                return _clock.Now - new Instant(since);
            Duration silence = _clock.Now - new Instant(Volatile.Read(ref _heard));
            return Volatile.Read(ref _openRequests) > 0 && silence > LongSilence ? silence : default;
        }
    }

    /// <summary>Serves processes, whose descriptors stay the caller's, on a thread of its own.</summary>
    public void Start(params ReadOnlySpan<ServedProcess> targets)
    {
        foreach (ServedProcess target in targets)
        {
            AddTarget(target, isOurs: false);
            Know(_targets[^1].View);
            Journal?.NoteProcess(target.Space, _targets[^1].View, []);
        }
        _nextSpace = targets.Length;
        _thread.Start();
    }

    /// <summary>
    /// Goes on where another service ended, with the address spaces whose descriptors were saved; the fault service knows of
    /// <paramref name="spaces"/>. Whoever waits for an answer of the other one asks again.
    /// </summary>
    public void Continue(IEnumerable<ServedProcess> targets, int spaces)
    {
        _nextSpace = spaces;
        foreach (ServedProcess target in targets)
        {
            AddTarget(target, isOurs: target.Space != 0);
            Know(_targets[^1].View);
            target.Fd.WakeAll();
        }
        _thread.Start();
    }

    /// <summary>Stops, and hands the descriptors to the caller, open: for <see cref="Continue"/> of another service.</summary>
    public IReadOnlyList<ServedProcess> StopAndRelease()
    {
        Stop();
        var targets = _targets.Select(t => new ServedProcess(t.Space, _sourcePids[t.Space], t.Fd)).ToList();
        foreach (Target target in _targets)
            target.View.Dispose();
        _targets.Clear();
        return targets;
    }

    /// <summary>From now on everything that is away is fetched. May be called from any thread.</summary>
    public void Drain()
    {
        _drain = true;
        Nudge();
    }

    /// <summary>A service that was held moves more than what is waited for from now on. May be called from any thread.</summary>
    public void Release()
    {
        _release = true;
        Nudge();
    }

    /// <summary>Waits until nothing is away any more, in no address space, or the service has ended.</summary>
    /// <returns>False when the time was up first.</returns>
    public bool WaitUntilComplete(TimeSpan timeout) => _complete.Wait(timeout);

    /// <summary>Ends the service's thread. Faults from now on are unserved: nothing may be away, or the areas must have been unregistered.</summary>
    public void Stop()
    {
        _stop = true;
        Nudge();
        if (_thread.IsAlive)
            _thread.Join();
    }

    /// <summary>
    /// After <see cref="Stop"/>: tells the source that all is in, once, for each CLOSE is the end of a session to it.
    /// </summary>
    /// <returns>Whether there was a lane to say it over.</returns>
    /// <exception cref="BadInputException">The source did not take it well.</exception>
    public bool CloseLanes(Duration patience)
    {
        _connector.Dispose();
        // The others first: the source does not see a client go that has not said so.
        int speaker = Array.FindIndex(_lanes, lane => lane is not null);
        for (int lane = _lanes.Length - 1; lane > speaker && speaker >= 0; lane--)
        {
            try
            {
                _lanes[lane]?.Leave(patience);
            }
            catch (BadInputException)
            {
                // It is lost, and nothing with it.
            }
            _lanes[lane] = null;
        }
        if (speaker < 0)
            return false;
        _lanes[speaker]!.Close(patience);
        _lanes[speaker] = null;
        return true;
    }

    /// <summary>Stops, and closes lanes and descriptors.</summary>
    public void Dispose()
    {
        Stop();
        _connector.Dispose();
        foreach (ServiceLane? lane in _lanes)
            lane?.Dispose();
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

    /// <summary>Called by lanes' threads: there is something in their rings.</summary>
    private void NudgeIfAsleep()
    {
        Interlocked.MemoryBarrier();
        if (Volatile.Read(ref _sleeps) != 0)
            Nudge();
    }

    private void Run()
    {
        RuntimePauses before = RuntimePauses.Now();
        try
        {
            for (int lane = 0; lane < _lanes.Length; lane++)
            {
                if (_lanes[lane] is not null)
                    NoteUp(lane);
            }
            if (_lanes is [null, ..])
            {
                Volatile.Write(ref _allLanesDown, _clock.Now.Nanoseconds);
                _connector.Want(0);
            }
            Feed(new ServiceEvent(ServiceEventKind.Idle, _clock.Now, 0, default));
            if (Needed is not null)
                AskForNeeded(Needed);
            while (!_stop)
                Turn();
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            // Whoever waits for completion sees the failure and brings the rest back another way.
            Failure = e;
        }
        Pauses = RuntimePauses.Now().Since(before);
        _complete.Set();
    }

    /// <summary>One round: wait, then everything that is there: memory events, faults, what was waited for, a part of the bulk, and what
    /// idleness allows.</summary>
    private void Turn()
    {
        int ready = Wait();
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
            if (polled[1 + lane].revents != 0 || _broken[lane] is not null || _lanes[lane] is { HasArrivals: true })
                Receive(lane);
        }
        if (_service.WantsIdle || _service.BulkResumes <= _clock.Now || _service.WaitsForAreas)
            Feed(new ServiceEvent(ServiceEventKind.Idle, _clock.Now, 0, default));
        if (Needed is { IsWaiting: false } && !NeededIsIn && !_service.LacksNeeded)
            NeededIsIn = true;
        // Of who ended nothing is waited for: a server that is cut off does not send it.
        if (!_complete.IsSet && !_service.IsHeld && (_service.IsComplete || NobodyLeft))
            _complete.Set();
    }

    /// <summary>Returns when a descriptor is ready, a lane has something, or it is time to look after things.</summary>
    /// <returns>How many are ready; 0 when the time was up.</returns>
    private int Wait()
    {
        const int LookAfterTargets = 100;
        for (int lane = 0; lane < _lanes.Length; lane++)
        {
            if (_lanes[lane] is { PollHandle: >= 0 } polled)
                _polls[1 + lane].events = polled.PollEvents;
        }
        if (_service.WantsIdle || HasArrivals())
            return Math.Max(1, Poll(0));
        // The flag is up before the rings are looked at for the last time, and the other side looks at the flag after it wrote.
        Volatile.Write(ref _sleeps, 1);
        Interlocked.MemoryBarrier();
        int patience = _service.WaitsForAreas ? 1 : LookAfterTargets;
        int ready = Poll(HasArrivals() ? 0 : Math.Min(patience, UntilBulkResumes()));
        Volatile.Write(ref _sleeps, 0);
        return HasArrivals() ? Math.Max(1, ready) : ready;
    }

    /// <summary>Milliseconds, rounded up.</summary>
    private int UntilBulkResumes() =>
        _service.BulkResumes is { } then ? (int)Math.Clamp(Math.Ceiling((then - _clock.Now).Milliseconds), 0, int.MaxValue) : int.MaxValue;

    private unsafe int Poll(int milliseconds)
    {
        fixed (Native.PollFd* polls = _polls)
        {
            int ready = Native.Poll(polls, (ulong)_polls.Length, milliseconds);
            // A signal interrupted it: what stands there is from the last time.
            for (int i = 0; ready < 0 && i < _polls.Length; i++)
                polls[i].revents = 0;
            return ready;
        }
    }

    private bool HasArrivals()
    {
        foreach (ServiceLane? lane in _lanes)
        {
            if (lane is { HasArrivals: true })
                return true;
        }
        return false;
    }

    private unsafe void TakeNudge()
    {
        ulong count;
        _ = Native.Read(_wakeFd, &count, sizeof(ulong));
        if (_release && !_releaseTold)
        {
            _releaseTold = true;
            Feed(new ServiceEvent(ServiceEventKind.Released, _clock.Now, 0, default));
        }
        if (_drain && !_drainTold)
        {
            _drainTold = true;
            Feed(new ServiceEvent(ServiceEventKind.Drain, _clock.Now, 0, default));
        }
        while (_connector.TryTake(out int number, out PageLane opened))
            Opened(number, opened);
    }

    /// <summary>What no descriptor tells: an address space that ended (exit, exec).</summary>
    private void LookAfter()
    {
        for (int i = _targets.Count - 1; i >= 0; i--)
        {
            if (!_targets[i].Fd.IsAddressSpaceAlive())
                Feed(new ServiceEvent(ServiceEventKind.Exited, _clock.Now, _targets[i].Space, default));
        }
    }

    private void ReadMessages(Target target)
    {
        int count;
        bool more;
        do
        {
            Span<UffdMessage> messages = Journal is null ? _messages : Journal.Begin(target.Space);
            count = target.Fd.Read(messages);
            more = count == messages.Length;
            int changes = 0, forks = 0;
            for (int i = 0; i < count; i++)
            {
                changes += messages[i].Event != UffdEvent.PageFault ? 1 : 0;
                forks += messages[i].Event == UffdEvent.Fork ? 1 : 0;
            }
            // What changes the memory counts before any fault of the same batch, which may be about changed memory.
            if (changes > 0)
            {
                Journal?.Keep(count);
                HandleChanges(target, messages[..count], forks);
            }
            for (int i = 0; i < count; i++)
            {
                if (messages[i].Event == UffdEvent.PageFault)
                    HandleFault(target, messages[i]);
            }
        }
        while (more);
    }

    /// <summary>Whether no fault came for a while, and none is expected at once.</summary>
    private bool IsQuiet => _woken - _lastFault > Quiet;

    private void HandleFault(Target target, in UffdMessage message)
    {
        _lastFault = _woken;
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
        // Bulk that has come may wait for its turn to be installed; not with a thread waiting for it.
        int request = _service.RequestInFlight(target.Space, message.Page, out int lane, out PageNumber page);
        if (request >= 0)
            _ = _lanes[lane]?.Hurry(request, page, this);
    }

    private void AddTarget(ServedProcess process, bool isOurs)
    {
        if (process.Space >= _sourcePids.Length)
            Array.Resize(ref _sourcePids, Math.Max(process.Space + 1, _sourcePids.Length * 2));
        _sourcePids[process.Space] = process.SourcePid;
        _targets.Add(new Target(process.Space, process.Fd, process.View ?? ProcessView.Open(0), isOurs));
        CollectPolls();
    }

    private void CollectPolls()
    {
        var polls = new Native.PollFd[1 + _lanes.Length + _targets.Count];
        polls[0] = new() { fd = _wakeFd, events = Native.PollH.POLLIN };
        for (int lane = 0; lane < _lanes.Length; lane++)
            polls[1 + lane] = new() { fd = _lanes[lane]?.PollHandle ?? -1, events = Native.PollH.POLLIN };
        for (int i = 0; i < _targets.Count; i++)
            polls[1 + _lanes.Length + i] = new() { fd = _targets[i].Fd.Fd, events = Native.PollH.POLLIN };
        _polls = polls;
    }

    private sealed record Target(int Space, UserFaultFd Fd, ProcessView View, bool IsOurs)
    {
        /// <summary>Those that came to us in messages about forks are ours to close.</summary>
        public void Close()
        {
            View.Dispose();
            if (IsOurs)
                Fd.Dispose();
        }
    }
}
