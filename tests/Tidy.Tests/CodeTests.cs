using System.Reflection.Metadata;
using System.Reflection.PortableExecutable;
using System.Text.RegularExpressions;
using NUnit.Framework;

namespace Testbed.Tidy.Tests;

/// <summary>Rules about code that the compiler does not know.</summary>
public sealed partial class CodeTests
{
    private static bool IsTest(string file) => file.StartsWith("tests/", StringComparison.Ordinal);

    [Test]
    public void UnsafeCodeIsInUffdAlone()
    {
        IEnumerable<string> elsewhere = Repository.FilesNamed(".cs", ".csproj", ".props", ".targets")
            .Where(f => !IsTest(f) && !f.StartsWith("engine/Uffd/", StringComparison.Ordinal));
        Assert.That(Repository.Matches(elsewhere, UnsafeCode()), Is.Empty,
            "what touches memory or the kernel directly belongs in engine/Uffd, behind a type with a safe face");
    }

    [Test]
    public void NoPublicMemberGoesUndocumented()
    {
        IEnumerable<string> files = Repository.FilesNamed(".cs", ".csproj", ".props", ".targets", ".editorconfig").Where(f => !IsTest(f));
        Assert.That(Repository.Matches(files, Undocumented()), Is.Empty,
            "write the summary instead: shapes, units, errors, and the paper or kernel document that it follows");
        Assert.That(Repository.Read("Directory.Build.props"), Does.Contain("<GenerateDocumentationFile>true<"), "this makes a missing comment an error");
    }

    /// <summary>
    /// Core and Policies are pure: the same events give the same commands, on any machine. So nothing in them may be
    /// able to tell time, draw chance, wait, or see the world. Their metadata lists every type that they use.
    /// </summary>
    [TestCase("Testbed.Core")]
    [TestCase("Testbed.Policies")]
    public void DecidingCodeIsPure(string assembly)
    {
        string[] used = [.. UsedTypes(Path.Combine(AppContext.BaseDirectory, assembly + ".dll"))];
        Assert.That(used, Has.Some.EqualTo("System.Object"), "the metadata was read");
        Assert.That(used.Where(t => Impure().IsMatch(t)), Is.Empty,
            "time, chance and the outside world come in as arguments and events, or not at all");
    }

    [Test]
    public void PurityTestSeesImpurity() =>
        Assert.That(UsedTypes(typeof(CodeTests).Assembly.Location).Where(t => Impure().IsMatch(t)), Does.Contain("System.IO.File"));

    private static SortedSet<string> UsedTypes(string dll)
    {
        using var file = new PEReader(File.OpenRead(dll));
        MetadataReader metadata = file.GetMetadataReader();
        var used = new SortedSet<string>(StringComparer.Ordinal);
        foreach (TypeReferenceHandle handle in metadata.TypeReferences)
        {
            TypeReference type = metadata.GetTypeReference(handle);
            string name = $"{metadata.GetString(type.Namespace)}.{metadata.GetString(type.Name)}";
            // Each iterator method asks for the thread's number, to know whether it may hand out itself.
            if (name != "System.Environment" || UsesMoreThanThreadId(metadata, handle))
                used.Add(name);
        }
        return used;
    }

    private static bool UsesMoreThanThreadId(MetadataReader metadata, TypeReferenceHandle environment) =>
        metadata.MemberReferences.Select(metadata.GetMemberReference)
            .Any(m => m.Parent == environment && metadata.GetString(m.Name) != "get_CurrentManagedThreadId");

    [GeneratedRegex(@"\bunsafe\b(?=\s+(static|partial|class|struct|ref|void|int|byte|sealed|readonly|\{))|\bunsafe\s*$|AllowUnsafeBlocks")]
    private static partial Regex UnsafeCode();

    [GeneratedRegex(@"(NoWarn|pragma|dotnet_diagnostic).*1591|<GenerateDocumentationFile>false")]
    private static partial Regex Undocumented();

    [GeneratedRegex(@"^System\.(DateTime|DateTimeOffset|TimeProvider|Random|Environment|Console|Guid|GC|AppContext)$|^System\.Diagnostics\.(Stopwatch|Process.*)$"
        + @"|^System\.IO\.(?!Hashing)|^System\.Net\.|^System\.Threading\.(?!Interlocked$)|^System\.Runtime\.InteropServices\.(Marshal|NativeMemory|SafeHandle|NativeLibrary)$|^Mono\.|\.RandomNumberGenerator$")]
    private static partial Regex Impure();
}
