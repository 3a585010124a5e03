using System.Diagnostics;
using System.Net;
using Testbed.Core;
using Testbed.Scenarios;
using Testbed.Uffd;

namespace Testbed.Cli.Migration;

/// <summary>
/// A host of a migration: namespaces of its own for network, pids and mounts on this machine, so that a process can be restored here with the
/// pid and the addresses that it had on the other one.
/// </summary>
internal sealed class MigrationHost : IDisposable
{
    // In the namespaces: no descriptor or directory from outside, a session of its own, and a pid that is free on any host.
    private const string Starter = """
        for fd in /proc/self/fd/*; do fd=${fd##*/}; [ "$fd" -le 2 ] || eval "exec $fd>&-"; done
        echo 1000 >/proc/sys/kernel/ns_last_pid
        cd /
        setsid "$@" </dev/null >/dev/null 2>&1 &
        wait
        """;

    private readonly Process _unshare;

    private MigrationHost(string address)
    {
        Address = IPAddress.Parse(address);
        _unshare = Start("unshare", ["-n", "-p", "-m", "-f", "--mount-proc", "sleep", "3600"]);
        string children = $"/proc/{_unshare.Id}/task/{_unshare.Id}/children";
        // Its child is there before it runs sleep, and has mounted its /proc by then.
        string init;
        while ((init = File.Exists(children) ? File.ReadAllText(children).Trim() : "").Length == 0 || File.ReadAllText($"/proc/{init}/comm").Trim() != "sleep")
        {
            if (_unshare.HasExited)
                throw new BadInputException("namespaces for two hosts cannot be made here; root, and a kernel with network, pid and mount namespaces, are expected");
            Thread.Sleep(5);
        }
        Init = int.Parse(init);
    }

    /// <summary>Two of them, with a cable between.</summary>
    /// <exception cref="BadInputException">They cannot be made here.</exception>
    public static (MigrationHost Source, MigrationHost Destination) Pair()
    {
        var source = new MigrationHost("10.77.0.1");
        var destination = new MigrationHost("10.77.0.2");
        Succeed(Execute("ip", ["link", "add", "eth0", "netns", $"{source.Init}", "type", "veth", "peer", "name", "eth0", "netns", $"{destination.Init}"]), "ip link add");
        foreach (MigrationHost host in (MigrationHost[])[source, destination])
            Succeed(host.Run("sh", "-c", $"ip addr add {host.Address}/24 dev eth0 && ip link set eth0 up && ip link set lo up"), "ip addr add");
        return (source, destination);
    }

    /// <summary>Its first process, by our pid.</summary>
    public int Init { get; }

    /// <summary>Where the other one reaches it.</summary>
    public IPAddress Address { get; }

    /// <summary>What a command begins with to be run here.</summary>
    public string[] Prefix => ["nsenter", "-t", $"{Init}", "-n", "-p", "-m", "--"];

    /// <summary>How a workload is started here: its pid is <see cref="WorkloadPid"/>.</summary>
    public WorkloadHost ForWorkload(int port) => new() { Port = port, Prefix = [.. Prefix, "bash", "-c", Starter, "starter"] };

    /// <summary>The pid of a workload's first process, in this host's own counting.</summary>
    public const int WorkloadPid = 1001;

    /// <summary>Runs a command here to its end.</summary>
    public (int ExitCode, string Output) Run(params string[] command) => Execute(Prefix[0], [.. Prefix[1..], .. command]);

    /// <summary>Starts a command here. What it prints is lost.</summary>
    public Process Start(params string[] command) => Start(Prefix[0], [.. Prefix[1..], .. command]);

    /// <summary>Does something with the network of this host.</summary>
    public T Within<T>(Func<T> work) => NetworkNamespace.Run(Init, work);

    /// <summary>The first process of the namespaces takes all others with it.</summary>
    public void Dispose()
    {
        if (!_unshare.HasExited)
            _ = Execute("kill", ["-9", $"{Init}"]);
        _unshare.WaitForExit();
        _unshare.Dispose();
    }

    internal static (int ExitCode, string Output) Execute(string program, string[] arguments)
    {
        var start = new ProcessStartInfo(program, arguments) { RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true };
        using Process process = Process.Start(start)!;
        process.StandardInput.Close();
        Task<string> errors = process.StandardError.ReadToEndAsync();
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return (process.ExitCode, output + errors.Result);
    }

    private static Process Start(string program, string[] arguments)
    {
        Process process = Process.Start(new ProcessStartInfo(program, arguments) { RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true })!;
        process.StandardInput.Close();
        // Read, so that it never blocks; and dropped, for logs go to files.
        _ = process.StandardOutput.ReadToEndAsync();
        _ = process.StandardError.ReadToEndAsync();
        return process;
    }

    private static void Succeed((int ExitCode, string Output) outcome, string what)
    {
        if (outcome.ExitCode != 0)
            throw new BadInputException($"{what}: {outcome.Output.Trim()} (exit code {outcome.ExitCode}); veth pairs between namespaces are expected to work");
    }
}
