using System.Diagnostics;
using Testbed.Core;
using Testbed.Uffd;

namespace Testbed.Live;

/// <summary>
/// The recorder's side of the guard: another process that waits for our death, and then brings the target's memory back (see
/// <see cref="GuardProcess"/>). It holds copies of all userfaultfds, for children's live nowhere else, the images' files, and the journal.
/// </summary>
internal sealed class Guard : IDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan DismissalPatience = TimeSpan.FromSeconds(5);
    private readonly DescriptorChannel _channel;
    private readonly LaunchedProgram _program;
    private Keeper? _keeper;

    private Guard(DescriptorChannel channel, LaunchedProgram program) => (_channel, _program) = (channel, program);

    /// <summary>Starts it for a capture.</summary>
    /// <exception cref="BadInputException">It cannot be started.</exception>
    public static Guard Start(int pid, string directory, bool deleteImages) => Start(
    [
        GuardProcess.Verb, "--pid", $"{pid}", "--recorder", $"{Environment.ProcessId}", "--images", Path.GetFullPath(directory),
        .. deleteImages ? (string[])["--delete-images"] : [],
    ]);

    /// <summary>Starts it. It becomes ready while we go on, and takes no processor time from us; what it is entrusted with until then waits for it.</summary>
    /// <param name="arguments">What this program is called with to be a guard over us.</param>
    /// <exception cref="BadInputException">It cannot be started.</exception>
    public static Guard Start(IEnumerable<string> arguments)
    {
        string[] own = OwnProgram.Command;
        (DescriptorChannel ours, DescriptorChannel theirs) = DescriptorChannel.Pair();
        using (theirs)
        {
            LaunchedProgram program = LaunchedProgram.StartAlone(own[0], [.. own[1..], .. arguments], theirs.Fd);
            SetPriority(program.Pid, ProcessPriorityClass.Idle);
            return new Guard(ours, program);
        }
    }

    /// <summary>The images are complete: it is to open them. From then on nobody can take them away from it.</summary>
    public void OpenImages() => _channel.Send(GuardProcess.Images);

    /// <summary>Waits until it has opened the images and stands guard.</summary>
    /// <exception cref="BadInputException">It does not.</exception>
    public void AwaitImages()
    {
        ChannelMessage? answer = _channel.Receive(TimeSpan.Zero);
        if (answer is null)
        {
            // Somebody waits for it now.
            SetPriority(_program.Pid, ProcessPriorityClass.Normal);
            answer = _channel.Receive(Patience);
            SetPriority(_program.Pid, ProcessPriorityClass.Idle);
        }
        if (answer is { Kind: GuardProcess.Ready })
            return;
        string why = answer is null ? $"was not ready within {Patience.TotalSeconds:0} s"
            : answer.Value.Kind == GuardProcess.Unable ? "could not open the images" : "ended at once";
        throw new BadInputException($"the guard, which gives the process its memory back if this program is killed, {why}; nothing was taken");
    }

    /// <summary>Gives it a copy of a userfaultfd. Does not wait and does not fail: what it does not get so, it gets from the keeper.</summary>
    public void Entrust(int space, UserFaultFd fd) => _channel.Send(GuardProcess.Keep, space, fd.Fd);

    /// <summary>Gives it the first copy of a process's userfaultfd; waits for room.</summary>
    /// <returns>Whether it will get it.</returns>
    public bool EntrustProcess(int space, UserFaultFd fd) => _channel.Send(GuardProcess.Keep, space, fd.Fd, Patience);

    /// <summary>Gives it the journal that tells it what to do.</summary>
    /// <returns>Whether it will get it.</returns>
    public bool Entrust(ChangeJournal journal) => _channel.Send(GuardProcess.Journal, 0, journal.Descriptor, Patience);

    /// <summary>From now on also what is forked is safe, from the first moment on: to be called when the processes run.</summary>
    /// <exception cref="BadInputException">The kernel does not let us.</exception>
    public void Keep()
    {
        _keeper = new Keeper(new PidFd(_program.Pid));
        _channel.Send(GuardProcess.Keeper, 0, _keeper.Process.Fd, Patience);
    }

    /// <summary>All is well, as the journal says: it may go. Returns when it is gone, and with it the last copies.</summary>
    public void Dismiss()
    {
        _channel.Send(GuardProcess.Done);
        if (_program.WaitForExit(DismissalPatience) is null)
        {
            _program.Kill();
            _program.WaitForExit(Patience);
        }
    }

    /// <summary>All is well, as the journal says: it may go, and does so in a moment.</summary>
    public void Release() => _channel.Send(GuardProcess.Done);

    /// <summary>Lets go of it without a word: it does its duty when this process ends.</summary>
    public void Dispose()
    {
        _keeper?.Dispose();
        _program.Dispose();
    }

    /// <summary>Of a process, and of the threads that it starts from then on.</summary>
    internal static void SetPriority(int pid, ProcessPriorityClass priority)
    {
        try
        {
            using Process process = Process.GetProcessById(pid);
            process.PriorityClass = priority;
        }
        catch (Exception e) when (e is ArgumentException or InvalidOperationException or System.ComponentModel.Win32Exception)
        {
            // It has ended already, or may not: nothing depends on it.
        }
    }
}
