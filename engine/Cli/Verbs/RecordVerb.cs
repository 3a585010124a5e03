using System.CommandLine;
using Testbed.Core;
using Testbed.Live;
using Testbed.Policies;
using Testbed.Traces;
using Testbed.Uffd;

namespace Testbed.Cli.Verbs;

/// <summary>testbed record</summary>
internal static class RecordVerb
{
    public static Command Create()
    {
        var pid = new Option<int?>("--pid")
        {
            Description = "a running process; otherwise give a command behind --",
            CustomParser = argument =>
            {
                if (int.TryParse(argument.Tokens[0].Value, out int number) && number > 0)
                    return number;
                argument.AddError($"--pid {argument.Tokens[0].Value}: expected a process id, such as 4711.");
                return null;
            },
        };
        var output = new Option<string>("--output", "-o") { Description = "the trace to write", Required = true };
        var duration = Options.For("how long to record, for example 30s; default: until the target exits or Ctrl-C");
        var untilResident = new Option<bool>("--until-resident") { Description = "end when every page was touched" };
        var region = Options.Region();
        var after = new Option<TimeSpan>("--after")
        {
            Description = "for a command: let it run so long before its memory is taken",
            DefaultValueFactory = _ => TimeSpan.FromSeconds(1),
            CustomParser = a => TimeSpan.FromSeconds(Scenarios.Units.ParseDuration(a.Tokens[0].Value).Seconds),
        };
        var images = new Option<string?>("--images") { Description = "keep the CRIU-format images in this directory" };
        var events = new Option<bool>("--events") { Description = "also keep every event of the fault service, for an exact replay" };
        var workload = new Option<string?>("--name") { Description = "what to call the workload; default: the program's name" };
        var target = new Argument<string[]>("COMMAND") { Description = "a program and its arguments", Arity = ArgumentArity.ZeroOrMore };
        var command = new Command("record", """
            Capture the first touches of a process: take its memory away, serve every page alone when it is touched, and write
            down who touched what when. The process is not changed, and gets all its memory back at the end, which begins when the time is up or
            with Ctrl-C, and takes about a second per GB. Shared memory, mapped files and the like stay in place; the last line says how much.

            Exit codes: 0 recorded, 1 recorded but nothing was touched (such a trace cannot be replayed), 2 bad input or impossible here,
            130 interrupted before the end that --for or --until-resident asked for.

            Examples:
              testbed record --pid $(pidof redis-server) --for 30s -o redis.trace
              testbed record -o python.trace --after 2s -- python3 program.py
            """)
        { pid, output, duration, untilResident, region, after, images, events, workload, target };
        command.SetAction(parsed => Record(new Request(
            parsed.GetValue(pid), parsed.GetValue(target) ?? [], parsed.GetRequiredValue(output), parsed.GetValue(duration),
            parsed.GetValue(untilResident), parsed.GetValue(region), parsed.GetValue(after), parsed.GetValue(images),
            parsed.GetValue(events), parsed.GetValue(workload))));
        return command;
    }

    private sealed record Request(
        int? Pid, string[] Command, string Output, TimeSpan? Duration, bool UntilResident, RegionSelection Region,
        TimeSpan After, string? Images, bool Events, string? Name);

    private static int Record(Request request)
    {
        if (request.Pid is null == (request.Command.Length == 0))
            throw new BadInputException("record: expected either --pid PID or -- COMMAND");
        using var interrupt = new Interrupt();
        using LaunchedProgram? started = request.Pid is null ? LaunchedProgram.Start(request.Command[0], request.Command[1..]) : null;
        if (started is not null && interrupt.Token.WaitHandle.WaitOne(request.After))
            return 130;
        var options = new LiveOptions
        {
            Workload = request.Name ?? Path.GetFileName(request.Command.FirstOrDefault() ?? ProcessInfo.Read(request.Pid!.Value).Name),
            Region = request.Region,
            Policy = PolicyCatalog.Parse("demand"),
            TracePath = request.Output,
            TraceEvents = request.Events,
            ImagesPath = request.Images,
            ToolCommandLine = "testbed " + string.Join(' ', Environment.GetCommandLineArgs().Skip(1)),
        };
        using var progress = new Progress();
        using LiveSession session = LiveSession.Begin(
            request.Pid ?? started!.Pid, options with { Log = progress.Say }, (done, all) => progress.Show("dumping", done, all, "B"), interrupt.Token);
        session.WarnIfMostStayed(progress);
        progress.Line($"recording {options.Workload}: {session.Image.PresentPages} pages ({session.Image.PresentPages >> 8} MiB) away in {session.Image.Areas.Count} areas");
        double seconds = request.Duration?.TotalSeconds ?? double.PositiveInfinity;
        session.WaitWhile(
            () => session.Elapsed.Seconds < seconds && !(request.UntilResident && session.IsComplete),
            () => progress.Show("touched", session.TouchedPages, session.Image.PresentPages, " pages"), interrupt.Token);
        if (interrupt.Token.IsCancellationRequested)
            session.SayGivingBack(progress);
        LiveEnd end = session.End(
            interrupt.Token.IsCancellationRequested ? EndState.Interrupted : EndState.Drained,
            resident => progress.Show("restoring", resident, session.Image.PresentPages, " pages"));
        progress.Clear();
        Console.WriteLine($"{request.Output}: {end.Result.DemandFaults} demand faults and {end.Result.ZeroFaults} zero faults {end.Times()}; p50 {end.Result.LatencyQuantile(0.5)}, p99 {end.Result.LatencyQuantile(0.99)}; {TraceSummary.Size(session.Left.Bytes)} left in place{(session.Left.Bytes > 0 ? $" ({session.Left})" : "")}; target {Describe(end.End)}");
        bool touched = end.TouchedAnything(request.Output, progress);
        // Without an end that was asked for, Ctrl-C is the end.
        return interrupt.Token.IsCancellationRequested && (request.Duration is not null || request.UntilResident) ? 130 : touched ? 0 : 1;
    }

    internal static string Describe(FinishOutcome outcome) => outcome switch
    {
        FinishOutcome.Detached => "runs on with all its memory",
        FinishOutcome.Executed => "runs another program now (exec)",
        _ => "exited",
    };
}
