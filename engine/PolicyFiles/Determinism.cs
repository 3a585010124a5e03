using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;
using Microsoft.CodeAnalysis.CSharp.Syntax;

namespace Testbed.PolicyFiles;

/// <summary>
/// A policy must do the same again when it sees the same, or no replay would tell the truth: no clock, chance or thread, and
/// no state that several of its objects share, for a comparison runs many at once.
/// </summary>
internal static class Determinism
{
    private static readonly HashSet<string> s_members =
    [
        "System.DateTime.Now", "System.DateTime.UtcNow", "System.DateTime.Today", "System.DateTimeOffset.Now", "System.DateTimeOffset.UtcNow",
        "System.Environment.TickCount", "System.Environment.TickCount64", "System.Guid.NewGuid", "System.Random.Shared",
        // Seeded anew in each process.
        "string.GetHashCode",
    ];

    private static readonly HashSet<string> s_types = ["System.Diagnostics.Stopwatch", "System.TimeProvider", "System.HashCode", "System.Security.Cryptography.RandomNumberGenerator"];

    public static IEnumerable<(Location Place, string Text)> Check(SemanticModel model)
    {
        foreach (SyntaxNode node in model.SyntaxTree.GetRoot().DescendantNodes())
        {
            if (node is SimpleNameSyntax or ImplicitObjectCreationExpressionSyntax or ObjectCreationExpressionSyntax
                && model.GetSymbolInfo(node).Symbol is { } used && Offends(used) is { } what)
            {
                yield return (node.GetLocation(), $"{what}: a policy has no clock, chance or thread, or a replay would not repeat it; a fault carries its time, PolicyEnvironment a seed");
            }
            if (node is VariableDeclaratorSyntax or PropertyDeclarationSyntax && SharedState(model.GetDeclaredSymbol(node)) is { } name)
                yield return (node.GetLocation(), $"static {name}: the state of a policy belongs to its object; several run at once");
        }
    }

    private static string? Offends(ISymbol symbol)
    {
        ITypeSymbol? type = symbol as ITypeSymbol ?? symbol.ContainingType;
        if (type is null || symbol is INamespaceSymbol)
            return null;
        string typeName = type.ToDisplayString();
        if (symbol is IMethodSymbol { MethodKind: MethodKind.Constructor, Parameters.Length: 0 } && typeName == "System.Random")
            return "new Random() without a seed";
        if (s_types.Contains(typeName) || type.ContainingNamespace?.ToDisplayString().StartsWith("System.Threading", StringComparison.Ordinal) == true)
            return typeName;
        string member = $"{typeName}.{symbol.Name}";
        return s_members.Contains(member) ? member : null;
    }

    private static string? SharedState(ISymbol? declared) => declared switch
    {
        IFieldSymbol { IsStatic: true, IsReadOnly: false, IsConst: false } field => field.Name,
        IPropertySymbol { IsStatic: true, SetMethod: not null } property => property.Name,
        _ => null,
    };
}
