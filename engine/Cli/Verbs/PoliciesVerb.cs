using System.CommandLine;
using Testbed.Core;
using Testbed.Policies;

namespace Testbed.Cli.Verbs;

/// <summary>testbed policies</summary>
internal static class PoliciesVerb
{
    public static Command Create()
    {
        var command = new Command("policies", """
            List the policies, their options and their sources.

            Example:
              testbed policies
            """);
        command.SetAction(_ => List());
        return command;
    }

    private static void List()
    {
        foreach (string name in PolicyCatalog.Names)
        {
            PolicyAttribute about = PolicyCatalog.About(name);
            Console.WriteLine($"{name,-14} {about.Summary}");
            if (about.Source.Length > 0)
                Console.WriteLine($"{"",-14} after {about.Source}");
            foreach (PolicyOption option in PolicyCatalog.Options(name))
                Console.WriteLine($"{"",-14}   {option.Name}={option.Default?.ToString()?.ToLowerInvariant(),-8} {option.Summary}");
        }
    }
}
