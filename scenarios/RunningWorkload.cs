using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using Testbed.Core;

namespace Testbed.Scenarios;

/// <summary>
/// A real program that runs. Disposing it stops it, kills what is left of its process group and removes its folder.
/// </summary>
public sealed class RunningWorkload : WorkloadSteps, IDisposable
{
    private readonly string _folder;
    private readonly Dictionary<string, string> _places;
    private readonly WorkloadHost _host;
    private readonly ChildProcess _program;
    private bool _warm;
    private int? _target;

    internal RunningWorkload(WorkloadFile file, ulong seed, string folder, Dictionary<string, string> places, WorkloadHost host, CancellationToken cancel)
        : base(file, Where(file, places, host), seed)
    {
        Cancel = cancel;
        (_folder, _places, _host) = (folder, places, host);
        Dictionary<string, string> environment = file.Environment.ToDictionary(e => e.Key, e => Expand(e.Value));
        _program = Child(file.Command, file.Arguments.Select(Expand), environment, LogFile);
    }

    /// <summary>The process to be recorded.</summary>
    public int Pid => _target ?? _program.Pid;

    /// <summary>What the program prints; goes with the folder at the end.</summary>
    public string LogFile => Path.Combine(_folder, "log");

    /// <summary>Whether the program ended by itself.</summary>
    public bool HasExited => _program.HasExited;

    /// <inheritdoc/>
    public override string Check() => Definition.Protocol != Protocol.Output ? base.Check()
        : OutputClient.Last(LogFile, Definition.Check.Request) ?? throw Failure("check", $"no line like {Definition.Check.Request}; last output: {_program.LastLogLine()}");

    /// <summary>Asks the program to end, kills it when it does not, and removes its folder. A second call does nothing.</summary>
    public void Stop()
    {
        if (!Directory.Exists(_folder))
            return;
        EndKept();
        if (!_program.HasExited)
        {
            _program.Terminate();
            // Who interrupts does not wait for a program that takes its time.
            double seconds = Definition.Stop.Timeout.Seconds;
            _program.WaitForExit(TimeSpan.FromSeconds(Cancel.IsCancellationRequested ? Math.Min(seconds, 2) : seconds));
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
                break;
            }
            catch (BadInputException e)
            {
                if (_program.HasExited)
                    throw Failure("command", $"{Definition.Command} ended at once: {_program.LastLogLine()}");
                if (waited.Elapsed.TotalSeconds > Definition.StartTimeout.Seconds)
                    throw Failure("startTimeout", $"no answer within {Units.Format(Definition.StartTimeout)} ({e.Message.Split(": ").Last()}); last output: {_program.LastLogLine()}");
            }
            if (Cancel.WaitHandle.WaitOne(20))
                Cancel.ThrowIfCancellationRequested();
        }
        _warm = true;
        if (Definition.Target is { } target)
            _target = Keep(target);
    }

    private protected override WorkloadClient Open(CancellationToken cancel) => Definition.Protocol == Protocol.Output
        ? new OutputClient(LogFile, !_warm, _warm ? AnswerTimeout : TimeSpan.FromSeconds(Definition.StartTimeout.Seconds), () => _program.HasExited, cancel)
        : base.Open(cancel);

    private protected override ChildProcess Launch(ProgramCall call, Duration duration)
    {
        string seconds = Math.Ceiling(duration.Seconds).ToString(CultureInfo.InvariantCulture);
        return Child(call.Command, call.Arguments.Select(a => Expand(a).Replace("{seconds}", seconds, StringComparison.Ordinal)),
            new Dictionary<string, string>(), Path.Combine(_folder, Path.GetFileName(call.Command) + ".log"));
    }

    private ChildProcess Child(string command, IEnumerable<string> arguments, Dictionary<string, string> environment, string log) =>
        Workload.Child(Definition, _host, [Expand(command), .. arguments], environment, _folder, log);

    private string Expand(string text) => Workload.Expand(text, _places);

    private static EndPoint Where(WorkloadFile file, Dictionary<string, string> places, WorkloadHost host) => file.UsesUnixSocket
        ? new UnixDomainSocketEndPoint(places["unixsocket"])
        : new IPEndPoint(host.ReachedAt ?? host.Address, int.Parse(places["port"], CultureInfo.InvariantCulture));
}
