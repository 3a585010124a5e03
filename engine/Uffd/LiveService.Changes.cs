using Testbed.Core;

namespace Testbed.Uffd;

/// <content>What the program does to its memory, and children that it forks.</content>
public sealed partial class LiveService
{
    private readonly ForkInspector _forks = new();

    private void Know(ProcessView view)
    {
        _forks.Know(view);
        _forks.KnowChildren(view);
    }

    private void HandleChanges(Target target, ReadOnlySpan<UffdMessage> messages, int forks)
    {
        List<ServedProcess> children = [];
        foreach (ref readonly UffdMessage message in messages)
        {
            if (message.Event == UffdEvent.PageFault)
                continue;
            int child = 0;
            if (message.Event == UffdEvent.Fork)
            {
                child = _nextSpace++;
                children.Add(new ServedProcess(child, _sourcePids[target.Space], new UserFaultFd(message.ForkedFd)));
                OnForked?.Invoke(child, children[^1].Fd);
            }
            Feed(ChangeOf(message, target.Space, child, _clock.Now));
            if (child != 0 && children.Count == forks)
                TakeChildren(target, children);
        }
    }

    /// <summary>Children are served once it is known, and written down, what their fork wiped: that is zero in them,
    /// whatever their parent had.</summary>
    private void TakeChildren(Target parent, List<ServedProcess> children)
    {
        if (_service.MapOf(parent.Space) is { LazyPages: 0, InFlightPages: 0 })
        {
            TakeComplete(children);
            return;
        }
        IReadOnlyList<PageRange> before = parent.View.WipedOnFork;
        IReadOnlyList<ForkInspector.Child> found = _forks.Inspect(parent.View, [.. children.Select(child => child.Fd)]);
        if (!before.SequenceEqual(parent.View.WipedOnFork))
            Journal?.NoteProcess(parent.Space, parent.View, []);
        for (int i = 0; i < children.Count; i++)
        {
            Journal?.NoteProcess(children[i].Space, found[i].View, found[i].Wiped);
            foreach (PageRange range in found[i].Wiped)
                Feed(new ServiceEvent(ServiceEventKind.Removed, _clock.Now, children[i].Space, range));
            AddTarget(children[i] with { View = found[i].View }, isOurs: true);
        }
    }

    /// <summary>Children of a parent of which nothing is missing: they have all that is theirs, and no flags need be
    /// read, which costs as much as the
    /// fork itself. Whoever comes after us does not know that nothing was missing, and is told.</summary>
    private void TakeComplete(List<ServedProcess> children)
    {
        PageRange everything = PageRange.Between(new PageNumber(1), PageNumber.Of(1ul << 56));
        foreach (ServedProcess child in children)
        {
            ProcessView unseen = ProcessView.Open(0, []);
            Journal?.NoteProcess(child.Space, unseen, [everything]);
            AddTarget(child with { View = unseen }, isOurs: true);
        }
    }

    /// <summary>What a message that is no fault means to the fault service.</summary>
    /// <param name="message">The message.</param>
    /// <param name="space">Whose it is.</param>
    /// <param name="child">Fork: the number of the new address space; they are numbered on in the order of their forks.</param>
    /// <param name="now">The event's time.</param>
    public static ServiceEvent ChangeOf(in UffdMessage message, int space, int child, Instant now) => message.Event switch
    {
        UffdEvent.Remove => new ServiceEvent(ServiceEventKind.Removed, now, space, message.Range),
        UffdEvent.Unmap => new ServiceEvent(ServiceEventKind.Unmapped, now, space, message.Range),
        UffdEvent.Remap => new ServiceEvent(ServiceEventKind.Remapped, now, space, message.From) { Destination = message.To.Start },
        UffdEvent.Fork => new ServiceEvent(ServiceEventKind.Forked, now, space, default) { Other = child },
        _ => throw new InvalidOperationException($"message {message.Event} is no change"),
    };
}
