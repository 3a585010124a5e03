using System.Runtime.CompilerServices;
using Testbed.PolicyFiles;

namespace Testbed.Cli;

/// <content>Loading, with the compiler at hand.</content>
internal static partial class PolicyFileOption
{
    /// <summary>Makes the policies of these files known.</summary>
    /// <returns>Their names.</returns>
    public static IReadOnlyList<string> Load(IReadOnlyList<string> files) =>
        // Not even named where there are none: the compiler's assemblies are large.
        files.Count == 0 ? [] : LoadAll(files);

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static List<string> LoadAll(IReadOnlyList<string> files) => [.. files.SelectMany(file =>
    {
        // Several scenarios of a sweep may name the same one.
        string path = Path.GetFullPath(file);
        return s_loaded.TryGetValue(path, out IReadOnlyList<string>? names) ? names : s_loaded[path] = PolicyFile.Load(file);
    })];

    private static readonly Dictionary<string, IReadOnlyList<string>> s_loaded = [];
}
