using System.CommandLine;
using System.CommandLine.Parsing;
using Testbed.Core;
using Testbed.Live;

namespace Testbed.Cli;

/// <summary>Exit codes: 0 done, 1 done with a finding (a check failed), 2 bad input or impossible here, 130 interrupted.</summary>
internal static class CommandLine
{
    // Scripts ask for it, to know what CRIU can do.
    private const string CriuVersion = "4.2";

    /// <summary>Parses and runs a verb; each failure is one line.</summary>
    public static int Run(RootCommand root, string[] args)
    {
        Terminal.Guard();
        HelpPage.Install(root);
        try
        {
            if (CriuArguments.TryRead(root, args) is { } criu)
            {
                if (criu.AsksVersion)
                {
                    Console.WriteLine($"Version: {CriuVersion}");
                    Console.WriteLine($"testbed {HostFacts.ToolVersion}, in the places of criu lazy-pages and criu page-server");
                    return 0;
                }
                args = criu.Line;
            }
        }
        catch (BadInputException e)
        {
            return Fail(e.Message);
        }
        ParseResult parsed = root.Parse(args);
        if (parsed.Errors.Count > 0)
            return Fail($"{parsed.Errors[0].Message.ReplaceLineEndings(" ")} See {PathOf(parsed.CommandResult)} --help.");
        try
        {
            // Errors reach the catch below, so that each is one line; Ctrl-C is each verb's own affair.
            return parsed.Invoke(new InvocationConfiguration { EnableDefaultExceptionHandler = false, ProcessTerminationTimeout = null });
        }
        catch (BadInputException e)
        {
            return Fail(e.Message);
        }
        catch (Exception e) when (e is UnauthorizedAccessException or IOException)
        {
            return Fail(e.Message);
        }
        catch (OperationCanceledException)
        {
            Console.Error.WriteLine("testbed: interrupted");
            return 130;
        }
    }

    private static string PathOf(CommandResult command) =>
        command.Parent is CommandResult parent ? $"{PathOf(parent)} {command.Command.Name}" : "testbed";

    private static int Fail(string message)
    {
        // One line, but for the errors of a policy file: one line each.
        Console.Error.WriteLine("testbed: " + message.ReplaceLineEndings("\ntestbed: "));
        return 2;
    }
}
