using Testbed.Core;

namespace Core.Tests;

/// <summary>
/// A whole lazy restore in small, driven by one seed: one or several programs that touch, discard, unmap, move, fork and
/// exit; a kernel that says EAGAIN, EEXIST, ENOENT and ESRCH where the real one does, and storms of EAGAIN; lanes that
/// deliver in parts, in any order among each other, and are cut; a policy that proposes anything, or a real one. It checks
/// every command as it comes (nothing asked for that was not dumped, or twice; nothing installed twice; the right content; only demand while held), and
/// everything at the end: no fault unanswered, every page there with its content, or zero.
/// </summary>
internal sealed class Model : IServiceObserver
{
    private const ulong End = 200;
    private readonly Random _random;
    private readonly FaultService _service;
    private readonly TransferOptions _transfer;
    private readonly List<HashSet<ulong>> _dumped = [];
    private readonly List<ModelProcess> _processes = [];
    private readonly bool[] _laneUp;
    private readonly Queue<int>[] _lanes;
    private readonly Dictionary<int, Request> _requests = [];
    private readonly bool _depthFirst;
    private long _clock, _written;
    private long _answered;
    private int _children;

    private sealed record Request(int Space, PageRange Range, int Lane)
    {
        public long Sent { get; set; }
    }

    /// <param name="seed">Decides everything.</param>
    /// <param name="newPolicy">Makes a policy for an address space, with a recording of any pages; null: one that proposes anything.</param>
    public Model(int seed, Func<PageMap, IReadOnlyList<PageNumber>, IPolicy>? newPolicy = null)
    {
        _random = new Random(seed);
        _depthFirst = _random.Next(2) == 0;
        _transfer = new TransferOptions
        {
            Lanes = _random.Next(1, 4),
            MaxInFlight = _random.Next(1, 20) * PageNumber.Size,
            MaxRequest = _random.Next(1, 12) * PageNumber.Size,
            ExclusiveBackground = _random.Next(3) == 0,
            AdaptFlight = _random.Next(4) == 0,
            MinInFlight = _random.Next(1, 10) * PageNumber.Size,
            HeadStart = new Duration(_random.Next(0, 30)),
        };
        _laneUp = new bool[_transfer.Lanes];
        _lanes = [.. _laneUp.Select(_ => new Queue<int>())];
        _service = new FaultService(_transfer, map => newPolicy is null ? AnyPolicy() : newPolicy(map, AnyRecording()), this, held: _random.Next(4) == 0);
        int targets = _random.Next(3) == 0 ? _random.Next(2, 4) : 1;
        for (int space = 0; space < targets; space++)
        {
            var target = new ModelProcess(space, space, _random.Next(1, 5)) { NamesThreads = _random.Next(3) != 0 };
            _processes.Add(target);
            _service.AddSpace(space, Dump(target), target.NamesThreads);
        }
        _children = targets - 1;
    }

    private PageNumber[] AnyRecording() =>
        [.. Enumerable.Range(0, _random.Next(60)).Select(_ => new PageNumber((ulong)_random.NextInt64((long)End)))];

    public ulong CommandHash => _service.CommandHash;

    public long Answered => _answered;

    public static void Check(bool holds, string what)
    {
        if (!holds)
            throw new InvalidOperationException(what);
    }

    public void Run(int steps)
    {
        for (int lane = 0; lane < _laneUp.Length; lane++)
            LaneUp(lane);
        for (int i = 0; i < steps; i++)
            Step();
        Settle();
        CheckEnd();
    }

    private MemoryImage Dump(ModelProcess target)
    {
        var dumpedPages = new HashSet<ulong>();
        _dumped.Add(dumpedPages);
        var areas = new List<MemoryArea>();
        var present = new List<PageRange>();
        for (ulong at = 10; areas.Count < 3; at += (ulong)_random.Next(0, 4))
        {
            var range = new PageRange(new PageNumber(at), _random.Next(1, 30));
            areas.Add(new MemoryArea(range, "", 3));
            target.Borders.Add(at);
            for (long i = 0; i < range.Count; i++, at++)
            {
                bool dumped = _random.Next(4) != 0;
                target.Truth[at] = dumped ? Source(target.Root, at) : 0;
                if (!dumped)
                    continue;
                dumpedPages.Add(at);
                present.Add(PageRange.Single(new PageNumber(at)));
            }
            target.Borders.Add(at);
        }
        return new MemoryImage(areas, present);
    }

    /// <summary>No two pages of two dumps have the same content.</summary>
    private static long Source(int root, ulong page) => -(1000 * (root + 1) + (long)page);

    private ScriptedPolicy AnyPolicy() => new()
    {
        Fault = (_, map, plan) => Propose(map, plan),
        Idle = Propose,
    };

