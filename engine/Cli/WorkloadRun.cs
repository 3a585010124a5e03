using Testbed.Core;
using Testbed.Live;
using Testbed.Scenarios;
using Testbed.Traces;

namespace Testbed.Cli;

/// <summary>A workload's process, filled and warm, whose memory can be taken away and served back again and again.</summary>
internal sealed class WorkloadRun : IDisposable
{
    private readonly WorkloadFile _file;
    private readonly RunningWorkload _running;
    private readonly Progress _progress;
    private readonly string _digest;

    /// <summary>Starts and fills it.</summary>
    /// <exception cref="BadInputException">The workload cannot run here.</exception>
    public WorkloadRun(WorkloadFile file, ulong seed, Progress progress)
    {
        (_file, _progress) = (file, progress);
        progress.Line($"starting and filling {file.Name}");
        _running = new Workload(file, seed).Start();
        try
        {
            _running.Fill();
            _digest = _running.Check();
            // Our own client's code is compiled now, and not on the first run's time. What works by itself needs no client.
            if (file.Protocol != Protocol.Output)
            {
                using RunningLoad warmUp = _running.StartLoad(Duration.FromSeconds(1), 1000, ~seed);
                _ = warmUp.Wait();
            }
        }
        catch
        {
            _running.Dispose();
            throw;
        }
    }

    /// <summary>Takes the memory, waits for the first response, runs the load to its end, and brings everything back.</summary>
    /// <param name="options">How.</param>
    /// <param name="duration">The longest that the load may take.</param>
    /// <param name="requests">Its requests.</param>
    /// <param name="cancel">Ends the wait.</param>
    /// <param name="loadSeed">Draws the keys of the load; null: the seed of the values.</param>
    /// <exception cref="BadInputException">It cannot be done, or the load failed.</exception>
    public LiveEnd Run(LiveOptions options, Duration duration, long requests, CancellationToken cancel, ulong? loadSeed = null)
    {
        using LiveSession session = LiveSession.Begin(
            _running.Pid, options with { Log = _progress.Warn }, (done, all) => _progress.Show("dumping", done, all, "B"), cancel);
        _ = _running.FirstResponse();
        session.TimeToFirstResponse = session.Elapsed;
        using (RunningLoad load = _running.StartLoad(duration, requests, loadSeed))
        {
            session.WaitWhile(() => !load.HasEnded,
                () => _progress.Show("touched", session.TouchedPages, session.Image.PresentPages, " pages"), cancel);
            load.Stop();
            if (load.Wait().Error is { } error)
                throw new BadInputException($"{_file.Name}: load: {error}");
        }
        cancel.ThrowIfCancellationRequested();
        return session.End(EndState.Drained, resident => _progress.Show("restoring", resident, session.Image.PresentPages, " pages"));
    }

    /// <summary>Compares the data with what was there before anything was taken.</summary>
    /// <exception cref="BadInputException">It differs.</exception>
    public string CheckData()
    {
        string after = _running.Check();
        return after == _digest ? after
            : throw new BadInputException($"{_file.Name}: data digest was {_digest} before and is {after} after; expected no change");
    }

    /// <summary>Stops the process and removes what it left.</summary>
    public void Dispose() => _running.Dispose();
}
