using Testbed.Core;
using Testbed.Uffd;

namespace Testbed.Live;

/// <summary>
/// The userfaultfds that outlive a killed service, by address space: those that it entrusted to its guard, and those of children that it had
/// just been handed by the kernel, and which only its <see cref="Keeper"/> holds.
/// </summary>
public sealed class SavedDescriptors : IDisposable
{
    private readonly Dictionary<int, UserFaultFd> _all = [];
    private int _last = -1;
    private PidFd? _keeper;

    /// <summary>All of them.</summary>
    public IReadOnlyDictionary<int, UserFaultFd> All => _all;

    /// <summary>Lets go of the keeper. The userfaultfds are whoever serves them's.</summary>
    public void Dispose() => _keeper?.Dispose();

    internal void Take(in ChannelMessage message)
    {
        if (message is { Kind: GuardProcess.Keeper, Descriptor: >= 0 })
            _keeper = new PidFd(message);
        if (message is not { Kind: GuardProcess.Keep, Descriptor: >= 0 })
            return;
        // Children come and go; a descriptor of memory that is no more is of no use.
        foreach ((int space, UserFaultFd fd) in _all.Where(s => s.Key != 0 && !s.Value.IsAddressSpaceAlive()).ToList())
        {
            fd.Dispose();
            _all.Remove(space);
        }
        _all[message.Value] = new UserFaultFd(message.Descriptor);
        _last = Math.Max(_last, message.Value);
    }

    /// <summary>Adds what was not entrusted any more, and ends the keeper.</summary>
    /// <param name="changes">What the kernel told the dead service, in order.</param>
    /// <param name="children">The number of the first child's address space.</param>
    internal void Complete(IEnumerable<(int Space, UffdMessage Message)> changes, int children)
    {
        foreach ((int _, UffdMessage fork) in changes.Where(change => change.Message.Event == UffdEvent.Fork))
        {
            int child = children++;
            if (child > _last && _keeper?.Get(fork.ForkedFd) is >= 0 and var fd)
                _all[child] = new UserFaultFd(fd);
        }
        // It holds the connections, too, of which a server may take but one.
        _keeper?.Kill();
        _ = _keeper?.WaitForExit(TimeSpan.FromSeconds(30));
    }
}
