namespace Testbed.Scenarios;

/// <summary>Where CRIU is on this host, and what it needs of the kernel without CAP_SYS_RESOURCE.</summary>
public static class CriuSetup
{
    /// <summary>As named by TESTBED_CRIU, or as setup/criu.sh installed it above this program, or from PATH; null when there is none.</summary>
    public static string? Find() => Environment.GetEnvironmentVariable("TESTBED_CRIU") ?? Above(Path.Combine("artifacts", "criu", "criu")) ?? Workload.FindProgram("criu");

    /// <summary>What a person types to run a script of scenarios/setup, which is above this program: <c>sh scenarios/setup/criu.sh</c>.</summary>
    public static string Script(string name)
    {
        string shipped = Path.Combine("scenarios", "setup", name);
        string relative = Path.GetRelativePath(Environment.CurrentDirectory, Above(shipped) ?? shipped);
        return "sh " + (relative.StartsWith("../", StringComparison.Ordinal) ? Path.GetFullPath(relative) : relative);
    }

    /// <summary>Lifts the limits on pipes; when the last program that lifted them ends it, they are what they were.</summary>
    /// <exception cref="Testbed.Core.BadInputException">They are too low and cannot be changed.</exception>
    public static IDisposable LiftPipeLimits() => new PipeLimits();

    private static string? Above(string file)
    {
        for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            string found = Path.Combine(folder.FullName, file);
            if (File.Exists(found))
                return found;
        }
        return null;
    }
}
