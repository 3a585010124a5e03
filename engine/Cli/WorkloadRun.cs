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
    /// <exception cref="OperationCanceledException">Cancelled; nothing of it is left.</exception>
    public WorkloadRun(WorkloadFile file, ulong seed, Progress progress, CancellationToken cancel)
    {
        (_file, _progress) = (file, progress);
        progress.Line($"starting and filling {file.Name}");
        _running = new Workload(file, seed).Start(cancel: cancel);
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
            cancel.ThrowIfCancellationRequested();
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
    /// <exception cref="OperationCanceledException">Cancelled; the process has its memory back, and there is no trace.</exception>
    public LiveEnd Run(LiveOptions options, Duration duration, long requests, CancellationToken cancel, ulong? loadSeed = null)
    {
        bool began = false;
        try
        {
            using LiveSession session = LiveSession.Begin(
                _running.Pid, options with { Log = _progress.Say }, (done, all) => _progress.Show("dumping", done, all, "B"), cancel);
            began = true;
            try
            {
                return Load(session, options.Link, duration, requests, loadSeed, cancel);
            }
            catch (OperationCanceledException)
            {
                session.SayGivingBack(_progress);
                throw;
            }
        }
        catch when (began && options.TracePath is not null)
        {
            // Half a trace is none.
            File.Delete(options.TracePath!);
            throw;
        }
    }

    private LiveEnd Load(LiveSession session, LinkParameters link, Duration duration, long requests, ulong? loadSeed, CancellationToken cancel)
    {
        session.WarnIfMostStayed(_progress);
        AwaitFirstResponse(session, duration, cancel);
        using RunningLoad load = _running.StartLoad(duration, requests, loadSeed);
        // A request may be on its way when the time is up: it is not waited for with memory missing.
        double latest = session.Elapsed.Seconds + duration.Seconds + 1;
        session.WaitWhile(() => !load.HasEnded && session.Elapsed.Seconds < latest,
            () => _progress.Show("touched", session.TouchedPages, session.Image.PresentPages, " pages"), cancel);
        load.Stop();
        void Restoring(long resident) => _progress.Show("restoring", resident, session.Image.PresentPages, " pages");
        session.AwaitBackground(BackgroundPatience(link, session.Image), Restoring, cancel);
        cancel.ThrowIfCancellationRequested();
        LiveEnd end = session.End(EndState.Drained, Restoring);
        string? error = load.Wait().Error;
        cancel.ThrowIfCancellationRequested();
        return error is null ? end : throw new BadInputException($"{_file.Name}: load: {error}");
    }

    private void AwaitFirstResponse(LiveSession session, Duration duration, CancellationToken cancel)
    {
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        limit.CancelAfter(TimeSpan.FromSeconds(duration.Seconds));
        try
        {
            _ = _running.FirstResponse(limit.Token);
        }
        catch (OperationCanceledException) when (!cancel.IsCancellationRequested)
        {
            throw new BadInputException($"{_file.Name}: no first response within {duration}, with memory missing; expected one within the time that the load may take");
        }
        session.TimeToFirstResponse = session.Elapsed;
    }

    /// <summary>Twice what the link needs for all of it, and some; a policy that gets nowhere is not waited for at all.</summary>
    private static TimeSpan BackgroundPatience(LinkParameters link, MemoryImage image)
    {
        double seconds = link.Rate.IsUnlimited ? 0 : link.Rate.TimeFor(image.PresentPages * PageNumber.Size).Seconds;
        return TimeSpan.FromSeconds(Math.Min(600, 30 + 2 * seconds));
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
