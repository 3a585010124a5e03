using System.Globalization;
using System.Net;
using System.Net.Sockets;
using Mono.Unix.Native;
using Testbed.Core;

namespace Testbed.Scenarios;

/// <summary>A program that a workload needs and this host lacks.</summary>
/// <param name="Program">Its name.</param>
/// <param name="Package">The Debian package that has it.</param>
public readonly record struct MissingProgram(string Program, string Package)
{
    /// <summary>One line that says what to do.</summary>
    public override string ToString() => Package.Length == 0 ? $"{Program} is not on PATH; expected it where the testbed runs" : $"{Program} is not installed; as root: apt-get install {Package} (or scenarios/setup/debian.sh for all)";
}

/// <summary>Where the program of a workload runs.</summary>
public sealed record WorkloadHost
{
    /// <summary>Where it listens: {address}.</summary>
    public IPAddress Address { get; init; } = IPAddress.Loopback;

    /// <summary>And the port; null: a free one of this network namespace.</summary>
    public int? Port { get; init; }

    /// <summary>Where our client reaches it; null: there too.</summary>
    public IPAddress? ReachedAt { get; init; }

    /// <summary>Makes the command line that runs a command there: with <c>nsenter -t 4711 -n</c> in front, say.</summary>
    public Func<IReadOnlyList<string>, IReadOnlyList<string>> Enter { get; init; } = static command => command;
}

/// <summary>Starts the real program of a workload file.</summary>
public sealed class Workload(WorkloadFile file, ulong seed = 1)
{
    /// <summary>What it is.</summary>
    public WorkloadFile Definition => file;

    /// <summary>The programs that are not installed; empty when it can run.</summary>
    public IReadOnlyList<MissingProgram> Missing() =>
        [.. file.Programs.Where(p => FindProgram(p.Key) is null).Select(p => new MissingProgram(p.Key, p.Value))];

    /// <summary>Prepares what the program needs, starts it and waits until it answers.</summary>
    /// <param name="host">Where it runs; null: here.</param>
    /// <param name="cancel">Ends this, and any later step (<see cref="WorkloadSteps.Cancel"/>).</param>
    /// <exception cref="BadInputException">A program is missing, or it ended or did not answer in time: with its last line of output.</exception>
    /// <exception cref="OperationCanceledException">Cancelled; nothing of it is left.</exception>
    public RunningWorkload Start(WorkloadHost? host = null, CancellationToken cancel = default)
    {
        host ??= new WorkloadHost();
        if (Missing() is [var missing, ..])
            throw new BadInputException($"{file.File}: {missing}");
        string folder = Directory.CreateTempSubdirectory($"testbed-{file.Name}-").FullName;
        var places = new Dictionary<string, string>
        {
            ["address"] = host.Address.ToString(),
            ["port"] = (host.Port ?? FreePort()).ToString(CultureInfo.InvariantCulture),
            ["dir"] = folder,
            ["unixsocket"] = Path.Combine(folder, "socket"),
            ["here"] = Path.GetDirectoryName(file.File)!,
            ["keys"] = file.Keys.ToString(CultureInfo.InvariantCulture),
        };
        RunningWorkload? running = null;
        try
        {
            Prepare(folder, places, cancel);
            running = new RunningWorkload(file, seed, folder, places, host, cancel);
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

    /// <summary>A program of the workload, as its user, on its host.</summary>
    internal static ChildProcess Child(
        WorkloadFile file, WorkloadHost host, IReadOnlyList<string> command, Dictionary<string, string> environment, string folder, string log)
    {
        string[] user = file.User is { } name ? ["setpriv", $"--reuid={name}", $"--regid={name}", "--clear-groups"] : [];
        IReadOnlyList<string> all = host.Enter([.. user, .. command]);
        return new ChildProcess(all[0], all.Skip(1), environment, folder, log);
    }

    private void Prepare(string folder, Dictionary<string, string> places, CancellationToken cancel)
    {
        if (file.User is { } user)
            GiveTo(user, folder);
        foreach (ProgramCall call in file.Prepare)
        {
            using ChildProcess child = Child(file, new WorkloadHost(), [Expand(call.Command, places), .. call.Arguments.Select(a => Expand(a, places))],
                [], folder, Path.Combine(folder, Path.GetFileName(call.Command) + ".log"));
            int code = child.WaitForExit(cancel);
            if (code != 0)
                throw new BadInputException($"{file.File}: prepare: {call.Command} ended with exit code {code}: {child.LastLogLine()}");
        }
    }

    private void GiveTo(string user, string folder)
    {
        Passwd entry = Syscall.getpwnam(user)
            ?? throw new BadInputException($"{file.File}: $.user: \"{user}\" is not known here; expected a user that its package makes");
        if (Syscall.chown(folder, entry.pw_uid, entry.pw_gid) != 0)
            throw new BadInputException($"{file.File}: $.user: the folder cannot be given to {user} ({Stdlib.strerror(Stdlib.GetLastError())}); run as root");
    }

    /// <summary>Where a program is: a path that is there, or the first on PATH of this name; null when there is none.</summary>
    public static string? FindProgram(string name) => Path.IsPathRooted(name)
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
