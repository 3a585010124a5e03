using System.Runtime.CompilerServices;
using Testbed.Core;

namespace Testbed.Uffd;

/// <summary>How to start this very program a second time.</summary>
public static class OwnProgram
{
    /// <summary>Its command line, without arguments: the native program alone, or the runtime and the assembly.</summary>
    /// <exception cref="BadInputException">The assembly is not where this one is.</exception>
    public static string[] Command
    {
        get
        {
            string self = Environment.ProcessPath ?? throw new BadInputException("/proc/self/exe: cannot be read; expected this program");
            if (!RuntimeFeature.IsDynamicCodeCompiled)
                return [self];
            string assembly = Path.Combine(AppContext.BaseDirectory, "testbed.dll");
            if (!File.Exists(assembly))
                throw new BadInputException($"{assembly}: not there; expected the testbed's program, to start a second one of");
            // Tests run in a host of their own.
            return [Path.GetFileNameWithoutExtension(self) == "dotnet" ? self : "dotnet", assembly];
        }
    }
}
