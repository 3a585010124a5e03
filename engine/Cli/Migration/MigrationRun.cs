using System.Diagnostics;
using System.Net;
using Testbed.Core;
using Testbed.Reports;
using Testbed.Scenarios;

namespace Testbed.Cli.Migration;

/// <summary>One lazy migration of a real program: dump, daemon, restore, load during the restore, check of all data after.</summary>
internal sealed class MigrationRun : IDisposable
{
    private const int WorkloadPort = 7000, ServerPort = 9876;
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(120);

    private readonly MigrationScenario _scenario;
    private readonly WorkloadFile _workload;
    private readonly CriuPrograms _programs;
    private readonly MigrationHost _source, _destination;
    private readonly CriuTls? _tls;
    private readonly string _directory;
    private readonly List<Process> _started = [];
    private RunningWorkload? _running;
    private readonly CancellationToken _cancel;
    private int _pid;

    /// <summary>Prepares one.</summary>
    /// <param name="scenario">What is compared.</param>
    /// <param name="workload">What moves.</param>
    /// <param name="programs">What the hosts have.</param>
    /// <param name="hosts">From where to where; they become ours, and are ended with this.</param>
    /// <param name="directory">Empty, for images, certificates and logs; on both hosts under this name.</param>
    /// <param name="cancel">Ends it at any moment.</param>
    public MigrationRun(
        MigrationScenario scenario, WorkloadFile workload, CriuPrograms programs, (MigrationHost Source, MigrationHost Destination) hosts, string directory,
        CancellationToken cancel)
    {
        _cancel = cancel;
        (_scenario, _workload, _programs, (_source, _destination), _directory) = (scenario, workload, programs, hosts, directory);
        _tls = scenario.Tls ? CriuTls.Create(directory) : null;
    }

    /// <summary>Does it.</summary>
    /// <exception cref="BadInputException">A step failed; the message names the log. The directory is kept then.</exception>
    /// <exception cref="OperationCanceledException">Cancelled; disposing this ends what still runs on the hosts.</exception>
    public RestoreRun Run(string pair, int round)
    {
        string[] who = pair.Split('+');
        _pid = FreePid();
        foreach (MigrationHost host in Hosts)
        {
            host.Give(_directory, _pid);
            // What it finds out about the kernel, it can find out as root only; a program of another user is dumped as that user below.
            _ = host.Run(_programs.Criu, "check");
        }
        string digest = _source.Within(StartWorkload);
        Dump(who[1]);
        _destination.TakeFrom(_source, _directory);
        Process daemon = StartDaemon(who[0], who[1] != "local");
        long restoring = Stopwatch.GetTimestamp();
        Run(_destination, "restore", [.. AsItsUser, _programs.Criu, "restore", "-D", _directory, "-d", "--lazy-pages", "--tcp-close", "-o", "restore.log", "-v1"]);
        long running = Stopwatch.GetTimestamp();
        RestoreRun result = Measure(pair, round, daemon, running) with { Restore = Since(restoring, running) };
        string after = _destination.Within(StepsAfter().Check);
        if (after != digest)
            throw new BadInputException($"{pair}: data digest was {digest} before and is {after} after; expected no change");
        foreach (MigrationHost host in Hosts)
            host.Remove(_directory);
        return result;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (MigrationHost host in Hosts)
            host.Dispose();
        foreach (Process process in _started)
        {
            if (!process.WaitForExit(TimeSpan.FromSeconds(5)))
                process.Kill();
            process.Dispose();
        }
        _running?.Dispose();
    }

    private MigrationHost[] Hosts => [_destination, _source];

    /// <summary>
    /// Without CAP_SYS_RESOURCE, CRIU may ask for the limits of processes of its own real user only. The effective one stays root.
    /// </summary>
    private string[] AsItsUser => _workload.User is { } user ? ["setpriv", $"--ruid={user}", $"--rgid={user}", "--clear-groups"] : [];

    private WorkloadSteps StepsAfter() => new(_workload, new IPEndPoint(_destination.ClientAddress, WorkloadPort)) { Cancel = _cancel };

    private string StartWorkload()
    {
        _running = new Workload(_workload).Start(_source.ForWorkload(WorkloadPort, _pid), _cancel);
        _running.Fill();
        // Our own client's code is compiled here, and not in what is measured.
        using RunningLoad warmUp = _running.StartLoad(Duration.FromSeconds(10), Math.Min(2000, _scenario.Requests));
        _ = warmUp.Wait();
        return _running.Check();
    }

    /// <summary>A pid that neither host has in use, nor the ones behind it.</summary>
    private int FreePid()
    {
        for (int pid = 1001; pid < 30_000; pid += 1000)
        {
            string free = $"for p in $(seq {pid} {pid + 99}); do [ ! -e /proc/$p ] || exit 1; done";
            if (_source.Holds(free) && _destination.Holds(free))
                return pid;
        }
        throw new BadInputException("no pid between 1001 and 30000 is free on both hosts with the hundred behind it");
    }

