using Testbed.Core;
using Testbed.Uffd;

namespace Testbed.Live;

/// <summary>
/// What outlives a killed service: its journal, and the userfaultfds by address space: those that it entrusted to its guard, and those of children
/// that it had just been handed by the kernel, and which only its <see cref="Keeper"/> holds.
/// </summary>
public sealed class SavedDescriptors : IDisposable
{
    private readonly Dictionary<int, UserFaultFd> _all = [];

    // Every address space whose descriptor has come, also those that ended since.
    private readonly HashSet<int> _received = [];
    private PidFd? _keeper;
    private int _journal = -1;

    /// <summary>All of them.</summary>
    public IReadOnlyDictionary<int, UserFaultFd> All => _all;

    /// <summary>Lets go of the keeper. The userfaultfds are whoever serves them's.</summary>
    public void Dispose() => _keeper?.Dispose();

    /// <summary>The journal of the service, once; null when it had none yet.</summary>
    /// <param name="directory">Where it has its name; null when it has none.</param>
    internal ChangeJournal? TakeJournal(string? directory) =>
        Interlocked.Exchange(ref _journal, -1) is >= 0 and var fd ? ChangeJournal.Adopt(fd, directory) : null;

    internal void Take(in ChannelMessage message)
    {
        if (message is { Kind: GuardProcess.Keeper, Descriptor: >= 0 })
            _keeper = new PidFd(message);
        if (message is { Kind: GuardProcess.Journal, Descriptor: >= 0 })
            _journal = message.Descriptor;
        if (message is not { Kind: GuardProcess.Keep, Descriptor: >= 0 })
            return;
        // Children come and go; a descriptor of memory that is no more is of no use.
        foreach ((int space, UserFaultFd fd) in _all.Where(s => s.Key != 0 && !s.Value.IsAddressSpaceAlive()).ToList())
        {
            fd.Dispose();
            _all.Remove(space);
        }
        _all[message.Value] = new UserFaultFd(message.Descriptor);
        _received.Add(message.Value);
    }

    /// <summary>Adds what was not entrusted any more, and ends the keeper.</summary>
    /// <param name="changes">What the kernel told the dead service, in order.</param>
    /// <param name="children">The number of the first child's address space.</param>
    internal void Complete(IEnumerable<(int Space, UffdMessage Message)> changes, int children)
    {
        // A number that was free again may have become a later child's: the last one has it.
        Dictionary<int, int> childByNumber = [];
        foreach ((int _, UffdMessage fork) in changes.Where(change => change.Message.Event == UffdEvent.Fork))
            childByNumber[fork.ForkedFd] = children++;
        foreach ((int number, int child) in childByNumber)
        {
            if (!_received.Contains(child) && _keeper?.Get(number) is >= 0 and var fd && UserFaultFd.TryAdopt(fd) is { } saved)
                _all[child] = saved;
        }
        // It holds the connections, too, of which a server may take but one.
        _keeper?.Kill();
        _ = _keeper?.WaitForExit(TimeSpan.FromSeconds(30));
    }
}
