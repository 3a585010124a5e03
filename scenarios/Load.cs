using System.Diagnostics;
using System.Net.Sockets;
using Testbed.Core;

namespace Testbed.Scenarios;

/// <summary>One request of the load, as its client saw it.</summary>
/// <param name="Time">When it was sent, since the load began.</param>
/// <param name="Latency">Until the answer was in.</param>
public readonly record struct LoadSample(Instant Time, Duration Latency);

/// <summary>What a load did.</summary>
/// <param name="Samples">All answered requests of the built-in load, by time; empty when a program made the load.</param>
/// <param name="Missing">How many were answered with "no such key": 0 when fill and load agree on the keys.</param>
/// <param name="Error">The first error, or null. A program's error is its exit code and last line.</param>
public sealed record LoadResult(IReadOnlyList<LoadSample> Samples, long Missing, string? Error);

/// <summary>A load that is going on. It ends by itself after its duration.</summary>
public abstract class RunningLoad : IDisposable
{
    /// <summary>When the load began, on <see cref="Stopwatch"/>'s clock (CLOCK_MONOTONIC), to lay its times beside others.</summary>
    public long StartTimestamp { get; } = Stopwatch.GetTimestamp();

    /// <summary>Whether it is over.</summary>
    public abstract bool HasEnded { get; }

    /// <summary>Ends it before its time.</summary>
    public abstract void Stop();

    /// <summary>Waits for its end.</summary>
    public abstract LoadResult Wait();

    /// <summary>Stops, and waits for the end.</summary>
    public void Dispose()
    {
        Stop();
        _ = Wait();
        GC.SuppressFinalize(this);
    }
}

/// <summary>
/// The built-in load: closed loop, one thread and one request in flight for each connection, so that a stalled
/// restore is seen by each as one long latency.
/// </summary>
internal sealed class ClosedLoop : RunningLoad
{
    private readonly Connection[] _connections;
    private readonly long _end;
    private readonly long _perConnection;
    private volatile bool _stop;
    private LoadResult? _result;

    /// <param name="workload">Says how keys are drawn, and over how many connections.</param>
    /// <param name="connect">Makes a connection, or lends one that lasts.</param>
    /// <param name="request">What is asked.</param>
    /// <param name="seed">Draws the keys.</param>
    /// <param name="duration">After which it ends.</param>
    /// <param name="requests">Or after so many requests.</param>
    public ClosedLoop(WorkloadFile workload, Func<WorkloadClient> connect, RequestTemplate request, ulong seed, Duration duration, long requests)
    {
        _perConnection = Math.Max(1, requests / workload.Load.Connections);
        _end = StartTimestamp + (long)(duration.Seconds * Stopwatch.Frequency);
        _connections = [.. Enumerable.Range(0, workload.Load.Connections).Select(i => new Connection(this, connect, request,
            new KeyChooser(workload.Load.Distribution, workload.Load.Skew, workload.Keys, KeyRandom.Mix(seed + (ulong)i))))];
        foreach (Connection connection in _connections)
            connection.Thread.Start();
    }

    public override bool HasEnded => Array.TrueForAll(_connections, c => !c.Thread.IsAlive);

    public override void Stop() => _stop = true;

    public override LoadResult Wait()
    {
        if (_result is not null)
            return _result;
        foreach (Connection connection in _connections)
            connection.Thread.Join();
        LoadSample[] samples = [.. _connections.SelectMany(c => c.Samples)];
        Array.Sort(samples, (a, b) => a.Time.CompareTo(b.Time));
        string? error = _connections.Select(c => c.Error).FirstOrDefault(e => e is not null);
        return _result = new LoadResult(samples, _connections.Sum(c => c.Missing), error);
    }

    private sealed class Connection
    {
        private readonly ClosedLoop _load;
        private readonly Func<WorkloadClient> _connect;
        private readonly RequestTemplate _request;
        private readonly KeyChooser _keys;
        private readonly ByteBuffer _cursor = new();

        public Connection(ClosedLoop load, Func<WorkloadClient> connect, RequestTemplate request, KeyChooser keys)
        {
            (_load, _connect, _request, _keys) = (load, connect, request, keys);
            Thread = new Thread(Run) { IsBackground = true, Name = "load" };
        }

        public Thread Thread { get; }

        public List<LoadSample> Samples { get; } = new(1 << 14);

        public long Missing { get; private set; }

        public string? Error { get; private set; }

        private void Run()
        {
            try
            {
                using WorkloadClient client = _connect();
                var request = new ByteBuffer();
                for (long now = Stopwatch.GetTimestamp(); now < _load._end && !_load._stop && Error is null && Samples.Count < _load._perConnection;)
                    now = AskOnce(client, request);
            }
            catch (OperationCanceledException)
            {
                // Whoever cancelled knows.
            }
            catch (Exception e) when (e is IOException or SocketException or ObjectDisposedException)
            {
                Error = e.Message;
            }
        }

        private long AskOnce(WorkloadClient client, ByteBuffer request)
        {
            request.Clear();
            _request.Render(_keys.Next(), request, _cursor.Written);
            long sent = Stopwatch.GetTimestamp();
            Reply reply = client.Ask(request.Written);
            long answered = Stopwatch.GetTimestamp();
            if (reply.Kind == ReplyKind.Error)
                Error = reply.ToString();
            Missing += reply.Kind == ReplyKind.Missing ? 1 : 0;
            if (_request.HasCursor)
            {
                _cursor.Clear();
                int end = reply.Body.IndexOfAny((byte)' ', (byte)'\n');
                _cursor.Add(end < 0 ? reply.Body : reply.Body[..end]);
            }
            Samples.Add(new LoadSample(new Instant(Nanoseconds(sent - _load.StartTimestamp)), new Duration(Nanoseconds(answered - sent))));
            return answered;
        }

        private static long Nanoseconds(long ticks) => ticks * (1_000_000_000 / Stopwatch.Frequency);
    }
}

/// <summary>A load that a program makes. When its time is up it is killed, which is no error.</summary>
internal sealed class ProgramLoad : RunningLoad
{
    private readonly ChildProcess _program;
    private readonly Timer _end;
    private LoadResult? _result;
    private volatile bool _stopped;

    public ProgramLoad(ChildProcess program, Duration duration)
    {
        _program = program;
        _end = new Timer(_ => Stop(), null, (long)Math.Ceiling(duration.Milliseconds), Timeout.Infinite);
    }

    public override bool HasEnded => _result is not null || _program.HasExited;

    public override void Stop()
    {
        if (_result is not null || _program.HasExited)
            return;
        _stopped = true;
        _program.Kill();
    }

    public override LoadResult Wait()
    {
        if (_result is not null)
            return _result;
        int code = _program.WaitForExit();
        using (var idle = new ManualResetEvent(false))
        {
            if (_end.Dispose(idle))
                idle.WaitOne();
        }
        string? error = code == 0 || _stopped ? null : $"exit code {code}: {_program.LastLogLine()}";
        _program.Dispose();
        return _result = new LoadResult([], 0, error);
    }
}
