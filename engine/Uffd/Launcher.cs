using System.ComponentModel;
using System.Diagnostics;
using Testbed.Core;

namespace Testbed.Uffd;

/// <summary>Starts programs to be captured.</summary>
public static class Launcher
{
    /// <summary>Starts a program with our standard streams; when this returns it is running its own code.</summary>
    /// <param name="command">A path, or a name to be looked up in PATH.</param>
    /// <param name="arguments">Its arguments, without its name.</param>
    /// <exception cref="BadInputException">There is no such program, or it may not be run.</exception>
    public static Process Start(string command, IEnumerable<string> arguments)
    {
        try
        {
            return Process.Start(new ProcessStartInfo(command, arguments) { UseShellExecute = false })!;
        }
        catch (Win32Exception e)
        {
            throw new BadInputException($"command {command}: cannot be started ({Native(e)}); a program that exists and may be run is expected", e);
        }

        static string Native(Win32Exception e) => Interop.Native.Describe(e.NativeErrorCode);
    }
}
