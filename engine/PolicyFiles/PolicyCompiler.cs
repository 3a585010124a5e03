using System.Globalization;
using System.Text;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;
using Microsoft.CodeAnalysis.Emit;
using Microsoft.CodeAnalysis.Text;
using Testbed.Core;
using Testbed.Policies;

namespace Testbed.PolicyFiles;

/// <summary>Compiles one C# file with the engine's contract at hand: no project, and the usual namespaces without using.</summary>
internal static class PolicyCompiler
{
    private const int MostErrors = 10;

    private const string Usings = """
        global using System;
        global using System.Collections.Generic;
        global using System.Linq;
        global using System.Numerics;
        global using Testbed.Core;
        global using Testbed.Policies;
        """;

    /// <summary>The assembly's bytes, with line numbers for exceptions in it.</summary>
    /// <param name="path">The file, as errors name it.</param>
    /// <param name="text">What is in it.</param>
    /// <exception cref="BadInputException">One line per error: <c>MyPolicy.cs(12,9): error CS1002: ; expected</c>.</exception>
    public static byte[] Compile(string path, string text)
    {
        var parse = new CSharpParseOptions(LanguageVersion.Latest);
        SyntaxTree tree = CSharpSyntaxTree.ParseText(SourceText.From(text, Encoding.UTF8), parse, path);
        CSharpCompilation compilation = CSharpCompilation.Create(
            $"policy-{Path.GetFileNameWithoutExtension(path)}",
            [tree, CSharpSyntaxTree.ParseText(SourceText.From(Usings, Encoding.UTF8), parse, "usings")],
            References(),
            new CSharpCompilationOptions(OutputKind.DynamicallyLinkedLibrary, optimizationLevel: OptimizationLevel.Release, nullableContextOptions: NullableContextOptions.Enable));
        using var assembly = new MemoryStream();
        EmitResult result = compilation.Emit(assembly, options: new EmitOptions(debugInformationFormat: DebugInformationFormat.Embedded));
        List<(Location Place, string Text)> errors =
            [.. result.Diagnostics.Where(d => d.Severity == DiagnosticSeverity.Error).Select(d => (d.Location, $"error {d.Id}: {d.GetMessage(CultureInfo.InvariantCulture)}"))];
        if (errors.Count == 0)
            errors.AddRange(Determinism.Check(compilation.GetSemanticModel(tree)).Select(e => (e.Place, "error: " + e.Text)));
        if (errors.Count > 0)
            throw new BadInputException(Describe(path, errors));
        return assembly.ToArray();
    }

    private static string Describe(string path, List<(Location Place, string Text)> errors)
    {
        IEnumerable<string> lines = errors.OrderBy(e => e.Place.SourceSpan.Start).Take(MostErrors).Select(e =>
        {
            LinePosition at = e.Place.GetLineSpan().StartLinePosition;
            return e.Place.IsInSource ? $"{path}({at.Line + 1},{at.Character + 1}): {e.Text}" : $"{path}: {e.Text}";
        });
        string more = errors.Count > MostErrors ? $"\n{path}: and {errors.Count - MostErrors} more errors" : "";
        return string.Join('\n', lines) + more;
    }

    /// <summary>The .NET that runs here, and of the engine what a policy may see.</summary>
    private static IEnumerable<MetadataReference> References()
    {
        string[] platform = ((string?)AppContext.GetData("TRUSTED_PLATFORM_ASSEMBLIES") ?? "").Split(Path.PathSeparator, StringSplitOptions.RemoveEmptyEntries);
        string runtime = Path.GetDirectoryName(typeof(object).Assembly.Location)!;
        IEnumerable<string> files = platform.Where(f => Path.GetDirectoryName(f) == runtime)
            .Append(typeof(IPolicy).Assembly.Location).Append(typeof(PolicyCatalog).Assembly.Location);
        return files.Select(f => MetadataReference.CreateFromFile(f));
    }
}
