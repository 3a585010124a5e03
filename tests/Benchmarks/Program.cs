using System.Globalization;
using BenchmarkDotNet.Running;
using Benchmarks.Daemon;

namespace Benchmarks;

/// <summary>
/// <c>dotnet run -c Release --project tests/Benchmarks -- speed</c> measures replay in half a minute, <c>server</c>
/// the page server beside CRIU's in two; with other arguments
/// (<c>--filter '*'</c>) BenchmarkDotNet does it thoroughly. <c>linear</c> replays 10^5 to 10^8 touches (4 GB of memory).
/// <c>daemon fault</c> (as root; also <c>busy</c>, <c>bulk</c>, <c>link</c>, <c>size</c>, <c>idle</c>, <c>start</c>) holds our lazy-pages daemon against minimal programs in C.
/// </summary>
[System.Runtime.Versioning.SupportedOSPlatform("linux")]
public static class Program
{
    /// <summary>speed [policy] [runs], server [runs] [ours|criu], daemon [what] [runs], linear [touches].</summary>
    public static void Main(string[] args)
    {
        if (args is ["speed", ..])
            Speed.Run(150_000, args.Length > 2 ? int.Parse(args[2], CultureInfo.InvariantCulture) : 15, Console.Out, args.Length > 1 ? args[1] : "");
        else if (args is ["linear", ..])
            Speed.Linear(args.Length > 1 ? int.Parse(args[1], CultureInfo.InvariantCulture) : 100_000_000, Console.Out);
        else if (args is ["server", ..])
            ServerSpeed.Run(32_768, args.Length > 1 ? int.Parse(args[1], CultureInfo.InvariantCulture) : 5, args.Length > 2 ? args[2] : "", Console.Out);
        else if (args is ["daemon", ..])
            DaemonBenchmark.Run(args.Length > 1 ? args[1] : "fault", args.Length > 2 ? int.Parse(args[2], CultureInfo.InvariantCulture) : 5, Console.Out);
        else
            BenchmarkSwitcher.FromAssembly(typeof(Program).Assembly).Run(args);
    }
}
