using System.CommandLine;
using Testbed.Core;
using Testbed.Policies;
using Testbed.PolicyFiles;

namespace Testbed.Cli.Verbs;

/// <summary>testbed policies</summary>
internal static class PoliciesVerb
{
    public static Command Create()
    {
        var policyFiles = PolicyFileOption.Create();
        var template = new Option<string?>("--new") { Description = "write a first policy of your own to this file, for example MyPolicy.cs" };
        var command = new Command("policies", """
            List the policies, their options and their sources.

            Examples:
              testbed policies
              testbed policies --new MyPolicy.cs
            """)
        { policyFiles, template };
        command.SetAction(parsed =>
        {
            if (parsed.GetValue(template) is { } path)
            {
                string name = PolicyFile.WriteTemplate(path);
                Console.WriteLine($"{path}: policy {name}; try it with testbed replay traces/python-dict.trace --policy-file {path}");
                return;
            }
            _ = PolicyFileOption.Load(parsed.GetRequiredValue(policyFiles));
            List();
        });
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
                Console.WriteLine($"{"",-14}   {option.Name + "=" + option.Default?.ToString()?.ToLowerInvariant(),-20} {option.Summary} ({option.Range})");
        }
        Console.WriteLine("""

            Combined: "A + B"      prefetch by A, the rest in the order of B: "leap + hot-first"
                      "A then B"   B where A has nothing to say: "working-set then bubbling"
                      "A limit N"  at most N pages on each fault: "next-n:n=64 limit 16"
            A policy before + or then leaves the rest to the one behind it: its background is false unless given.
            """);
    }
}
