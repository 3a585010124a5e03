using System.Reflection;
using System.Runtime.CompilerServices;
using System.Runtime.Loader;
using Testbed.Core;
using Testbed.Policies;

namespace Testbed.PolicyFiles;

/// <summary>
/// Policies from outside: a C# file, compiled on the spot, or a class library. In an assembly of its own, for the compiler is
/// large and most commands do without it.
/// </summary>
public static class PolicyFile
{
    /// <summary>Adds the policies of a file to the catalog.</summary>
    /// <param name="path">A .cs file, or a .dll.</param>
    /// <returns>Their names.</returns>
    /// <exception cref="BadInputException">No such file, it does not compile (each error is a line with its place), or no policy in it.</exception>
    public static IReadOnlyList<string> Load(string path)
    {
        string full = Path.GetFullPath(path);
        if (!File.Exists(full))
            throw new BadInputException($"{path}: no such file; expected a C# file (.cs) or a class library (.dll) with a policy");
        if (!RuntimeFeature.IsDynamicCodeSupported)
            throw new BadInputException($"{path}: this build of the testbed is compiled ahead of time and takes no outside policies; expected the build that runs on dotnet");
        return Path.GetExtension(full) switch
        {
            ".cs" => PolicyCatalog.Add(Context(full).LoadFromStream(new MemoryStream(PolicyCompiler.Compile(path, File.ReadAllText(full)))), path),
            ".dll" => PolicyCatalog.Add(Library(path, full), path),
            _ => throw new BadInputException($"{path}: expected a C# file (.cs) or a class library (.dll)"),
        };
    }

    /// <summary>Writes a first policy to start from, named after the file.</summary>
    /// <returns>The policy's name.</returns>
    /// <exception cref="BadInputException">The file is there already, or its name makes no class name.</exception>
    public static string WriteTemplate(string path)
    {
        string name = Path.GetFileNameWithoutExtension(path);
        if (Path.GetExtension(path) != ".cs" || name.Length == 0 || !char.IsAsciiLetterUpper(name[0]) || !name.All(char.IsAsciiLetterOrDigit))
            throw new BadInputException($"{path}: expected a file named like a class, for example MyPolicy.cs");
        if (File.Exists(path))
            throw new BadInputException($"{path}: is there already; expected a new file");
        string policy = string.Concat(name.Select((c, i) => char.IsAsciiLetterUpper(c) ? (i > 0 ? "-" : "") + char.ToLowerInvariant(c) : c.ToString()));
        File.WriteAllText(path, Template().Replace("MyPolicy", name, StringComparison.Ordinal).Replace("my-policy", policy, StringComparison.Ordinal));
        return policy;
    }

    internal static string Template()
    {
        using Stream stream = typeof(PolicyFile).Assembly.GetManifestResourceStream("Template.txt")!;
        return new StreamReader(stream).ReadToEnd();
    }

    private static Assembly Library(string path, string full)
    {
        try
        {
            Assembly library = Context(full).LoadFromAssemblyPath(full);
            _ = library.GetTypes();
            return library;
        }
        catch (BadImageFormatException)
        {
            throw new BadInputException($"{path}: is no .NET assembly; expected a class library");
        }
        catch (ReflectionTypeLoadException e)
        {
            throw new BadInputException($"{path}: {e.LoaderExceptions.FirstOrDefault()?.Message ?? e.Message}; expected a library built against this version of the testbed", e);
        }
        catch (FileLoadException e)
        {
            throw new BadInputException($"{path}: {e.Message}", e);
        }
    }

    /// <summary>Finds what a library needs beside it; the engine's own assemblies are those that run here.</summary>
    private static AssemblyLoadContext Context(string full)
    {
        var context = new AssemblyLoadContext(full);
        context.Resolving += (self, name) =>
        {
            string beside = Path.Combine(Path.GetDirectoryName(full)!, name.Name + ".dll");
            return File.Exists(beside) ? self.LoadFromAssemblyPath(beside) : null;
        };
        return context;
    }
}
