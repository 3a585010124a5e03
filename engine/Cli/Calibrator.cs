using System.Globalization;
using Testbed.Core;
using Testbed.Live;
using Testbed.Policies;
using Testbed.Replay;
using Testbed.Traces;

namespace Testbed.Cli;

/// <summary>
/// Measures what this host charges for the steps of a fault, with our own engine on a process made for it, again and again.
/// Costs come from the times of events in traces, and from the CPU time of the server's threads; of what cannot be told
/// apart, the sum is measured and the share is that of <see cref="WakeShare"/>.
/// </summary>
internal sealed class Calibrator : IDisposable
{
    private const int Pages = 16384;
    private const int Small = 4;
    private const int LocalTouches = 8000;
    private const int ShapedTouches = 1500;
    private const int WorkTouches = 1000;

    /// <summary>Of what the touching thread waits beyond the daemon's sight: the part after the wake-up.</summary>
    private const double WakeShare = 0.15;

    private static readonly LinkParameters s_link = new(ByteRate.FromBitsPerSecond(1e9), Duration.FromMilliseconds(1));

    // So slow that all touches meet bulk.
    private static readonly LinkParameters s_slowLink = s_link with { Rate = ByteRate.FromBitsPerSecond(2e8) };

    private readonly Dictionary<string, List<double>> _values = [];
    private readonly List<double> _local = [], _shaped = [];
    private readonly CancellationToken _cancel;
    private readonly PageToucher _toucher;
    private int _rounds;

    /// <summary>Starts the process that is measured, and warms both up.</summary>
    /// <exception cref="BadInputException">It cannot be done here.</exception>
    /// <exception cref="OperationCanceledException">Cancelled; the process that is measured has been ended.</exception>
    public Calibrator(CancellationToken cancel)
    {
        _cancel = cancel;
        _toucher = new PageToucher(Pages);
        try
        {
            _ = Session("demand", LinkParameters.Unshaped, LocalTouches, works: true);
        }
        catch
        {
            _toucher.Dispose();
            throw;
        }
    }

    /// <summary>What was measured so far; a round at least.</summary>
    public Calibration Result()
    {
        (string kernel, string cpu) = HostFacts.Read();
        return new Calibration
        {
            Host = $"{cpu}, {Environment.ProcessorCount} CPUs, {kernel}",
            Date = DateTimeOffset.UtcNow,
            Version = HostFacts.ToolVersion,
            Repetitions = _rounds,
            Costs = Calibration.CostNames.ToDictionary(n => n, n => MeasuredCost.Of(_values[n])),
            LocalDelays = DelaySample.Of(_local).Nanoseconds,
            ShapedDelays = DelaySample.Of(_shaped).Nanoseconds,
        };
    }

    /// <summary>Ends the process that was measured.</summary>
    public void Dispose() => _toucher.Dispose();

