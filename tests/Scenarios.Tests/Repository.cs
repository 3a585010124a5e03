namespace Testbed.Scenarios.Tests;

/// <summary>Where the shipped files are: the folder above us that has the solution.</summary>
internal static class Repository
{
    public static string Root { get; } = Find();

    public static string Scenarios => Path.Combine(Root, "scenarios");

    public static string Workload(string name) => Path.Combine(Scenarios, "workloads", name + ".json");

    /// <summary>Names of the JSON files in a folder, without the schemas.</summary>
    public static IEnumerable<string> JsonFiles(params string[] folder) =>
        // The packages of the assembly lie beside them.
        Directory.GetFiles(Path.Combine([Root, .. folder]), "*.json").Where(file => Path.GetFileName(file) != "packages.lock.json")
            .Where(f => !f.EndsWith(".schema.json", StringComparison.Ordinal)).Select(f => Path.GetRelativePath(Root, f)).Order();

    private static string Find()
    {
        for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            if (File.Exists(Path.Combine(folder.FullName, "Testbed.sln")))
                return folder.FullName;
        }
        throw new InvalidOperationException("Testbed.sln is not above the test assembly; run the tests from a clone");
    }
}
