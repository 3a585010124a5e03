using System.Collections.Frozen;

namespace Testbed.Tidy.Tests;

/// <summary>The files of the repository, without what is built or written by runs.</summary>
internal static class Repository
{
    private static readonly FrozenSet<string> NotOurs = FrozenSet.ToFrozenSet(
        [".git", ".vs", ".idea", ".vscode", "artifacts", "bin", "obj", "TestResults", "__pycache__", ".ipynb_checkpoints"]);

    private static readonly FrozenSet<string> TextExtensions = FrozenSet.ToFrozenSet(
    [
        ".cs", ".csproj", ".props", ".targets", ".json", ".md", ".sh", ".py", ".js", ".java", ".c", ".h", ".proto", ".yml", ".yaml", ".html", ".css",
        ".ipynb", ".csv", ".editorconfig", ".gitignore", ".gitattributes", "",
    ]);

    public static string Root { get; } = Find();

    /// <summary>All files, relative to the root, with / between.</summary>
    public static IReadOnlyList<string> Files { get; } = [.. Walk(Root).Order(StringComparer.Ordinal)];

    /// <summary>Those that people read and edit as text.</summary>
    public static IEnumerable<string> TextFiles => Files.Where(f => TextExtensions.Contains(Path.GetExtension(f)));

    public static IEnumerable<string> FilesNamed(params string[] extensions) => Files.Where(f => extensions.Contains(Path.GetExtension(f)));

    public static string Read(string file) => File.ReadAllText(Path.Combine(Root, file));

    /// <summary>Lines that match, as <c>file:line: text</c>, for messages.</summary>
    public static IEnumerable<string> Matches(IEnumerable<string> files, System.Text.RegularExpressions.Regex wrong) =>
        from file in files
        from line in Read(file).Split('\n').Index()
        where wrong.IsMatch(line.Item)
        select $"{file}:{line.Index + 1}: {line.Item.Trim()}";

    private static IEnumerable<string> Walk(string folder)
    {
        foreach (string entry in Directory.GetFileSystemEntries(folder))
        {
            string relative = Path.GetRelativePath(Root, entry);
            if (NotOurs.Contains(Path.GetFileName(entry)) || relative == "reports/out")
                continue;
            if (!Directory.Exists(entry))
                yield return relative;
            else
            {
                foreach (string file in Walk(entry))
                    yield return file;
            }
        }
    }

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