    /// <summary>Measures everything once; takes some seconds.</summary>
    /// <exception cref="BadInputException">It cannot be done here.</exception>
    /// <exception cref="OperationCanceledException">Cancelled; the process that is measured has been killed.</exception>
    public void Round()
    {
        _rounds++;
        CalibrationRun demand = Session("demand", LinkParameters.Unshaped, LocalTouches);
        CalibrationRun single = Session("next-n:n=1,background=false", LinkParameters.Unshaped, LocalTouches / 2);
        CalibrationRun bulk = Session("next-n:n=1", LinkParameters.Unshaped, 0);
        CalibrationRun small = Session("next-n:n=1", LinkParameters.Unshaped, 0, new TransferOptions { MaxRequest = Small * PageNumber.Size });
        CalibrationRun shaped = Session("demand", s_link, ShapedTouches);
        CalibrationRun alone = Session("demand", s_link, WorkTouches, works: true);
        CalibrationRun shared = Session("next-n:n=1", s_slowLink, WorkTouches, works: true);

        // How much comes at once is up to the lanes and their threads.
        int large = bulk.LargestPart;
        if (large <= Small)
            throw new BadInputException($"calibrate: bulk came in parts of {large} pages; expected larger ones than {Small}: try again when the machine is quieter");
        double install = single.Install(1, waited: false);
        double perPage = Math.Max(0, (bulk.Install(large, waited: false) - install) / (large - 1));
        Add("installPerPage", perPage);
        Add("installPerCall", Math.Max(0, install - perPage));
        Add("installWake", Math.Max(0, demand.Install(1, waited: true) - install));

        double receivePage = Math.Max(0, (bulk.Receive(large) - small.Receive(Small)) / (large - Small));
        double receiveCall = Math.Max(0, small.Receive(Small) - Small * receivePage);
        Add("receivePerCall", receiveCall);
        Add("receivePerPage", receivePage);

        // Two equations: CPU time = requests * perRequest + pages * perPage, for single pages and for large requests.
        double serverPage = Math.Max(0, (bulk.ServerCpu - bulk.Requests * (demand.ServerCpu / demand.Requests)) / (bulk.Pages - bulk.Requests));
        double serverRequest = Math.Max(0, demand.ServerCpu / demand.Requests - serverPage);
        Add("serverPerPage", serverPage);
        Add("serverPerRequest", serverRequest);

        double send = single.Send();
        Add("requestSend", send);
        double transfer = demand.Transfer();
        Add("hostDelay", Math.Max(0, transfer - send - serverRequest - serverPage - receiveCall - receivePage));
        double wire = s_link.RoundTrip.Nanoseconds + s_link.Rate.TimeFor(PageNumber.Size).Nanoseconds;
        Add("shaperDelay", Math.Max(0, shaped.Transfer() - transfer - wire));

        double outside = demand.OutsideDaemon();
        Add("faultDelivery", outside * (1 - WakeShare));
        Add("threadWake", outside * WakeShare);
        Add("idleWake", Math.Max(0, shaped.OutsideDaemon() - outside));
        Add("bulkThink", Math.Max(0, shared.Work() / alone.Work() - 1) * Duration.FromMilliseconds(1).Nanoseconds);
        Add("localInterval", demand.Interval());
        Add("shapedInterval", shaped.Interval());
        _local.AddRange(demand.Latencies());
        _shaped.AddRange(shaped.Latencies());
    }

    private void Add(string name, double nanoseconds)
    {
        if (!_values.TryGetValue(name, out List<double>? values))
            _values.Add(name, values = []);
        values.Add(nanoseconds);
    }

    private CalibrationRun Session(string policy, LinkParameters link, int touches, TransferOptions? transfer = null, bool works = false)
    {
        _cancel.ThrowIfCancellationRequested();
        string file = Path.Combine(Path.GetTempPath(), $"testbed-calibrate-{Environment.ProcessId}.trace");
        // It is ours, and nobody else's: it need not have its memory back.
        using CancellationTokenRegistration killing = _cancel.Register(_toucher.Kill);
        try
        {
            var options = new LiveOptions
            {
                Workload = "calibrate",
                Policy = PolicyCatalog.Parse(policy),
                Link = link,
                ThroughServer = true,
                Transfer = transfer,
                TracePath = file,
                TraceEvents = true,
            };
            (long[] took, long[] worked) = ([], []);
            double cpu;
            using (LiveSession session = LiveSession.Begin(_toucher.Pid, options, null, _cancel))
            {
                if (touches > 0)
                    (took, worked) = _toucher.Touch(touches, works);
                else
                    session.WaitWhile(() => !session.IsComplete, null, _cancel);
                _cancel.ThrowIfCancellationRequested();
                cpu = ServerCpu();
                _ = session.End(EndState.Drained);
            }
            return new CalibrationRun(Trace.Load(file), _toucher, took, worked, cpu);
        }
        catch (BadInputException)
        {
            // What a process that was killed leads to is not worth telling.
            _cancel.ThrowIfCancellationRequested();
            throw;
        }
        finally
        {
            File.Delete(file);
        }
    }

    /// <summary>CPU time of the page server's threads, in nanoseconds, as the scheduler counts it.</summary>
    private static double ServerCpu()
    {
        double sum = 0;
        foreach (string task in Directory.EnumerateDirectories("/proc/self/task"))
        {
            try
            {
                if (File.ReadAllText(task + "/comm").StartsWith("page-server", StringComparison.Ordinal))
                    sum += double.Parse(File.ReadAllText(task + "/schedstat").Split(' ')[0], CultureInfo.InvariantCulture);
            }
            catch (IOException)
            {
                // It ended meanwhile.
            }
        }
        return sum;
    }
}
