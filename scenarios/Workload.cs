using System.Globalization;
using System.Net;
using System.Net.Sockets;
using Testbed.Core;

namespace Testbed.Scenarios;

/// <summary>A program that a workload needs and this host lacks.</summary>
/// <param name="Program">Its name.</param>
/// <param name="Package">The Debian package that has it.</param>
public readonly record struct MissingProgram(string Program, string Package)
{
    /// <summary>One line that says what to do.</summary>
    public override string ToString() => $"{Program} is not installed; as root: apt-get install {Package} (or scenarios/setup/debian.sh for all)";
}

/// <summary>Starts the real program of a workload file.</summary>
public sealed class Workload(WorkloadFile file, ulong seed = 1)
{
    /// <summary>What it is.</summary>
    public WorkloadFile Definition => file;

    /// <summary>The programs that are not installed; empty when it can run.</summary>
    public IReadOnlyList<MissingProgram> Missing() =>
        [.. file.Programs.Where(p => FindProgram(p.Key) is null).Select(p => new MissingProgram(p.Key, p.Value))];

    /// <summary>Starts the program and waits until it answers.</summary>
    /// <exception cref="BadInputException">A program is missing, or it ended or did not answer in time: with its last line of output.</exception>
    public RunningWorkload Start()
    {
        if (Missing() is [var missing, ..])
            throw new BadInputException($"{file.File}: {missing}");
        string folder = Directory.CreateTempSubdirectory($"testbed-{file.Name}-").FullName;
        var places = new Dictionary<string, string>
        {
            ["port"] = FreePort().ToString(CultureInfo.InvariantCulture),
            ["dir"] = folder,
            ["unixsocket"] = Path.Combine(folder, "socket"),
            ["here"] = Path.GetDirectoryName(file.File)!,
        };
        RunningWorkload? running = null;
        try
        {
            running = new RunningWorkload(file, seed, folder, places);
            running.WaitUntilReady();
            return running;
        }
        catch
        {
            if (running is null)
                Directory.Delete(folder, recursive: true);
            running?.Dispose();
            throw;
        }
    }

    internal static string? FindProgram(string name) => Path.IsPathRooted(name)
        ? File.Exists(name) ? name : null
        : (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':').Where(d => d.Length > 0)
            .Select(d => Path.Combine(d, name)).FirstOrDefault(File.Exists);

    internal static string Expand(string text, IReadOnlyDictionary<string, string> places) =>
        places.Aggregate(text, (t, place) => t.Replace("{" + place.Key + "}", place.Value, StringComparison.Ordinal));

    private static int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }
}
