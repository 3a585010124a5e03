using System.CommandLine;
using System.CommandLine.Completions;
using Testbed.Core;
using Testbed.Policies;
using Testbed.Scenarios;
using Testbed.Traces;
using Testbed.Uffd;

namespace Testbed.Cli;

/// <summary>Options that several verbs share.</summary>
internal static class Options
{
    public static Option<string> Policy() => Completed(() => PolicyCatalog.Names, new("--policy", "-p")
    {
        Description = "NAME or NAME:OPTION=VALUE,...; \"A + B\", \"A then B\", \"A limit N\" combine; testbed policies lists them",
        DefaultValueFactory = _ => "demand",
    });

    public static Option<string[]> Recordings() => new("--recording")
    {
        Description = "an earlier trace for record-and-prefetch policies, may be given again; default: the trace itself",
        DefaultValueFactory = _ => [],
    };

    public static Option<string> Link() => Completed(() => ["10g", "1g", "100m", "local"], new("--link", "-l")
    {
        Description = LinkSpec.Form,
        DefaultValueFactory = _ => "1g",
    });

    public static Option<RegionSelection> Region() => new("--region", "-r")
    {
        Description = "heap: [heap] only; anon: heap and private anonymous memory; all: stacks too",
        DefaultValueFactory = _ => RegionSelection.Anon,
    };

    public static Option<string?> Calibration() => new("--calibration")
    {
        Description = "what the host charges: a file that testbed calibrate wrote; default: the scenario's, or the reference",
    };

    public static Option<string?> Output(string what) => new("--output", "-o") { Description = what };

    public static Option<TimeSpan?> For(string what) => new("--for")
    {
        Description = what,
        CustomParser = argument =>
        {
            try
            {
                return TimeSpan.FromSeconds(Units.ParseDuration(argument.Tokens[0].Value).Seconds);
            }
            catch (BadInputException e)
            {
                argument.AddError($"--for: {e.Message}.");
                return null;
            }
        },
    };

    /// <summary>The first touches of one trace or several; null for none.</summary>
    public static IReadOnlyList<PageNumber>? LoadRecordings(IReadOnlyList<string> files) => files.Count switch
    {
        0 => null,
        1 => Trace.Load(files[0]).FirstTouches().Recording,
        _ => new Recordings([.. files.Select(f => Trace.Load(f).FirstTouches().Recording)]),
    };

    /// <summary>The values are only asked for when somebody completes: a start should not read the catalog.</summary>
    private static Option<string> Completed(Func<IEnumerable<string>> values, Option<string> option)
    {
        option.CompletionSources.Add(_ => values().Select(v => new CompletionItem(v)));
        return option;
    }

    /// <summary>One policy over one link, as typed.</summary>
    public static (PolicySpec Policy, LinkSpec Link) Parse(string policy, string link) =>
        (PolicyCatalog.Parse(policy), LinkSpec.Parse(link));
}
