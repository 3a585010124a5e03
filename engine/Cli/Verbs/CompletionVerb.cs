using System.CommandLine;

namespace Testbed.Cli.Verbs;

/// <summary>testbed completion</summary>
internal static class CompletionVerb
{
    // The program itself knows what may come next; where it knows nothing, the shell offers files.
    private const string Script = """
        _testbed() {
            local line="testbed ${COMP_LINE#* }" word="${COMP_WORDS[COMP_CWORD]}"
            local at=$((COMP_POINT - ${#COMP_WORDS[0]} + 7)) IFS=$'\n'
            COMPREPLY=($(compgen -W "$("${COMP_WORDS[0]}" "[suggest:$at]" "$line" 2>/dev/null)" -- "$word"))
        }
        complete -o default -F _testbed testbed ./testbed
        """;

    public static Command Create()
    {
        var command = new Command("completion", """
            Print a script that completes verbs, options, policies and links in bash. In zsh, load bashcompinit before.

            Examples:
              source <(testbed completion)
              testbed completion > ~/.local/share/bash-completion/completions/testbed
            """);
        command.SetAction(_ => Console.WriteLine(Script));
        return command;
    }
}
