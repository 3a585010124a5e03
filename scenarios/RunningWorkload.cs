using System.Diagnostics;
using System.Globalization;
using System.IO.Hashing;
using System.Net;
using System.Net.Sockets;
using Testbed.Core;

namespace Testbed.Scenarios;

/// <summary>
/// A real program that runs. Disposing it stops it, kills what is left of its process group and removes its folder.
/// </summary>
public sealed class RunningWorkload : IDisposable
{
    private static readonly TimeSpan AnswerTimeout = TimeSpan.FromMinutes(2);

    private readonly WorkloadFile _file;
    private readonly ulong _seed;
    private readonly string _folder;
    private readonly Dictionary<string, string> _places;
    private readonly ChildProcess _program;

    internal RunningWorkload(WorkloadFile file, ulong seed, string folder, Dictionary<string, string> places)
    {
        (_file, _seed, _folder, _places) = (file, seed, folder, places);
        Endpoint = file.UsesUnixSocket ? new UnixDomainSocketEndPoint(places["unixsocket"])
            : new IPEndPoint(IPAddress.Loopback, int.Parse(places["port"], CultureInfo.InvariantCulture));
        Dictionary<string, string> environment = file.Environment.ToDictionary(e => e.Key, e => Expand(e.Value));
        _program = new ChildProcess(Expand(file.Command), file.Arguments.Select(Expand), environment, folder, LogFile);
    }

    /// <summary>The process to be recorded.</summary>
    public int Pid => _program.Pid;

    /// <summary>Where it listens.</summary>
    public EndPoint Endpoint { get; }

    /// <summary>What the program prints; goes with the folder at the end.</summary>
    public string LogFile => Path.Combine(_folder, "log");

    /// <summary>Whether the program ended by itself.</summary>
    public bool HasExited => _program.HasExited;

    /// <summary>Puts the data in.</summary>
    /// <exception cref="BadInputException">The program refused, or the fill program failed.</exception>
    public void Fill()
    {
        if (_file.Fill.Program is { } program)
        {
            using ChildProcess child = Launch(program, Duration.Zero);
            int code = child.WaitForExit();
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

    /// <summary>Begins the load; it goes on for <paramref name="duration"/>, or until the built-in load has made so many
    /// <paramref name="requests"/>. Same seed, same requests: what one run touches, the next one does too.</summary>
    public RunningLoad StartLoad(Duration duration, long requests = long.MaxValue) => _file.Load.Program is { } program
        ? new ProgramLoad(Launch(program, duration), duration)
        : new ClosedLoop(_file, Connect, RequestTemplate.Parse(_file.Load.Request!, _file, _seed), _seed, duration, requests);

    /// <summary>A digest of the program's data: equal data, equal digest.</summary>
    /// <exception cref="BadInputException">The program refused, or keys are missing.</exception>
    public string Check()
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
    public Duration FirstResponse()
    {
        long start = Stopwatch.GetTimestamp();
        try
        {
            using WorkloadClient client = Connect();
            var request = new ByteBuffer();
            RequestTemplate.Parse(_file.FirstResponse, _file, _seed).Render(0, request);
            Reply reply = client.Ask(request.Written);
            if (reply.Kind == ReplyKind.Error)
                throw Failure("firstResponse", reply.ToString());
        }
        catch (Exception e) when (e is IOException or SocketException)
        {
            throw Failure("firstResponse", e.Message);
        }
        return Duration.FromSeconds(Stopwatch.GetElapsedTime(start).TotalSeconds);
    }

    /// <summary>A connection of one's own.</summary>
    /// <exception cref="SocketException">The program does not listen.</exception>
    public WorkloadClient Connect() => WorkloadClient.Connect(_file.Protocol, Endpoint, AnswerTimeout);

    /// <summary>Asks the program to end, kills it when it does not, and removes its folder. A second call does nothing.</summary>
    public void Stop()
    {
        if (!Directory.Exists(_folder))
            return;
        if (!_program.HasExited)
        {
            _program.Terminate();
            _program.WaitForExit(TimeSpan.FromSeconds(_file.Stop.Timeout.Seconds));
        }
        _program.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    /// <inheritdoc cref="Stop"/>
    public void Dispose() => Stop();

    internal void WaitUntilReady()
    {
        var waited = Stopwatch.StartNew();
        while (true)
        {
            try
            {
                FirstResponse();
                return;
            }
            catch (BadInputException e)
            {
                if (_program.HasExited)
                    throw Failure("command", $"{_file.Command} ended at once: {_program.LastLogLine()}");
                if (waited.Elapsed.TotalSeconds > _file.StartTimeout.Seconds)
                    throw Failure("startTimeout", $"no answer within {Units.Format(_file.StartTimeout)} ({e.Message.Split(": ").Last()}); last output: {_program.LastLogLine()}");
            }
            Thread.Sleep(20);
        }
    }

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
            }
        }
        catch (Exception e) when (e is IOException or SocketException)
        {
            throw Failure(step, e.Message);
        }
    }

    private ChildProcess Launch(ProgramCall call, Duration duration)
    {
        string seconds = Math.Ceiling(duration.Seconds).ToString(CultureInfo.InvariantCulture);
        return new ChildProcess(call.Command, call.Arguments.Select(a => Expand(a).Replace("{seconds}", seconds, StringComparison.Ordinal)),
            new Dictionary<string, string>(), _folder, Path.Combine(_folder, Path.GetFileName(call.Command) + ".log"));
    }

    private string Expand(string text) => Workload.Expand(text, _places);

    private BadInputException Failure(string step, string what) => new($"{_file.File}: {step}: {what}");
}
