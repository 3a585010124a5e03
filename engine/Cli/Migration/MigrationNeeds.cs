using Testbed.Core;
using Testbed.Scenarios;
using Testbed.Uffd;

namespace Testbed.Cli.Migration;

/// <summary>What a migration between namespaces of this machine needs, found out by trying.</summary>
internal static class MigrationNeeds
{
    /// <summary>What the shipped migrations prefer: what Linux has by default.</summary>
    private const string UsualCongestionControl = "cubic";

    private const string Allowed = "/proc/sys/net/ipv4/tcp_allowed_congestion_control", LastPid = "/proc/sys/kernel/ns_last_pid";

    private static readonly (string Program, string Package)[] s_programs =
    [
        ("unshare", "util-linux"), ("nsenter", "util-linux"), ("setsid", "util-linux"), ("setpriv", "util-linux"), ("mount", "mount"),
        ("ip", "iproute2"), ("bash", "bash"),
    ];

    /// <summary>Tries everything; namespaces are made for the purpose, and removed.</summary>
    /// <param name="criu">Where CRIU is; null: nowhere.</param>
    public static IReadOnlyList<HostCapability> Probe(string? criu)
    {
        List<HostCapability> found = [User(), Programs()];
        bool possible = found.TrueForAll(f => f.Status == CapabilityStatus.Available);
        found.Add(possible ? Namespaces() : NotTried("namespaces and veth"));
        found.Add(CongestionControl());
        found.Add(Pids());
        found.Add(possible ? Criu(criu) : NotTried("criu check"));
        return found;
    }

    private static HostCapability NotTried(string name) =>
        new(name, CapabilityStatus.Missing, "not tried", "do the above first", false);

    /// <summary>Says at once, before anything is started, what the hosts or a preferred congestion control lack.</summary>
    /// <exception cref="BadInputException">One line: what is missing, and what to do.</exception>
    public static void Require()
    {
        if (((HostCapability[])[User(), Programs(), Pids()]).FirstOrDefault(n => n.Status == CapabilityStatus.Missing) is { } missing)
            throw new BadInputException($"{missing.Name}: {missing.Detail}; {missing.Remedy}");
    }

    /// <summary>What a namespace may use, as the kernel lists it.</summary>
    public static string AllowedCongestionControls => File.Exists(Allowed) ? File.ReadAllText(Allowed).Trim() : "";

    /// <summary>How to let namespaces use one more.</summary>
    public static string AllowCongestionControl(string name) =>
        $"sysctl -w net.ipv4.tcp_allowed_congestion_control=\"{AllowedCongestionControls} {name}\"";

    private static HostCapability User() => Environment.UserName == "root"
        ? Good("root", "it is")
        : new HostCapability("root", CapabilityStatus.Missing, $"this is {Environment.UserName}", "run as root: CRIU and namespaces want it", false);

    private static HostCapability Programs()
    {
        const string Name = "its programs";
        (string Program, string Package)[] missing = [.. s_programs.Where(p => Workload.FindProgram(p.Program) is null)];
        return missing.Length == 0
            ? Good(Name, string.Join(' ', s_programs.Select(p => p.Program)))
            : new HostCapability(Name, CapabilityStatus.Missing, $"not on PATH: {string.Join(' ', missing.Select(p => p.Program))}",
                $"as root: apt-get install {string.Join(' ', missing.Select(p => p.Package).Distinct())}", false);
    }

    private static HostCapability Namespaces()
    {
        const string Name = "namespaces and veth";
        try
        {
            (NamespaceHost source, NamespaceHost destination) = NamespaceHost.Pair(null, CancellationToken.None);
            using (source)
            using (destination)
            {
                // As a migration does it, through the cable.
                bool reached = source.Run("bash", "-c", $"exec 3<>/dev/tcp/{destination.Address}/9").Output.Contains("refused", StringComparison.Ordinal);
                return reached
                    ? Good(Name, "two hosts were made, and reached each other")
                    : new HostCapability(Name, CapabilityStatus.Missing, "two hosts were made, and did not reach each other", "let packets pass between them (iptables, nft)", false);
            }
        }
        catch (BadInputException e)
        {
            return new HostCapability(Name, CapabilityStatus.Missing, e.Message, "use a kernel with network, pid and mount namespaces and veth, and a container that may make them", false);
        }
    }

    private static HostCapability CongestionControl()
    {
        const string Name = "congestion control";
        string allowed = AllowedCongestionControls;
        return allowed.Split(' ').Contains(UsualCongestionControl)
            ? Good(Name, $"namespaces may use: {allowed}")
            : new HostCapability(Name, CapabilityStatus.Limited, $"namespaces may use: {allowed}; shipped migrations prefer {UsualCongestionControl}, and fall back",
                AllowCongestionControl(UsualCongestionControl), false);
    }

    /// <summary>A program starts with a pid that is free on the other host, too.</summary>
    private static HostCapability Pids() => File.Exists(LastPid)
        ? Good("choice of pids", LastPid)
        : new HostCapability("choice of pids", CapabilityStatus.Missing, $"{LastPid} is not there", "use a kernel with CONFIG_CHECKPOINT_RESTORE", false);

    private static HostCapability Criu(string? program)
    {
        const string Name = "criu check";
        if (program is null || !File.Exists(program))
            return new HostCapability(Name, CapabilityStatus.Missing, "CRIU is not here", CriuSetup.Script("criu.sh"), false);
        (int code, string output) = MigrationHost.Execute(CancellationToken.None, program, "check");
        return code == 0
            ? Good(Name, "the kernel has what it needs")
            : new HostCapability(Name, CapabilityStatus.Missing, output.Trim().Split('\n')[^1], "as root, with a kernel that has what it names", false);
    }

    private static HostCapability Good(string name, string detail) => new(name, CapabilityStatus.Available, detail, "", false);
}