    private RestoreRun Measure(string pair, int round, Process daemon, long running)
    {
        WorkloadSteps steps = StepsAfter();
        return _destination.Within(() =>
        {
            _ = steps.FirstResponse();
            long answered = Stopwatch.GetTimestamp();
            using RunningLoad? load = _scenario.Requests > 0 ? steps.StartLoad(Duration.FromSeconds(Patience.TotalSeconds), _scenario.Requests) : null;
            long began = load?.StartTimestamp ?? answered;
            if (!HasEnded(daemon))
                throw new BadInputException($"{pair}: the daemon did not end within {Patience.TotalSeconds:0} s; see {Path.Combine(_directory, "lazy.log")}");
            long ended = Stopwatch.GetTimestamp();
            if (daemon.ExitCode != 0)
                throw new BadInputException($"{pair}: the daemon ended with exit code {daemon.ExitCode}; see {Path.Combine(_directory, "lazy.log")}");
            LoadResult? loaded = load?.Wait();
            _cancel.ThrowIfCancellationRequested();
            if (loaded is { Error: { } error })
                throw new BadInputException($"{pair}: load: {error}");
            Duration lead = Since(running, began);
            return new RestoreRun(pair, round, default, Since(running, answered), Since(running, ended),
                [.. (loaded?.Samples ?? []).Select(s => new RestoreRequest(s.Time - Instant.Zero + lead, s.Latency))]);
        });
    }

    private bool HasEnded(Process process)
    {
        for (long end = Environment.TickCount64 + (long)Patience.TotalMilliseconds; !process.WaitForExit(10) && Environment.TickCount64 < end;)
            _cancel.ThrowIfCancellationRequested();
        return process.HasExited;
    }

    private void Dump(string server)
    {
        string[] dump = [.. AsItsUser, _programs.Criu, "dump", "-t", $"{_pid}", "-D", _directory, "-o", "dump.log", "-v1", "--tcp-close"];
        string[] serve = ["--lazy-pages", "--address", $"{_source.Address}", "--port", $"{ServerPort}", .. _tls?.Options ?? []];
        if (server == "criu")
        {
            // It stays, and serves the pages of the processes that it has stopped.
            _started.Add(_source.Start([.. dump, .. serve]));
            AwaitListening(_started[^1]);
            return;
        }
        Run(_source, "dump", dump);
        if (server == "local")
            return;
        string[] program = server == "testbed" ? _programs.Testbed : [_programs.Criu];
        Process started = _source.Start([.. program, "page-server", "-D", _directory, "-o", "server.log", "-v1", .. serve]);
        _started.Add(started);
        AwaitListening(started);
    }

    private Process StartDaemon(string whose, bool remote)
    {
        string[] program = whose == "testbed" ? _programs.Testbed : [_programs.Criu];
        string[] policy = whose == "testbed" && _scenario.Policy is { } typed ? ["--policy", typed] : [];
        string[] server = remote ? ["--page-server", "--address", $"{_source.Address}", "--port", $"{ServerPort}", .. _tls?.Options ?? []] : [];
        Process daemon = _destination.Start([.. program, "lazy-pages", "-D", _directory, "-o", "lazy.log", whose == "testbed" ? "-v3" : "-v1", .. server, .. policy]);
        _started.Add(daemon);
        Await(_destination, daemon, () => _destination.Exists(Path.Combine(_directory, "lazy-pages.socket")), "lazy.log");
        return daemon;
    }

    /// <summary>A connection would be the one that CRIU's server takes: the kernel's table tells who listens.</summary>
    private void AwaitListening(Process server) =>
        Await(_source, server, () => _source.Holds($"grep -q ':{ServerPort:X4} .* 0A ' /proc/net/tcp"), "dump.log");

    private void Await(MigrationHost host, Process process, Func<bool> condition, string log)
    {
        for (long end = Environment.TickCount64 + (long)Patience.TotalMilliseconds; !condition(); Thread.Sleep(2))
        {
            _cancel.ThrowIfCancellationRequested();
            if (process.HasExited || Environment.TickCount64 > end)
                throw Failure(host, $"{Path.GetFileNameWithoutExtension(log)} did not become ready", log, "");
        }
    }

    private void Run(MigrationHost host, string what, string[] command)
    {
        (int code, string output) = host.Run(command);
        if (code != 0)
            throw Failure(host, $"criu {what} ended with exit code {code}", what + ".log", output.Trim());
    }

    private BadInputException Failure(MigrationHost host, string what, string log, string output)
    {
        string path = Path.Combine(_directory, log);
        return new BadInputException($"{what}; see {path}: {host.Errors(path)} {output}".TrimEnd().ReplaceLineEndings(" "));
    }

    private static Duration Since(long from, long to) => Duration.FromSeconds(Stopwatch.GetElapsedTime(from, to).TotalSeconds);
}