    private void Propose(PageMap map, Plan plan)
    {
        for (int i = _random.Next(0, 3); i > 0; i--)
            plan.Add(_random.NextInt64(-3, map.Count + 3), _random.Next(-1, 20), (Cause)_random.Next(0, 4));
    }

    private void Step()
    {
        ModelProcess process = _processes[_random.Next(_processes.Count)];
        switch (_random.Next(100))
        {
            case < 45: RunThread(process); break;
            case < 60: Read(process); break;
            case < 75: Deliver(_random.Next(_lanes.Length)); break;
            case < 85: Idle(); break;
            case < 88: FinishRemoving(process); break;
            case < 90: Cut(_random.Next(_lanes.Length)); break;
            case < 94: LaneUp(_random.Next(_lanes.Length)); break;
            case < 96: process.Borders.Add((ulong)_random.Next(10, 100)); break;
            case 96: process.Storm = _random.Next(1, 30); break;
            case < 98: BringIn(process); break;
            case 98 when _random.Next(4) == 0: Exit(process); break;
            case 98 when _service.IsHeld && _random.Next(3) == 0: Release(); break;
            case 99 when _random.Next(4) == 0: Send(new ServiceEvent(ServiceEventKind.Drain, Now(), 0, default)); break;
            default: Spurious(process); break;
        }
    }

    private void RunThread(ModelProcess process)
    {
        ModelThread thread = process.Threads[_random.Next(process.Threads.Count)];
        if (!process.IsAlive || thread.Sleeps || thread.InSystemCall)
            return;
        if (thread.Touching is { } again)
            process.Touch(thread, again, null);
        else if (_random.Next(12) == 0)
            SystemCall(process, thread);
        else
            process.Touch(thread, AnyPage(process), _random.Next(3) == 0 ? ++_written : null);
    }

    private ulong AnyPage(ModelProcess process) =>
        process.Truth.Count == 0 ? 0 : process.Truth.Keys.ElementAt(_random.Next(process.Truth.Count));

    private void SystemCall(ModelProcess process, ModelThread thread)
    {
        // A program that moves or forks what it is discarding at that moment has no right to any content.
        if (process.Removing.Count > 0 || process.Events.Exists(e => e.Kind == ServiceEventKind.Removed))
            return;
        ulong page = AnyPage(process);
        long count = _random.Next(1, 15);
        switch (_random.Next(4))
        {
            case 0:
                process.Events.Add(new ModelEvent(thread, ServiceEventKind.Removed, page, count));
                break;
            case 1:
                process.Unmap(page, count);
                process.Events.Add(new ModelEvent(thread, ServiceEventKind.Unmapped, page, count));
                break;
            case 2:
                ulong to = (ulong)_random.NextInt64(0, (long)End);
                if (Math.Abs((long)(to - page)) < count)
                    return;
                // MREMAP_FIXED: what lies there is unmapped first, and that is an event of its own.
                process.Unmap(to, count);
                process.Events.Add(new ModelEvent(thread, ServiceEventKind.Unmapped, to, count));
                process.Move(page, count, to, leaveArea: _random.Next(3) == 0);
                process.Events.Add(new ModelEvent(thread, ServiceEventKind.Remapped, page, count, to));
                break;
            default:
                if (_children >= 5)
                    return;
                process.Events.Add(new ModelEvent(thread, ServiceEventKind.Forked, 0, Child: process.Fork(++_children)));
                break;
        }
        thread.InSystemCall = true;
    }

    /// <summary>One batch from the descriptor: events before faults.</summary>
    private void Read(ModelProcess process)
    {
        if (!process.IsAlive)
            return;
        foreach (ModelEvent e in process.Events.ToArray())
        {
            process.Events.Remove(e);
            if (e.Kind == ServiceEventKind.Removed)
                process.Removing.Add((e.Page, e.Count, e.Caller));
            if (e.Child is not null)
                _processes.Add(e.Child);
            Send(new ServiceEvent(e.Kind, Now(), process.Space, new PageRange(new PageNumber(e.Page), e.Count))
            {
                Destination = new PageNumber(e.To),
                Other = e.Child?.Space ?? 0,
            });
        }
        foreach (ModelThread thread in process.Threads)
            thread.InSystemCall &= process.Removing.Exists(r => r.Caller == thread);
        foreach (ModelThread thread in process.Threads)
        {
            if (!thread.Unread || _random.Next(4) == 0)
                continue;
            thread.Unread = false;
            SendFault(process, thread.Id, thread.Touching!.Value);
        }
    }

    private void SendFault(ModelProcess process, int thread, ulong page) =>
        Send(new ServiceEvent(ServiceEventKind.Fault, Now(), process.Space, PageRange.Single(new PageNumber(page)))
        {
            Thread = process.NamesThreads ? thread : 0,
            Woken = new Instant(_clock - 1),
        });

