using System.Reflection;

namespace Testbed.Live;

/// <summary>What a result must say about the machine and the program that it came from.</summary>
public static class HostFacts
{
    /// <summary>The program's version, with its commit where the build knew it.</summary>
    public static string ToolVersion { get; } =
        typeof(HostFacts).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion ?? "unknown";

    /// <summary>The kernel's release and the processor's model, without a host name.</summary>
    public static (string Kernel, string Cpu) Read()
    {
        string kernel = ReadLine("/proc/sys/kernel/osrelease");
        string cpu = File.Exists("/proc/cpuinfo")
            ? File.ReadLines("/proc/cpuinfo").FirstOrDefault(l => l.StartsWith("model name", StringComparison.Ordinal))?.Split(':', 2)[1].Trim() ?? ""
            : "";
        return ("Linux " + kernel, cpu);
    }

    private static string ReadLine(string path) => File.Exists(path) ? File.ReadAllText(path).Trim() : "";
}
