using System.Diagnostics;
using System.Net;
using Testbed.Scenarios;

namespace Testbed.Cli.Migration;

/// <summary>A host of a migration: commands run there, and the workload does. Disposing it ends what runs there.</summary>
internal abstract class MigrationHost(IPAddress address) : IDisposable
{
    // No descriptor or directory from outside, a session of its own, a pid that is free on either host, and an IPC namespace that CRIU can
    // take along: System V shared memory can be dumped with its namespace only.
    private const string Starter = """
        for fd in /proc/self/fd/*; do fd=${fd##*/}; [ "$fd" -le 2 ] || eval "exec $fd>&-"; done
        pid=$1; shift
        echo $((pid - 1)) >/proc/sys/kernel/ns_last_pid
        cd /
        setsid unshare -i "$@" </dev/null >/dev/null 2>&1 &
        wait
        """;

    /// <summary>Where the other host reaches it.</summary>
    public IPAddress Address { get; } = address;

    /// <summary>Where our client reaches a program on it, in <see cref="Within"/>.</summary>
    public abstract IPAddress ClientAddress { get; }

    /// <summary>TCP's congestion control here, as the kernel names it.</summary>
    public string CongestionControl => Run("cat", "/proc/sys/net/ipv4/tcp_congestion_control").Output.Trim();

    /// <summary>Ends whatever runs here on our behalf, within a moment; not what disposing it does.</summary>
    public CancellationToken Cancel { get; init; }

    /// <summary>How a workload is started here.</summary>
    /// <param name="port">Where it listens.</param>
    /// <param name="pid">The pid of its first process, in this host's own counting.</param>
    public WorkloadHost ForWorkload(int port, int pid) => new()
    {
        Address = ListenAddress,
        ReachedAt = ClientAddress,
        Port = port,
        Enter = command => Enter(["bash", "-c", Starter, "starter", $"{pid}", .. command]),
    };

    /// <summary>A command line that runs a command here.</summary>
    public abstract string[] Enter(IReadOnlyList<string> command);

    /// <summary>Where a program listens so that our client reaches it.</summary>
    protected abstract IPAddress ListenAddress { get; }

    /// <summary>Runs a command here to its end.</summary>
    /// <exception cref="OperationCanceledException">Cancelled; the command was killed.</exception>
    public (int ExitCode, string Output) Run(params IReadOnlyList<string> command) => Execute(Cancel, Enter(command));

    /// <summary>Starts a command here. What it prints is lost.</summary>
    public Process Start(params IReadOnlyList<string> command) => Launch(Enter(command));

    /// <summary>Does something with the network of this host, from where its programs are reached.</summary>
    public virtual T Within<T>(Func<T> work) => work();

    /// <summary>Whether a shell's condition holds here.</summary>
    public bool Holds(string condition) => Run("sh", "-c", condition).ExitCode == 0;

    /// <summary>Whether a file is here.</summary>
    public virtual bool Exists(string path) => Holds($"[ -e '{path}' ]");

    /// <summary>The lines of a file here that tell of errors, the last ones.</summary>
    public string Errors(string log) => Run("sh", "-c", $"grep Error '{log}' 2>/dev/null | tail -n 2").Output.Trim().ReplaceLineEndings("; ");

    /// <summary>Prepares it for a migration.</summary>
    /// <param name="directory">Exists on this machine; then here too, with what is in it.</param>
    /// <param name="pid">The program's, on both hosts.</param>
    public virtual void Give(string directory, int pid) { }

    /// <summary>Removes that directory, if it is not this machine's.</summary>
    public virtual void Remove(string directory) { }

    /// <summary>Brings what is in a directory on another host here.</summary>
    public virtual void TakeFrom(MigrationHost other, string directory) { }

    /// <inheritdoc/>
    public abstract void Dispose();

    internal static (int ExitCode, string Output) Execute(CancellationToken cancel, params string[] command)
    {
        cancel.ThrowIfCancellationRequested();
        using Process process = Process.Start(StartInfo(command))!;
        process.StandardInput.Close();
        Task<string> output = process.StandardOutput.ReadToEndAsync(CancellationToken.None), errors = process.StandardError.ReadToEndAsync(CancellationToken.None);
        try
        {
            // Not by cancelled reads: what a killed command leaves behind may hold its output open, and is ended with its host.
            Task.WaitAll([process.WaitForExitAsync(cancel), output, errors], cancel);
        }
        catch (Exception e) when (e is OperationCanceledException || cancel.IsCancellationRequested)
        {
            process.Kill(entireProcessTree: true);
            throw new OperationCanceledException(cancel);
        }
        return (process.ExitCode, output.Result + errors.Result);
    }

    /// <summary>In a session of its own: Ctrl-C is ours alone, and what is stopped by it is stopped by us, in order.</summary>
    private static ProcessStartInfo StartInfo(string[] command) =>
        new("setsid", command) { RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true };

    protected static Process Launch(params string[] command)
    {
        Process process = Process.Start(StartInfo(command))!;
        process.StandardInput.Close();
        // Read, so that it never blocks; and dropped, for logs go to files.
        _ = process.StandardOutput.ReadToEndAsync();
        _ = process.StandardError.ReadToEndAsync();
        return process;
    }
}
