using Testbed.Core;

namespace Core.Tests;

/// <summary>What a message on a userfaultfd says.</summary>
internal sealed record ModelEvent(ModelThread Caller, ServiceEventKind Kind, ulong Page, long Count = 0, ulong To = 0, ModelProcess? Child = null);

/// <summary>A thread that runs, waits for a page, or waits for its event to be read.</summary>
internal sealed class ModelThread(int id)
{
    public int Id { get; } = id;

    /// <summary>Where its last touch has not come through yet.</summary>
    public ulong? Touching { get; set; }

    /// <summary>Whether it sleeps in the fault; else it touches again when it runs.</summary>
    public bool Sleeps { get; set; }

    /// <summary>The fault is on the descriptor and nobody has read it.</summary>
    public bool Unread { get; set; }

    public bool InSystemCall { get; set; }
}

/// <summary>
/// As much of a process and of the kernel's userfaultfd as the fault service can tell from the real ones: pages by
/// run-time address, what the program expects to read there, events that block until they are read, EAGAIN until then.
/// </summary>
/// <param name="space">Its address space.</param>
/// <param name="root">The one that was dumped: itself, or whom it was forked from.</param>
/// <param name="threads">How many run in it.</param>
internal sealed class ModelProcess(int space, int root, int threads)
{
    public int Space { get; } = space;

    public int Root { get; } = root;

    /// <summary>Whether its faults say which thread waits.</summary>
    public bool NamesThreads { get; init; } = true;

    /// <summary>So many installs still meet EAGAIN, with no event to be read: the kernel is busy with the memory.</summary>
    public int Storm { get; set; }

    public bool IsAlive { get; set; } = true;

    /// <summary>Registered pages, and what the program must read there. It never changes but by the program.</summary>
    public Dictionary<ulong, long> Truth { get; private init; } = [];

    /// <summary>Pages that are in, and what is in them.</summary>
    public Dictionary<ulong, long> Present { get; private init; } = [];

    /// <summary>Pages whose content a copy brought. Copied once more, they were asked for in vain.</summary>
    public HashSet<ulong> Copied { get; private init; } = [];

    /// <summary>A copy must not cross these: areas were split there by mprotect, or were apart from the start.</summary>
    public HashSet<ulong> Borders { get; private init; } = [];

    public List<ModelEvent> Events { get; } = [];

    /// <summary>Ranges whose REMOVE event has been read, and which the kernel is about to empty.</summary>
    public List<(ulong Page, long Count, ModelThread Caller)> Removing { get; } = [];

    public List<ModelThread> Threads { get; } = [.. Enumerable.Range(0, threads).Select(i => new ModelThread(i))];

    public bool IsRemoving(ulong page) => Removing.Exists(r => page - r.Page < (ulong)r.Count);

    /// <summary>The touch comes through, with the right content; or the thread sleeps; or there is nothing mapped.</summary>
    public void Touch(ModelThread thread, ulong page, long? write)
    {
        thread.Touching = null;
        if (!Truth.TryGetValue(page, out long truth))
            return;
        if (!Present.TryGetValue(page, out long content))
        {
            (thread.Touching, thread.Sleeps, thread.Unread) = (page, true, true);
            return;
        }
        Model.Check(content == truth || IsRemoving(page), $"page {page} of {Space} reads {content} instead of {truth}");
        if (write is { } value)
            Truth[page] = Present[page] = value;
    }

    public void Wake(ulong page, long count)
    {
        foreach (ModelThread thread in Threads)
        {
            if (thread is { Sleeps: true, Touching: { } at } && at - page < (ulong)count)
                thread.Sleeps = thread.Unread = false;
        }
    }

    /// <summary>UFFDIO_COPY and UFFDIO_ZEROPAGE: how far it came, and why no further.</summary>
    public (long Done, InstallOutcome Outcome) Install(ulong page, long[] content, bool isCopy)
    {
        if (!IsAlive)
            return (0, InstallOutcome.ProcessGone);
        if (Events.Count > 0)
            return (0, InstallOutcome.Again);
        // Between two pages of one copy the kernel looks again whether it must give way.
        int most = content.Length;
        if (Storm > 0)
        {
            Storm--;
            most = Storm % 3 == 0 ? Math.Min(most - 1, Storm % 5) : 0;
        }
        for (int i = 0; i < content.Length; i++)
        {
            if (!Truth.ContainsKey(page + (ulong)i) || (i > 0 && Borders.Contains(page + (ulong)i)))
                return (0, InstallOutcome.Gone);
        }
        for (int i = 0; i < content.Length; i++)
        {
            ulong at = page + (ulong)i;
            if (i == most)
            {
                Wake(page, i);
                return (i, InstallOutcome.Again);
            }
            if (Present.ContainsKey(at))
            {
                Model.Check(!isCopy || !Copied.Contains(at), $"page {at} of {Space} is installed twice");
                Wake(page, i);
                return (i, InstallOutcome.AlreadyPresent);
            }
            Model.Check(content[i] == Truth[at] || IsRemoving(at), $"page {at} of {Space} is given {content[i]} instead of {Truth[at]}");
            Present[at] = content[i];
            if (isCopy)
                Copied.Add(at);
        }
        Wake(page, content.Length);
        return (content.Length, InstallOutcome.Installed);
    }

    public void Unmap(ulong page, long count)
    {
        for (ulong p = page; p < page + (ulong)count; p++)
        {
            Truth.Remove(p);
            Present.Remove(p);
            Copied.Remove(p);
        }
    }

    /// <summary>madvise(DONTNEED), at last: what came in since is lost with the rest.</summary>
    public void Empty(ulong page, long count)
    {
        for (ulong p = page; p < page + (ulong)count; p++)
        {
            if (Truth.ContainsKey(p))
                Truth[p] = 0;
            Present.Remove(p);
            Copied.Remove(p);
        }
    }

    public void Move(ulong page, long count, ulong to, bool leaveArea)
    {
        for (ulong i = 0; i < (ulong)count; i++)
        {
            if (!Truth.Remove(page + i, out long truth))
                continue;
            Truth[to + i] = truth;
            if (Present.Remove(page + i, out long content))
                Present[to + i] = content;
            if (Copied.Remove(page + i))
                Copied.Add(to + i);
            if (leaveArea)
                Truth[page + i] = 0;
        }
        foreach (ulong border in new[] { page, page + (ulong)count, to, to + (ulong)count })
            Borders.Add(border);
    }

    public ModelProcess Fork(int child) => new(child, Root, 1)
    {
        Copied = [.. Copied],
        NamesThreads = NamesThreads,
        Truth = new(Truth),
        Present = new(Present),
        Borders = [.. Borders],
    };
}
