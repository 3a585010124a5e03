using System.Diagnostics;
using System.Net;
using Testbed.Core;
using Testbed.Uffd;

namespace Testbed.Cli.Migration;

/// <summary>
/// A host that is a set of namespaces on this machine, for network, pids and mounts, so that a process can be restored here with the pid and the
/// addresses that it had on the other one. Files are the machine's, but for /run.
/// </summary>
internal sealed class NamespaceHost : MigrationHost
{
    private readonly Process _unshare;
    private readonly int _init;

    private NamespaceHost(string address, CancellationToken cancel) : base(IPAddress.Parse(address))
    {
        Cancel = cancel;
        _unshare = Launch("unshare", "-n", "-p", "-m", "-f", "--mount-proc", "sleep", "3600");
        string children = $"/proc/{_unshare.Id}/task/{_unshare.Id}/children";
        // Its child is there before it runs sleep, and has mounted its /proc by then.
        string init;
        while ((init = File.Exists(children) ? File.ReadAllText(children).Trim() : "").Length == 0 || File.ReadAllText($"/proc/{init}/comm").Trim() != "sleep")
        {
            if (cancel.IsCancellationRequested)
            {
                _unshare.Kill(entireProcessTree: true);
                throw new OperationCanceledException(cancel);
            }
            if (_unshare.HasExited)
                throw new BadInputException("namespaces for two hosts cannot be made here; root, and a kernel with network, pid and mount namespaces, are expected");
            Thread.Sleep(5);
        }
        _init = int.Parse(init);
    }

    /// <summary>Two of them, with a cable between.</summary>
    /// <param name="congestionControl">TCP's on both: the first of these that they may use; null: as on this machine.</param>
    /// <param name="cancel">Ends this, and whatever runs there later.</param>
    /// <exception cref="BadInputException">They cannot be made here, or may use none of these.</exception>
    /// <exception cref="OperationCanceledException">Cancelled; nothing of them is left.</exception>
    public static (NamespaceHost Source, NamespaceHost Destination) Pair(IReadOnlyList<string>? congestionControl, CancellationToken cancel)
    {
        NamespaceHost? destination = null;
        var source = new NamespaceHost("10.77.0.1", cancel);
        try
        {
            destination = new NamespaceHost("10.77.0.2", cancel);
            Join(source, destination, congestionControl);
            return (source, destination);
        }
        catch
        {
            source.Dispose();
            destination?.Dispose();
            throw;
        }
    }

    private static void Join(NamespaceHost source, NamespaceHost destination, IReadOnlyList<string>? congestionControl)
    {
        Succeed(Execute(source.Cancel, "ip", "link", "add", "eth0", "netns", $"{source._init}", "type", "veth", "peer", "name", "eth0", "netns", $"{destination._init}"), "ip link add");
        foreach (NamespaceHost host in (NamespaceHost[])[source, destination])
        {
            // CRIU keeps what it finds out about the kernel in /run, where that is a tmpfs as on any host.
            Succeed(host.Run("sh", "-c", $"ip addr add {host.Address}/24 dev eth0 && ip link set eth0 up && ip link set lo up && mount -t tmpfs run /run"), "ip addr add, mount");
        }
        if (congestionControl is not null && !congestionControl.Any(name => Array.TrueForAll([source, destination], host => host.Uses(name))))
        {
            string wanted = string.Join(", ", congestionControl.Select(name => $"\"{name}\""));
            throw new BadInputException($"congestionControl: namespaces of this machine may not use {wanted}; expected one of {MigrationNeeds.AllowedCongestionControls}, "
                + $"or as root of this machine: {MigrationNeeds.AllowCongestionControl(congestionControl[0])}");
        }
    }

    /// <summary>Other namespaces than the first may use what the first one allows, and no more.</summary>
    private bool Uses(string congestionControl) =>
        Run("sh", "-c", "echo \"$1\" > /proc/sys/net/ipv4/tcp_congestion_control", "sh", congestionControl).ExitCode == 0;

    public override IPAddress ClientAddress => IPAddress.Loopback;

    protected override IPAddress ListenAddress => IPAddress.Loopback;

    public override string[] Enter(IReadOnlyList<string> command) => ["nsenter", "-t", $"{_init}", "-n", "-p", "-m", "--", .. command];

    public override T Within<T>(Func<T> work) => NetworkNamespace.Run(_init, work);

    public override bool Exists(string path) => File.Exists(path);

    /// <summary>The first process of the namespaces takes all others with it.</summary>
    public override void Dispose()
    {
        if (!_unshare.HasExited)
            _ = Execute(CancellationToken.None, "kill", "-9", $"{_init}");
        _unshare.WaitForExit();
        _unshare.Dispose();
    }

    private static void Succeed((int ExitCode, string Output) outcome, string what, string expected = "veth pairs between namespaces to work")
    {
        if (outcome.ExitCode != 0)
            throw new BadInputException($"{what}: {outcome.Output.Trim()} (exit code {outcome.ExitCode}); expected {expected}");
    }
}
