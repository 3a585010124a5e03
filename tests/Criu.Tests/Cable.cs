using System.Diagnostics;
using NUnit.Framework;

namespace Testbed.Criu.Tests;

/// <summary>Two network namespaces and a cable between them that can be cut: where the daemon is, and where its server is.</summary>
internal sealed class Cable : IDisposable
{
    /// <summary>The ends.</summary>
    public const int Near = 0, Far = 1;

    private readonly Process[] _ends = [NewNamespace(), NewNamespace()];

    public Cable()
    {
        Run("ip", "link", "add", "eth0", "netns", $"{_ends[Near].Id}", "type", "veth", "peer", "name", "eth0", "netns", $"{_ends[Far].Id}");
        foreach (int end in (int[])[Near, Far])
            At(end, $"ip addr add {Address(end)}/24 dev eth0; ip link set eth0 up");
    }

    public static string Address(int end) => $"10.79.0.{end + 1}";

    public string Network(int end) => $"/proc/{_ends[end].Id}/ns/net";

    public string[] Enter(int end) => ["nsenter", $"--net={Network(end)}", "--"];

    /// <summary>Cuts it: the far end sees its carrier go, or, silently, what is sent goes to nobody and neither end is told.</summary>
    public void Cut(bool silently)
    {
        if (!silently)
            At(Far, "ip link set eth0 down");
        else
            At(Near, $"ip neigh replace {Address(Far)} lladdr 02:00:00:00:00:01 dev eth0 nud permanent");
        if (silently)
            At(Far, $"ip neigh replace {Address(Near)} lladdr 02:00:00:00:00:01 dev eth0 nud permanent");
    }

    /// <summary>As before.</summary>
    public void Mend()
    {
        At(Near, $"ip neigh del {Address(Far)} dev eth0 || true");
        At(Far, $"ip neigh del {Address(Near)} dev eth0 || true; ip link set eth0 up");
    }

    public void Dispose()
    {
        foreach (Process end in _ends)
        {
            end.Kill();
            end.WaitForExit();
            end.Dispose();
        }
    }

    private static Process NewNamespace()
    {
        Process process = RealCriu.Start("unshare", ["-n", "sleep", "600"]);
        while (File.ReadAllText($"/proc/{process.Id}/comm").Trim() != "sleep")
            Thread.Sleep(5);
        return process;
    }

    private void At(int end, string script) => Run("nsenter", [$"--net={Network(end)}", "--", "sh", "-ec", script]);

    private static void Run(string program, params string[] arguments)
    {
        Outcome outcome = RealCriu.Run(program, arguments);
        Assert.That(outcome.ExitCode, Is.Zero, outcome.Errors);
    }
}