    /// <summary>A fault that was read before another one, or an event, changed its answer: nobody sleeps there.</summary>
    private void Spurious(ModelProcess process)
    {
        ModelThread thread = process.Threads[_random.Next(process.Threads.Count)];
        if (process.IsAlive && !thread.Sleeps && thread.Touching is null)
            SendFault(process, thread.Id, _random.Next(2) == 0 ? AnyPage(process) : (ulong)_random.NextInt64((long)End));
    }

    private static void FinishRemoving(ModelProcess process)
    {
        foreach ((ulong page, long count, ModelThread caller) in process.Removing)
        {
            process.Empty(page, count);
            caller.InSystemCall = false;
        }
        process.Removing.Clear();
    }

    /// <summary>Somebody else put the right page there already, so that a copy meets EEXIST.</summary>
    private void BringIn(ModelProcess process)
    {
        ulong page = AnyPage(process);
        if (process.Truth.TryGetValue(page, out long truth) && process.Events.Count == 0)
            process.Present.TryAdd(page, truth);
    }

    private void Exit(ModelProcess process)
    {
        if (!process.IsAlive)
            return;
        process.IsAlive = false;
        if (_random.Next(2) == 0)
            Send(new ServiceEvent(ServiceEventKind.Exited, Now(), process.Space, default));
    }

    private void LaneUp(int lane)
    {
        if (_laneUp[lane])
            return;
        _laneUp[lane] = true;
        Send(new ServiceEvent(ServiceEventKind.LaneUp, Now(), 0, default) { Lane = lane });
    }

    private void Cut(int lane)
    {
        if (!_laneUp[lane])
            return;
        _laneUp[lane] = false;
        _lanes[lane].Clear();
        int[] carried = [.. _requests.Where(r => r.Value.Lane == lane).Select(r => r.Key)];
        Request[] lost = [.. carried.Select(id => _requests[id])];
        Send(new ServiceEvent(ServiceEventKind.LaneDown, Now(), 0, default) { Lane = lane });
        Check(!carried.Where((id, i) => _requests.GetValueOrDefault(id) == lost[i]).Any(), $"lane {lane} was cut and its requests live on");
    }

    /// <summary>The head of the lane's queue comes in, or a part of it.</summary>
    private void Deliver(int lane)
    {
        if (!_lanes[lane].TryPeek(out int id))
            return;
        Request request = _requests[id];
        var part = new PageRange(request.Range.Start + request.Sent, _random.NextInt64(1, request.Range.Count - request.Sent + 1));
        request.Sent += part.Count;
        if (request.Sent == request.Range.Count)
            _lanes[lane].Dequeue();
        Send(new ServiceEvent(ServiceEventKind.Arrived, Now(), 0, part) { Request = id });
    }

    private void Idle()
    {
        // Where bulk waits until no fault comes any more, time passes.
        if (!_service.WantsIdle && _service.BulkResumes is { } then)
            _clock = Math.Max(_clock, then.Nanoseconds);
        if (_service.WantsIdle || _service.BulkResumes is not null)
            Send(new ServiceEvent(ServiceEventKind.Idle, Now(), 0, default));
    }

    private void Release() => Send(new ServiceEvent(ServiceEventKind.Released, Now(), 0, default));

    private Instant Now() => new(++_clock);

    /// <summary>Carries the commands out, and those that follow from their outcomes behind them or before the others.</summary>
    private void Send(in ServiceEvent e)
    {
        var todo = new LinkedList<ServiceCommand>(_service.Handle(e).ToArray());
        while (todo.First is { } first)
        {
            ServiceCommand command = first.Value;
            todo.RemoveFirst();
            LinkedListNode<ServiceCommand>? at = null;
            foreach (ServiceEvent outcome in CarryOut(command))
            {
                foreach (ServiceCommand answer in _service.Handle(outcome).ToArray())
                {
                    if (!_depthFirst)
                        todo.AddLast(answer);
                    else
                        at = at is null ? todo.AddFirst(answer) : todo.AddAfter(at, answer);
                }
            }
        }
    }

    private List<ServiceEvent> CarryOut(ServiceCommand command)
    {
        ModelProcess process = _processes.Find(p => p.Space == command.Space)!;
        switch (command.Kind)
        {
            case CommandKind.Request:
                OnRequest(command);
                return [];
            case CommandKind.Install:
                return OnInstall(process, command, Content(command));
            case CommandKind.Zero:
                Check(command.Range.Count == 1 && command.Request == -1, "zero pages go one by one");
                return OnInstall(process, command, [0]);
            case CommandKind.Wake:
                process.Wake(command.Range.Start.Value, command.Range.Count);
                return [];
            case CommandKind.Release:
                Check(_requests.Remove(command.Request), $"request {command.Request} is released and was not open");
                return [];
            default:
                Check(!process.IsAlive, "unregister of a process that lives");
                return [];
        }
    }

