using System.CommandLine;
using Testbed.Core;
using Testbed.Policies;
using Testbed.Scenarios;
using Testbed.Uffd;

namespace Testbed.Cli;

/// <summary>Options that several verbs share.</summary>
internal static class Options
{
    public static Option<string> Policy() => Completed([.. PolicyCatalog.Names], new("--policy", "-p")
    {
        Description = "NAME or NAME:OPTION=VALUE,...; testbed policies lists them",
        DefaultValueFactory = _ => "demand",
    });

    public static Option<string> Link() => Completed(["10g", "1g", "100m", "local"], new("--link", "-l")
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

    private static Option<string> Completed(string[] values, Option<string> option)
    {
        option.CompletionSources.Add(values);
        return option;
    }

    /// <summary>One policy over one link, as typed.</summary>
    public static (PolicySpec Policy, LinkSpec Link) Parse(string policy, string link) =>
        (PolicyCatalog.Parse(policy), LinkSpec.Parse(link));
}
