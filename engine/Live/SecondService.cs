using Testbed.Core;
using Testbed.PageXfer.Images;
using Testbed.Policies;
using Testbed.Uffd;

namespace Testbed.Live;

/// <summary>
/// What comes after a service that was killed while memory was away: a fault service that is told what the first one was told of changes, so
/// that it asks for every page which may still be away. A page that is there already stays as it is.
/// </summary>
internal sealed class SecondService
{
    /// <summary>How its pages are carried: it has nothing to gain from courtesy, for everybody waits.</summary>
    public static readonly TransferOptions Transfer = new() { Lanes = 1, MaxInFlight = 4 << 20, MaxRequest = 1 << 20 };

    private readonly List<uint> _pids;
    private readonly Dictionary<int, JournaledProcess> _known;

    // Children whose fork was the last that the first one heard of: what was wiped in them it had no time to write
    // down.
    private readonly List<(int Parent, int Child)> _unsettled = [];

    /// <summary>Takes the processes as the first one had them, in the same order, and then what they did.</summary>
    public SecondService(IEnumerable<(uint Pid, MemoryImage Image)> processes, ChangeJournal journal, bool namesThreads)
    {
        if (journal.HasOverflown)
            throw new BadInputException("the journal is incomplete, for its disk was full; which pages the program dropped meanwhile is not known");
        PolicySpec policy = PolicyCatalog.Parse("demand");
        Service = new FaultService(Transfer, map => policy.Create(new PolicyEnvironment(map, [], 0)), new Nobody());
        _pids = [];
        foreach ((uint pid, MemoryImage image) in processes)
        {
            Service.AddSpace(_pids.Count, image, namesThreads);
            _pids.Add(pid);
        }
        Processes = _pids.Count;
        _known = journal.ReadProcesses();
        foreach ((int space, UffdMessage message) in journal.ReadChanges())
        {
            int child = _pids.Count;
            if (message.Event == UffdEvent.Fork)
            {
                _pids.Add(_pids[space]);
                if (!_known.ContainsKey(child))
                    _unsettled.Add((space, child));
            }
            Service.Handle(LiveService.ChangeOf(message, space, child, default));
        }
    }

    /// <summary>The fault service.</summary>
    public FaultService Service { get; }

    /// <summary>How many of them it began with; children are numbered on.</summary>
    public int Processes { get; }

    /// <summary>How many address spaces there were, living or not.</summary>
    public int Spaces => _pids.Count;

    /// <summary>An observer and a log for those who do not look.</summary>
    public static Nobody Silent { get; } = new();

    /// <summary>What was saved, ready to be served. Those of which nothing was saved are no more.</summary>
    public List<ServedProcess> Served(IReadOnlyDictionary<int, UserFaultFd> saved)
    {
        Dictionary<int, ProcessView> views = _known.ToDictionary(known => known.Key, known => known.Value.Open());
        Settle(saved, views);
        foreach (int lost in Enumerable.Range(0, Spaces).Where(space => !saved.ContainsKey(space)))
            Service.Handle(new ServiceEvent(ServiceEventKind.Exited, default, lost, default));
        return
        [
            .. saved.OrderBy(s => s.Key).Where(s => s.Key < Spaces)
                .Select(s => new ServedProcess(s.Key, _pids[s.Key], s.Value, views.GetValueOrDefault(s.Key))),
        ];
    }

    /// <summary>Finds out what was wiped in children that were forked the moment before, as the first service would
    /// have.</summary>
    private void Settle(IReadOnlyDictionary<int, UserFaultFd> saved, Dictionary<int, ProcessView> views)
    {
        var forks = new ForkInspector();
        foreach (ProcessView view in views.Values)
            forks.Know(view);
        foreach (IGrouping<int, (int Parent, int Child)> group in _unsettled.GroupBy(fork => fork.Parent))
        {
            List<int> children = [.. group.Select(fork => fork.Child).Where(saved.ContainsKey)];
            if (children.Count == 0 || !views.TryGetValue(group.Key, out ProcessView? parent))
                continue;
            IReadOnlyList<ForkInspector.Child> found = forks.Inspect(parent, [.. children.Select(child => saved[child])]);
            for (int i = 0; i < children.Count; i++)
            {
                views[children[i]] = found[i].View;
                foreach (PageRange range in found[i].Wiped)
                    Service.Handle(new ServiceEvent(ServiceEventKind.Removed, default, children[i], range));
            }
        }
    }

    /// <summary>Sees and says nothing.</summary>
    internal sealed class Nobody : IServiceObserver, ILiveLog
    {
        public void OnRequested(Instant time, int space, PageRange range, Cause cause) { }

        public void OnInstalled(in InstallRecord install) { }

        public void OnResolved(in FaultRecord fault) { }

        public void OnEvent(in ServiceEvent e) { }

        public int OnNewThread(int tid) => tid;
    }
}
