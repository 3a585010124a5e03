using System.Diagnostics;
using System.IO.Hashing;
using System.Net;
using System.Net.Sockets;
using Testbed.Core;

namespace Testbed.Scenarios;

/// <summary>
/// What is done to a workload that runs, wherever it does: filled, loaded, checked, asked for a first response. Each step is on its
/// own and can be repeated; between them the program may have been moved, and <see cref="Endpoint"/> with it.
/// </summary>
public class WorkloadSteps
{
    private protected static readonly TimeSpan AnswerTimeout = TimeSpan.FromMinutes(2);

    private readonly WorkloadFile _file;
    private readonly ulong _seed;
    private WorkloadClient? _kept;

    /// <summary>The steps of a workload that somebody else has started.</summary>
    /// <param name="file">What it is.</param>
    /// <param name="endpoint">Where it listens.</param>
    /// <param name="seed">Of the values that are filled in.</param>
    /// <remarks>Steps that call a program, and workloads that are read from their output, need a <see cref="RunningWorkload"/>.</remarks>
    public WorkloadSteps(WorkloadFile file, EndPoint endpoint, ulong seed = 1) => (_file, Endpoint, _seed) = (file, endpoint, seed);

    /// <summary>Where it listens. Changes when the program moves to another host or network namespace.</summary>
    public EndPoint Endpoint { get; set; }

    /// <summary>
    /// Ends any step that is going on, within a moment: connections are closed and programs that a step calls are killed. The step
    /// throws an <see cref="OperationCanceledException"/>.
    /// </summary>
    public CancellationToken Cancel { get; set; }

    private protected WorkloadFile Definition => _file;

    /// <summary>Puts the data in.</summary>
    /// <exception cref="BadInputException">The program refused, or the fill program failed.</exception>
    public void Fill()
    {
        if (_file.Fill.Program is { } program)
        {
            using ChildProcess child = Launch(program, Duration.Zero);
            int code = child.WaitForExit(Cancel);
            if (code != 0)
                throw Failure("fill", $"{program.Command} ended with exit code {code}: {child.LastLogLine()}");
            return;
        }
        ForEachKey("fill", _file.Fill.Request!, reply =>
        {
            if (reply.Kind != ReplyKind.Value)
                throw Failure("fill", reply.Kind == ReplyKind.Error ? reply.ToString() : "answered as missing");
        });
    }

    /// <summary>
    /// Begins the load; it goes on for <paramref name="duration"/>, or until the built-in load has made so many
    /// <paramref name="requests"/>. Same seed, same requests: what one run touches, the next one does too.
    /// </summary>
    /// <param name="duration">The longest that it may take.</param>
    /// <param name="requests">How many requests; of a load that a program makes it is not known.</param>
    /// <param name="seed">Draws the keys, and is {seed}; null: that of the values.</param>
    public RunningLoad StartLoad(Duration duration, long requests = long.MaxValue, ulong? seed = null)
    {
        ulong drawn = seed ?? _seed;
        return _file.Load.Program is { } program ? new ProgramLoad(Launch(program, duration), duration)
            : new ClosedLoop(_file, Connect, RequestTemplate.Parse(_file.Load.Request!, _file, drawn), drawn, duration, requests);
    }

    /// <summary>A digest of the program's data: equal data, equal digest.</summary>
    /// <exception cref="BadInputException">The program refused, or keys are missing.</exception>
    public virtual string Check()
    {
        long missing = 0;
        long answers = 0;
        string single = "";
        var hash = new XxHash128();
        ForEachKey("check", _file.Check.Request, reply =>
        {
            if (reply.Kind == ReplyKind.Error)
                throw Failure("check", reply.ToString());
            missing += reply.Kind == ReplyKind.Missing ? 1 : 0;
            if (answers++ == 0)
                single = reply.ToString();
            hash.Append(BitConverter.GetBytes(reply.Body.Length));
            hash.Append(reply.Body);
        });
        if (missing > 0)
            throw Failure("check", $"{missing} of {answers} keys are missing");
        return answers == 1 ? single : Convert.ToHexStringLower(hash.GetCurrentHash());
    }

