using System.Diagnostics;
using Testbed.Core;
using Testbed.Reports;
using Testbed.Scenarios;

namespace Testbed.Cli.Migration;

/// <summary>One lazy migration of a real program: dump, daemon, restore, load during the restore, check of all data after.</summary>
internal sealed class MigrationRun(MigrationScenario scenario, WorkloadFile workload, CriuPrograms programs, CriuTls? tls, string directory) : IDisposable
{
    private const int WorkloadPort = 7000, ServerPort = 9876;
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(120);

    private readonly List<Process> _started = [];
    private MigrationHost? _source, _destination;
    private RunningWorkload? _running;

    /// <summary>Does it.</summary>
    /// <exception cref="BadInputException">A step failed; the message names the log. The directory is kept then.</exception>
    public RestoreRun Run(string pair, int round)
    {
        string[] who = pair.Split('+');
        (_source, _destination) = MigrationHost.Pair();
        string digest = _source.Within(() =>
        {
            _running = new Workload(workload).Start(_source.ForWorkload(WorkloadPort));
            _running.Fill();
            // Our own client's code is compiled here, and not in what is measured.
            using RunningLoad warmUp = _running.StartLoad(Duration.FromSeconds(10), 2000);
            _ = warmUp.Wait();
            return _running.Check();
        });
        Dump(who[1]);
        Process daemon = StartDaemon(who[0], who[1] != "local");
        long restoring = Stopwatch.GetTimestamp();
        Run(_destination, "restore", [programs.Criu, "restore", "-D", directory, "-d", "--lazy-pages", "--tcp-close", "-o", "restore.log", "-v1"]);
        long running = Stopwatch.GetTimestamp();
        RestoreRun result = Measure(pair, round, daemon, running) with { Restore = Since(restoring, running) };
        var steps = new WorkloadSteps(workload, _running!.Endpoint);
        string after = _destination.Within(steps.Check);
        if (after != digest)
            throw new BadInputException($"{pair}: data digest was {digest} before and is {after} after; expected no change");
        return result;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _destination?.Dispose();
        _source?.Dispose();
        foreach (Process process in _started)
        {
            if (!process.WaitForExit(TimeSpan.FromSeconds(5)))
                process.Kill();
            process.Dispose();
        }
        _running?.Dispose();
    }

    private RestoreRun Measure(string pair, int round, Process daemon, long running)
    {
        var steps = new WorkloadSteps(workload, _running!.Endpoint);
        return _destination!.Within(() =>
        {
            _ = steps.FirstResponse();
            long answered = Stopwatch.GetTimestamp();
            using RunningLoad? load = scenario.Requests > 0 ? steps.StartLoad(Duration.FromSeconds(Patience.TotalSeconds), scenario.Requests) : null;
            long began = load?.StartTimestamp ?? answered;
            if (!daemon.WaitForExit(Patience))
                throw new BadInputException($"{pair}: the daemon did not end within {Patience.TotalSeconds:0} s; see {Path.Combine(directory, "lazy.log")}");
            long ended = Stopwatch.GetTimestamp();
            if (daemon.ExitCode != 0)
                throw new BadInputException($"{pair}: the daemon ended with exit code {daemon.ExitCode}; see {Path.Combine(directory, "lazy.log")}");
            LoadResult? loaded = load?.Wait();
            if (loaded is { Error: { } error })
                throw new BadInputException($"{pair}: load: {error}");
            Duration lead = Since(running, began);
            return new RestoreRun(pair, round, default, Since(running, answered), Since(running, ended),
                [.. (loaded?.Samples ?? []).Select(s => new RestoreRequest(s.Time - Instant.Zero + lead, s.Latency))]);
        });
    }

    private void Dump(string server)
    {
        string[] dump = [programs.Criu, "dump", "-t", $"{MigrationHost.WorkloadPid}", "-D", directory, "-o", "dump.log", "-v1", "--tcp-close"];
        string[] serve = ["--lazy-pages", "--address", $"{_source!.Address}", "--port", $"{ServerPort}", .. tls?.Options ?? []];
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
        string[] program = server == "testbed" ? programs.Testbed : [programs.Criu];
        Process started = _source.Start([.. program, "page-server", "-D", directory, "-o", "server.log", "-v1", .. serve]);
        _started.Add(started);
        AwaitListening(started);
    }

    private Process StartDaemon(string whose, bool remote)
    {
        string[] program = whose == "testbed" ? programs.Testbed : [programs.Criu];
        string[] policy = whose == "testbed" && scenario.Policy is { } typed ? ["--policy", typed] : [];
        string[] server = remote ? ["--page-server", "--address", $"{_source!.Address}", "--port", $"{ServerPort}", .. tls?.Options ?? []] : [];
        Process daemon = _destination!.Start([.. program, "lazy-pages", "-D", directory, "-o", "lazy.log", whose == "testbed" ? "-v3" : "-v1", .. server, .. policy]);
        _started.Add(daemon);
        Await(daemon, () => File.Exists(Path.Combine(directory, "lazy-pages.socket")), "lazy.log");
        return daemon;
    }

    /// <summary>A connection would be the one that CRIU's server takes: the kernel's table tells who listens.</summary>
    private void AwaitListening(Process server)
    {
        string port = $":{ServerPort:X4} ";
        Await(server, () => File.ReadLines($"/proc/{_source!.Init}/net/tcp").Any(l => l.Contains(port, StringComparison.Ordinal) && l.Contains(" 0A ", StringComparison.Ordinal)), "dump.log");
    }

    private void Await(Process process, Func<bool> condition, string log)
    {
        for (long end = Environment.TickCount64 + (long)Patience.TotalMilliseconds; !condition(); Thread.Sleep(2))
        {
            if (process.HasExited || Environment.TickCount64 > end)
                throw new BadInputException($"{process.StartInfo.ArgumentList[^1]}: did not become ready; see {Path.Combine(directory, log)}: {LastErrors(log)}");
        }
    }

    private void Run(MigrationHost host, string what, string[] command)
    {
        (int code, string output) = host.Run(command);
        if (code != 0)
            throw new BadInputException($"criu {what} ended with exit code {code}; see {Path.Combine(directory, what + ".log")}: {LastErrors(what + ".log")} {output.Trim()}");
    }

    private string LastErrors(string log) => File.Exists(Path.Combine(directory, log))
        ? string.Join("; ", File.ReadLines(Path.Combine(directory, log)).Where(l => l.Contains("Error", StringComparison.Ordinal)).TakeLast(2)) : "";

    private static Duration Since(long from, long to) => Duration.FromSeconds(Stopwatch.GetElapsedTime(from, to).TotalSeconds);
}
