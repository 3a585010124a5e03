using System.Globalization;
using BenchmarkDotNet.Running;

namespace Benchmarks;

/// <summary>
/// <c>dotnet run -c Release --project tests/Benchmarks -- speed</c> measures in half a minute; with other arguments
/// (<c>--filter '*'</c>) BenchmarkDotNet does it thoroughly.
/// </summary>
public static class Program
{
    /// <summary>Speed: [policy] [runs].</summary>
    public static void Main(string[] args)
    {
        if (args is ["speed", ..])
            Speed.Run(150_000, args.Length > 2 ? int.Parse(args[2], CultureInfo.InvariantCulture) : 15, Console.Out, args.Length > 1 ? args[1] : "");
        else
            BenchmarkSwitcher.FromAssembly(typeof(Program).Assembly).Run(args);
    }
}