    /// <summary>Connects, asks and waits for the answer: what a client that comes just now has to wait.</summary>
    /// <exception cref="BadInputException">No good answer.</exception>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    public Duration FirstResponse() => FirstResponse(Cancel);

    /// <summary>The same, with a limit.</summary>
    /// <param name="limit">Ends the wait, instead of <see cref="Cancel"/>.</param>
    /// <exception cref="BadInputException">No good answer.</exception>
    /// <exception cref="OperationCanceledException">The limit came first.</exception>
    public Duration FirstResponse(CancellationToken limit)
    {
        long start = Stopwatch.GetTimestamp();
        try
        {
            // A connection that is kept is closed by its own token only.
            using WorkloadClient client = _kept ?? Open(limit);
            using CancellationTokenRegistration closing = _kept is { } kept ? limit.Register(kept.Close) : default;
            var request = new ByteBuffer();
            RequestTemplate.Parse(_file.FirstResponse, _file, _seed).Render(0, request);
            Reply reply = client.Ask(request.Written);
            if (reply.Kind == ReplyKind.Error)
                throw Failure("firstResponse", reply.ToString());
        }
        catch (Exception e) when (e is IOException or SocketException or ObjectDisposedException)
        {
            limit.ThrowIfCancellationRequested();
            throw Failure("firstResponse", e.Message);
        }
        return Duration.FromSeconds(Stopwatch.GetElapsedTime(start).TotalSeconds);
    }

    /// <summary>A connection of one's own, or the kept one of a workload that has a <see cref="WorkloadFile.Target"/>.</summary>
    /// <exception cref="SocketException">The program does not listen.</exception>
    public WorkloadClient Connect() => _kept ?? Open(Cancel);

    private protected virtual WorkloadClient Open(CancellationToken cancel) => WorkloadClient.Connect(_file.Protocol, Endpoint, AnswerTimeout, cancel);

    /// <summary>Starts a program that a step calls.</summary>
    private protected virtual ChildProcess Launch(ProgramCall call, Duration duration) =>
        throw new InvalidOperationException($"{_file.Name}: {call.Command} runs beside a workload that was started here");

    /// <summary>Makes the connection that all steps use from now on, and gives its process.</summary>
    private protected int Keep(string target)
    {
        _kept = Open(Cancel);
        _kept.IsKept = true;
        Reply reply;
        try
        {
            reply = _kept.Ask(target);
        }
        catch (Exception e) when (e is IOException or SocketException or ObjectDisposedException)
        {
            Cancel.ThrowIfCancellationRequested();
            throw Failure("target", e.Message);
        }
        return int.TryParse(reply.Body, out int pid) && pid > 0 ? pid : throw Failure("target", $"\"{reply.ToString()}\"; expected a process id");
    }

    private protected void EndKept() => _kept?.Close();

    private protected BadInputException Failure(string step, string what) => new($"{_file.File}: {step}: {what}");

    private delegate void ReplyHandler(Reply reply);

    /// <summary>Pipelined by batches: small enough that neither side ever blocks on a full socket while the other does too.</summary>
    private void ForEachKey(string step, string text, ReplyHandler handle)
    {
        const int batchBytes = 128 * 1024;
        int batch = (int)Math.Clamp(batchBytes / (_file.ValueSize.Bytes + 64), 1, 512);
        RequestTemplate template = RequestTemplate.Parse(text, _file, _seed);
        long count = template.IsPerKey ? _file.Keys : 1;
        var request = new ByteBuffer();
        try
        {
            using WorkloadClient client = Connect();
            for (long key = 0; key < count; key += batch)
            {
                long end = Math.Min(count, key + batch);
                for (long k = key; k < end; k++)
                {
                    request.Clear();
                    template.Render(k, request);
                    client.Add(request.Written);
                }
                client.Flush();
                for (long k = key; k < end; k++)
                    handle(client.Receive());
                Cancel.ThrowIfCancellationRequested();
            }
        }
        catch (Exception e) when (e is IOException or SocketException or ObjectDisposedException)
        {
            Cancel.ThrowIfCancellationRequested();
            throw Failure(step, e.Message);
        }
    }
}
