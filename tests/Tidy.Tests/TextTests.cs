using System.Text.RegularExpressions;
using NUnit.Framework;

namespace Testbed.Tidy.Tests;

/// <summary>What holds for every text in the repository.</summary>
[System.Runtime.Versioning.SupportedOSPlatform("linux")]
public sealed partial class TextTests
{
    private const int MaxLines = 500;

    private static readonly string[] SourceExtensions = [".cs", ".py", ".js", ".java", ".c", ".h", ".sh", ".proto"];

    [Test]
    public void SourceFilesAreShort()
    {
        IEnumerable<string> tooLong = Repository.FilesNamed(SourceExtensions)
            .Select(f => (File: f, Lines: Repository.Read(f).Count(c => c == '\n')))
            .Where(f => f.Lines > MaxLines)
            .Select(f => $"{f.File}: {f.Lines} lines");
        Assert.That(tooLong, Is.Empty, $"a source file has at most {MaxLines} lines: split it where a reader would, by what the parts are about");
    }

    [Test]
    public void NoTrailingWhitespace() =>
        Assert.That(Repository.Matches(Repository.TextFiles, TrailingWhitespace()), Is.Empty,
            "lines end without space or carriage return: dotnet format for C#, your editor for the rest (it knows .editorconfig)");

    [Test]
    public void FilesEndWithOneLineEnd()
    {
        // Lock files are as the restore writes them.
        IEnumerable<string> bad = Repository.TextFiles.Where(f => Path.GetFileName(f) != "packages.lock.json" && Repository.Read(f) is { Length: > 0 } text && (text[^1] != '\n' || text.EndsWith("\n\n", StringComparison.Ordinal)));
        Assert.That(bad, Is.Empty, "a file ends with one line end");
    }

    [Test]
    public void NothingIsLeftForLater()
    {
        // Spelled apart, or this file would find itself.
        var marker = new Regex(@"\b(TO" + "DO|FIX" + "ME|HA" + "CK|X" + "XX)\b");
        Assert.That(Repository.Matches(Repository.TextFiles, marker), Is.Empty,
            "finish it, or write an issue: the code holds no notes to oneself");
    }

    [Test]
    public void NoPathOfOneMachine()
    {
        var home = new Regex(@"(?<![\w.})*])/(work|ro" + "ot|ho" + @"me)/\w");
        Assert.That(Repository.Matches(Repository.TextFiles, home), Is.Empty,
            "paths are relative to the repository, to the file that names them, or from the user: this one exists on one machine only");
    }

    [Test]
    public void ScriptsCanBeRun()
    {
        const UnixFileMode execute = UnixFileMode.UserExecute;
        IEnumerable<string> bad = Repository.TextFiles.Where(f => Repository.Read(f).StartsWith("#!", StringComparison.Ordinal)
            && (File.GetUnixFileMode(Path.Combine(Repository.Root, f)) & execute) == 0);
        Assert.That(bad, Is.Empty, "a file with #! in its first line is executable: chmod +x, git add");
    }

    [GeneratedRegex(@"[ \t\r]$")]
    private static partial Regex TrailingWhitespace();
}
