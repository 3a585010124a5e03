namespace Testbed.Scenarios;

/// <summary>Where CRIU is on this host, and what it needs of the kernel without CAP_SYS_RESOURCE.</summary>
public static class CriuSetup
{
    // Its dump keeps all memory in pipes, and its page server wants pipes of 4 MiB: tee(2) meets these.
    private static readonly (string File, string Wanted)[] Limits =
        [("/proc/sys/fs/pipe-user-pages-soft", "0"), ("/proc/sys/fs/pipe-max-size", "4194304")];

    /// <summary>As named by TESTBED_CRIU, or as setup/criu.sh installed it above this program, or from PATH; null when there is none.</summary>
    public static string? Find() => Environment.GetEnvironmentVariable("TESTBED_CRIU") ?? Installed() ?? Workload.FindProgram("criu");

    /// <summary>Lifts the limits on pipes; what they were comes back at the end.</summary>
    public static IDisposable LiftPipeLimits() => new Lifted();

    private static string? Installed()
    {
        for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            string criu = Path.Combine(folder.FullName, "artifacts", "criu", "criu");
            if (File.Exists(criu))
                return criu;
        }
        return null;
    }

    private sealed class Lifted : IDisposable
    {
        private readonly List<(string File, string Before)> _before = [];

        public Lifted()
        {
            foreach ((string file, string wanted) in Limits)
            {
                string now = File.ReadAllText(file).Trim();
                if (now == wanted)
                    continue;
                File.WriteAllText(file, wanted);
                _before.Add((file, now));
            }
        }

        public void Dispose()
        {
            foreach ((string file, string before) in _before)
                File.WriteAllText(file, before);
        }
    }
}
