using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Invocation;

namespace Testbed.Cli;

/// <summary>
/// The help as a manual page has it: in the list of verbs one sentence each; on a verb's own page the whole text, its options, and its
/// examples at the end. A verb writes all of it as its description, with the examples last, below "Example:" or "Examples:".
/// </summary>
internal sealed class HelpPage : SynchronousCommandLineAction
{
    private const string Footer = """
        Exit codes:
          0    done
          1    done, with a finding: a check failed, a number regressed
          2    bad input, or impossible here; one line says what and what was expected
          130  interrupted; what was taken is given back

        Help for one verb: testbed VERB --help
        Completion in bash, zsh and fish: testbed completion --help
        """;

    private const string ExitCodes = "Exit codes: 0 done, 1 done with a finding, 2 bad input or impossible here, 130 interrupted.";

    private readonly HelpAction _inner;

    private HelpPage(HelpAction inner) => _inner = inner;

    /// <summary>Who asks for help need not have given the arguments.</summary>
    public override bool ClearsParseErrors => true;

    /// <summary>Replaces the help of a program and all its verbs.</summary>
    public static void Install(RootCommand root)
    {
        HelpOption option = root.Options.OfType<HelpOption>().Single();
        option.Action = new HelpPage((HelpAction)option.Action!);
        // Those of Windows would be completed beside the verbs.
        foreach (string alias in option.Aliases.Where(a => a.StartsWith('/')).ToList())
            option.Aliases.Remove(alias);
    }

    /// <inheritdoc/>
    public override int Invoke(ParseResult parseResult)
    {
        Command command = parseResult.CommandResult.Command;
        (command.Description, string examples) = Split(command.Description ?? "");
        foreach (Command verb in command.Subcommands)
            verb.Description = FirstSentence(verb.Description ?? "");
        int result = _inner.Invoke(parseResult);
        TextWriter output = parseResult.InvocationConfiguration.Output;
        if (CriuArguments.IsCriuVerb(command))
            WriteAccepted(command, output);
        if (examples.Length > 0)
            output.WriteLine(examples + "\n");
        if (command is RootCommand)
            output.WriteLine(Footer);
        else if (!command.Description!.Contains("Exit codes:", StringComparison.Ordinal))
            output.WriteLine(ExitCodes + "\n");
        return result;
    }

    private static void WriteAccepted(Command verb, TextWriter output)
    {
        const int Width = 100;
        output.WriteLine("""
            Also taken, as CRIU does: --config FILE, --no-default-config, /etc/criu/default.conf, ~/.criu/default.conf and
            $CRIU_CONFIG_FILE; --restore-detached for --daemon, --close FD, -V|--version; --no-OPTION, which takes back a switch;
            beginnings of long names while they are clear; options before the verb. Of no effect here, which the log says once:
            """);
        string line = " ";
        foreach (string option in CriuArguments.AcceptedBy(verb))
        {
            if (line.Length + option.Length > Width)
            {
                output.WriteLine(line);
                line = " ";
            }
            line += $" {option}";
        }
        output.WriteLine(line + "\n");
    }

    private static (string Text, string Examples) Split(string description)
    {
        string text = description.ReplaceLineEndings("\n");
        int at = text.IndexOf("\n\nExample", StringComparison.Ordinal);
        return at < 0 ? (text, "") : (text[..at], text[(at + 2)..]);
    }

    private static string FirstSentence(string description)
    {
        string text = Split(description).Text.ReplaceLineEndings(" ");
        int end = text.IndexOfAny(['.', ';', ':']);
        while (end >= 0 && end + 1 < text.Length && text[end + 1] != ' ')
            end = text.IndexOfAny(['.', ';', ':'], end + 1);
        return end < 0 ? text : text[..end];
    }
}
