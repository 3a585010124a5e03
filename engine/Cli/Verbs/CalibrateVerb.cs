using System.CommandLine;
using System.Globalization;
using Testbed.Replay;

namespace Testbed.Cli.Verbs;

/// <summary>testbed calibrate</summary>
internal static class CalibrateVerb
{
    public static Command Create()
    {
        var output = new Option<string>("--output", "-o") { Description = "the calibration to write", Required = true };
        var repetitions = new Option<int>("--repetitions", "-r") { Description = "how often everything is measured, 1 to 100", DefaultValueFactory = _ => 5 };
        repetitions.Validators.Add(r =>
        {
            if (r.GetValueOrDefault<int>() is < 1 or > 100)
                r.AddError("--repetitions: expected 1 to 100.");
        });
        var command = new Command("calibrate", """
            Measure what this host charges for the steps of a fault: wake-up, request, server, receiving, install, emulated link; and by how
            much bulk slows a program down. Takes about a minute. Replays that name the result in --calibration, or in their scenario, use it
            instead of the reference.

            Example:
              testbed calibrate -o my-host.json
            """)
        { output, repetitions };
        command.SetAction(parsed => Calibrate(parsed.GetRequiredValue(output), parsed.GetValue(repetitions)));
        return command;
    }

    /// <summary>The other side of a calibration: a process that touches its pages when it is told to.</summary>
    public static Command CreateToucher()
    {
        var pages = new Argument<int>("PAGES");
        var command = new Command(PageToucher.Verb, "Used by calibrate.") { pages };
        command.Hidden = true;
        command.SetAction(parsed => PageToucher.Run(parsed.GetRequiredValue(pages)));
        return command;
    }

    private static void Calibrate(string output, int repetitions)
    {
        using var interrupt = new Interrupt();
        using var progress = new Progress();
        progress.Line("calibrate: warming up");
        using var calibrator = new Calibrator(interrupt.Token);
        for (int round = 0; round < repetitions; round++)
        {
            progress.Show("calibrate", round, repetitions, " rounds");
            calibrator.Round();
        }
        interrupt.Token.ThrowIfCancellationRequested();
        Calibration result = calibrator.Result();
        result.Save(output);
        progress.Clear();
        Console.WriteLine(Describe(result));
        Console.WriteLine($"{output}: {repetitions} repetitions on {result.Host}");
    }

    private static string Describe(Calibration calibration)
    {
        string Row(string name, MeasuredCost cost) => string.Create(
            CultureInfo.InvariantCulture, $"  {name,-18}{cost.Median / 1e3,9:0.00} {cost.Low / 1e3,9:0.00} {cost.High / 1e3,9:0.00}");
        HostCosts costs = calibration.ToCosts();
        return string.Join('\n',
        [
            $"  {"microseconds",-18}{"median",9} {"low",9} {"high",9}",
            .. calibration.Costs.Select(c => Row(c.Key, c.Value)),
            $"  a page's way, beyond its median: unshaped p90 {costs.LocalDelays.Quantile(0.9)}, p99 {costs.LocalDelays.Quantile(0.99)}; emulated link p90 {costs.ShapedDelays.Quantile(0.9)}, p99 {costs.ShapedDelays.Quantile(0.99)}",
        ]);
    }
}
