using System.CommandLine;
using System.Globalization;
using System.Security.Cryptography;
using Testbed.Core;
using Testbed.Live;
using Testbed.Scenarios;
using Testbed.Uffd;

namespace Testbed.Cli.Verbs;

/// <summary>testbed capture</summary>
internal static class CaptureVerb
{
    public static Command Create()
    {
        var file = new Argument<string>("WORKLOAD") { Description = "a workload file" };
        var output = new Option<string>("--output", "-o") { Description = "the trace to write", Required = true };
        var duration = Options.For("the longest that the load may run; default: 120s");
        var requests = new Option<long?>("--requests", "-n") { Description = "requests of the built-in load; default: what the workload says" };
        var small = new Option<bool>("--small") { Description = "the workload in its small size" };
        var inputs = new Option<int>("--inputs")
        {
            Description = "so many captures, one after the other from the same process, each with a load of its own; NAME.trace becomes NAME.1.trace, NAME.2.trace ...",
            DefaultValueFactory = _ => 1,
        };
        var region = Options.Region();
        var seed = new Option<ulong>("--seed") { Description = "chooses the keys of the first load; the next ones count up from it", DefaultValueFactory = _ => 1 };
        var command = new Command("capture", """
            Make a trace of a workload from nothing: start its program, fill it, take its memory away, load it until its requests
            are done, or --for is over, and check its data. Ctrl-C ends it at any moment, and leaves no trace. With --inputs 2, a second time with other requests: what one restore touched is then tested on another.

            Exit codes: 0 captured, 1 captured but nothing was touched (such a trace cannot be replayed), 2 bad input or impossible here,
            130 interrupted.

            Example:
              testbed capture scenarios/workloads/redis.json -n 200000 -o redis.trace
            """)
        { file, output, duration, requests, small, inputs, region, seed };
        command.SetAction(parsed =>
        {
            WorkloadFile workload = WorkloadFile.FromFile(parsed.GetRequiredValue(file));
            workload = parsed.GetValue(small) ? workload.InSmall() : workload;
            return Capture(new Request(workload, parsed.GetRequiredValue(output), parsed.GetValue(duration) ?? TimeSpan.FromSeconds(120),
                parsed.GetValue(requests) ?? workload.Load.Requests, parsed.GetValue(inputs), parsed.GetValue(region), parsed.GetValue(seed)));
        });
        return command;
    }

    /// <summary>Behind the name until the program's data was found equal: no trace of a run that went wrong passes for a good one.</summary>
    private const string Unchecked = ".unchecked";

    private sealed record Request(WorkloadFile File, string Output, TimeSpan Duration, long Requests, int Inputs, RegionSelection Region, ulong Seed);

    private static int Capture(Request request)
    {
        if (request.Inputs is < 1 or > 100)
            throw new BadInputException($"--inputs {request.Inputs}: expected 1 to 100");
        using var interrupt = new Interrupt();
        using var progress = new Progress();
        // The data is the same whatever the load: a second capture must find the same memory.
        using var run = new WorkloadRun(request.File, seed: 1, progress, interrupt.Token);
        var lines = new List<(string Output, string Text)>();
        bool touched = true;
        try
        {
            touched = CaptureEach(request, run, lines, progress, interrupt.Token);
            string digest = run.CheckData();
            progress.Clear();
            foreach ((string output, string text) in lines)
            {
                File.Move(output + Unchecked, output, overwrite: true);
                Console.WriteLine($"{output}: {text}; data equal ({digest})");
            }
        }
        catch (OperationCanceledException)
        {
            foreach ((string output, _) in lines)
                File.Delete(output + Unchecked);
            throw;
        }
        return touched ? 0 : 1;
    }

    /// <returns>Whether each of them has faults.</returns>
    private static bool CaptureEach(Request request, WorkloadRun run, List<(string Output, string Text)> lines, Progress progress, CancellationToken cancel)
    {
        bool touched = true;
        for (int input = 1; input <= request.Inputs; input++)
        {
            string output = request.Inputs == 1 ? request.Output : Path.ChangeExtension(request.Output, $".{input}{Path.GetExtension(request.Output)}");
            ulong loadSeed = request.Seed + (ulong)input - 1;
            progress.Line($"capturing {output}");
            LiveEnd end = run.Run(OptionsFor(request, output, input, loadSeed), Duration.FromSeconds(request.Duration.TotalSeconds), request.Requests, cancel, loadSeed);
            lines.Add((output, $"{end.Result.DemandFaults} demand faults and {end.Result.ZeroFaults} zero faults {end.Times()}; first response after {end.Result.TimeToFirstResponse}; p50 {end.Result.LatencyQuantile(0.5)}, p99 {end.Result.LatencyQuantile(0.99)}"));
            touched &= end.TouchedAnything(output, progress);
        }
        return touched;
    }

    private static LiveOptions OptionsFor(Request request, string output, int input, ulong loadSeed) => new()
    {
        Workload = request.File.Name,
        Region = request.Region,
        Seed = loadSeed,
        TracePath = output + Unchecked,
        DescribeContent = true,
        TraceProperties = new Dictionary<string, string>
        {
            ["input"] = $"{input} of {request.Inputs} from one process",
            ["load"] = request.File.Load.Request ?? request.File.Load.Program!.Command,
            ["requests"] = request.Requests.ToString(CultureInfo.InvariantCulture),
            ["workload-sha256"] = Convert.ToHexStringLower(SHA256.HashData(File.ReadAllBytes(request.File.File))),
        },
        ToolCommandLine = "testbed " + string.Join(' ', Environment.GetCommandLineArgs().Skip(1)),
    };
}