    private void OnRequest(in ServiceCommand command)
    {
        PageRange range = command.Range;
        Check(range.Count > 0 && range.Bytes <= _transfer.MaxRequest, $"a request of {range.Count} pages");
        Check(!_service.IsHeld || command.Cause == Cause.Demand, $"a request for {command.Cause} while held");
        Check(_laneUp[command.Lane], $"a request on lane {command.Lane}, which is down");
        Check(_requests.TryAdd(command.Request, new Request(command.Space, range, command.Lane)), $"request {command.Request} is open already");
        HashSet<ulong> dumped = _dumped[RootOf(command.Space)];
        for (PageNumber p = range.Start; p < range.End; p += 1)
            Check(dumped.Contains(p.Value), $"page {p.Value} of {command.Space} was never dumped");
        foreach ((int id, Request other) in _requests)
            Check(id == command.Request || other.Space != command.Space || other.Range.Intersect(range).IsEmpty, $"{range} is asked for twice");
        _lanes[command.Lane].Enqueue(command.Request);
    }

    private long[] Content(in ServiceCommand command)
    {
        Check(_requests.TryGetValue(command.Request, out Request? request), $"install from request {command.Request}, which is not open");
        var source = new PageRange(command.Source, command.Range.Count);
        Check(source.Intersect(new PageRange(request!.Range.Start, request.Sent)) == source, $"install of {source}, which has not arrived");
        int root = RootOf(command.Space);
        return [.. Enumerable.Range(0, (int)command.Range.Count).Select(i => Source(root, source.Start.Value + (ulong)i))];
    }

    private int RootOf(int space) => _processes.Find(p => p.Space == space)!.Root;

    private List<ServiceEvent> OnInstall(ModelProcess process, in ServiceCommand command, long[] content)
    {
        (long done, InstallOutcome outcome) = process.Install(command.Range.Start.Value, content, isCopy: command.Kind == CommandKind.Install);
        var answers = new List<ServiceEvent>();
        if (done > 0)
            answers.Add(Answer(command, command.Range with { Count = done }, InstallOutcome.Installed));
        if (done < command.Range.Count)
            answers.Add(Answer(command, new PageRange(command.Range.Start + done, command.Range.Count - done), outcome));
        return answers;
    }

    private ServiceEvent Answer(in ServiceCommand command, PageRange range, InstallOutcome outcome) =>
        new(ServiceEventKind.InstallOutcome, Now(), command.Space, range) { Request = command.Request, Outcome = outcome };

    /// <summary>No more system calls and cuts; every thread comes through its touch, and everything comes in.</summary>
    private void Settle()
    {
        Send(new ServiceEvent(ServiceEventKind.Drain, Now(), 0, default));
        Release();
        for (int lane = 0; lane < _lanes.Length; lane++)
            LaneUp(lane);
        for (int round = 0; round < 5000; round++)
        {
            foreach (ModelProcess process in _processes.ToArray())
            {
                Read(process);
                FinishRemoving(process);
                foreach (ModelThread thread in process.Threads)
                {
                    if (process.IsAlive && thread is { Sleeps: false, Touching: { } page })
                        process.Touch(thread, page, null);
                }
            }
            for (int lane = 0; lane < _lanes.Length; lane++)
                Deliver(lane);
            Idle();
            if (IsSettled())
                return;
        }
        Check(false, "it does not come to an end");
    }

    private bool IsSettled() =>
        _requests.Count == 0 && !_service.WantsIdle && _service.IsComplete && _processes.TrueForAll(p =>
            !p.IsAlive || (p.Events.Count == 0 && p.Removing.Count == 0 && p.Threads.TrueForAll(t => t.Touching is null)));

    private void CheckEnd()
    {
        foreach (ModelProcess process in _processes.Where(p => p.IsAlive))
        {
            foreach ((ulong page, long truth) in process.Truth)
            {
                bool present = process.Present.TryGetValue(page, out long content);
                Check(present ? content == truth : truth == 0, $"page {page} of {process.Space} ends with {content} instead of {truth}");
            }
        }
    }

    void IServiceObserver.OnRequested(Instant time, int space, PageRange range, Cause cause) =>
        Check(cause != Cause.Zero, "a request for a zero page");

    void IServiceObserver.OnInstalled(in InstallRecord install) => Check(install.Range.Count > 0, "an empty install");

    void IServiceObserver.OnResolved(in FaultRecord fault)
    {
        Check(fault.Woken <= fault.Read && fault.Read <= fault.Requested && fault.Requested <= fault.Arrived
            && fault.Arrived <= fault.Resolved, $"times of {fault} run backwards");
        _answered++;
    }
}
