using System.Diagnostics;
using Testbed.Core;
using Testbed.Uffd;

namespace Testbed.Live;

/// <summary>
/// The recorder's side of the guard: another process that waits for our death, and then brings the target's memory back (see
/// <see cref="GuardProcess"/>). It holds copies of all userfaultfds, for children's live nowhere else.
/// </summary>
internal sealed class Guard : IDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);
    private readonly DescriptorChannel _channel;
    private readonly LaunchedProgram _program;

    private Guard(DescriptorChannel channel, LaunchedProgram program) => (_channel, _program) = (channel, program);

    /// <summary>Starts it for a capture; it becomes ready while we go on.</summary>
    /// <exception cref="BadInputException">It cannot be started.</exception>
    public static Guard Start(int pid, string directory, bool deleteImages) => Start(
    [
        GuardProcess.Verb, "--pid", $"{pid}", "--recorder", $"{Environment.ProcessId}", "--images", Path.GetFullPath(directory),
        .. deleteImages ? (string[])["--delete-images"] : [],
    ]);

    /// <summary>Starts this program a second time, as a guard over us; it becomes ready while we go on, and takes no processor time from us.</summary>
    /// <param name="arguments">What it is called with.</param>
    /// <exception cref="BadInputException">It cannot be started.</exception>
    public static Guard Start(IEnumerable<string> arguments)
    {
        (string host, string program) = Command();
        (DescriptorChannel ours, DescriptorChannel theirs) = DescriptorChannel.Pair();
        using (theirs)
        {
            LaunchedProgram guard = LaunchedProgram.StartAlone(host, [program, .. arguments], theirs.Fd);
            SetPriority(guard.Pid, ProcessPriorityClass.Idle);
            return new Guard(ours, guard);
        }
    }

    /// <summary>Waits until it stands guard.</summary>
    /// <exception cref="BadInputException">It does not.</exception>
    public void AwaitReady()
    {
        ChannelMessage? answer = _channel.Receive(Patience);
        if (answer is not { Kind: GuardProcess.Ready })
            throw new BadInputException($"the guard, which gives the process its memory back if this program is killed, {(answer is null ? $"was not ready within {Patience.TotalSeconds:0} s" : "ended at once")}; nothing was taken");
    }

    /// <summary>Gives it a copy of a userfaultfd. Does not wait and does not fail: without a guard the session is as good.</summary>
    public void Entrust(int space, UserFaultFd fd) => _channel.Send(GuardProcess.Keep, space, fd.Fd);

    /// <summary>All is well: it may go. Returns when it is gone, and with it the last copies.</summary>
    public void Dismiss()
    {
        _channel.Send(GuardProcess.Done);
        if (_program.WaitForExit(Patience) is null)
        {
            _program.Kill();
            _program.WaitForExit(Patience);
        }
    }

    /// <summary>All is well: it may go, and does so in a moment.</summary>
    public void Release() => _channel.Send(GuardProcess.Done);

    /// <summary>Lets go of it without a word: it does its duty when this process ends.</summary>
    public void Dispose() => _program.Dispose();

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

    /// <summary>How to start this very program a second time.</summary>
    private static (string Host, string Program) Command()
    {
        string program = Path.Combine(AppContext.BaseDirectory, "testbed.dll");
        if (!File.Exists(program))
            throw new BadInputException($"{program}: not there; expected the testbed's program, to start a guard with");
        string? host = Environment.ProcessPath;
        return (Path.GetFileNameWithoutExtension(host) == "dotnet" ? host! : "dotnet", program);
    }
}
