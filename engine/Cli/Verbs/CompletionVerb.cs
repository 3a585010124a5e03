using System.CommandLine;

namespace Testbed.Cli.Verbs;

/// <summary>testbed completion</summary>
internal static class CompletionVerb
{
    // The program itself knows what may come next. Options are offered to who typed a dash; where nothing fits, the shell offers files.
    private const string Bash = """
        _testbed() {
            local line="testbed ${COMP_LINE#* }" word="${COMP_WORDS[COMP_CWORD]}" IFS=$'\n'
            local at=$((COMP_POINT - ${#COMP_WORDS[0]} + 7))
            COMPREPLY=($(compgen -W "$("${COMP_WORDS[0]/#\~/$HOME}" "[suggest:$at]" "$line" 2>/dev/null)" -- "$word"))
            [[ $word == -* ]] || COMPREPLY=($(printf '%s\n' "${COMPREPLY[@]}" | grep -v '^-'))
        }
        complete -o default -F _testbed testbed ./testbed
        """;

    private const string Zsh = """
        #compdef testbed
        _testbed() {
            local line="testbed ${(j: :)words[2,CURRENT-1]}"
            (( CURRENT == 2 )) || line+=" "
            line+=$PREFIX
            local -a all=("${(@f)$(${~words[1]} "[suggest:$#line]" "$line" 2>/dev/null)}")
            [[ $PREFIX == -* ]] || all=(${all:#-*})
            all=(${(M)all:#${(b)PREFIX}*})
            if (( $#all )); then compadd -- $all; else _files; fi
        }
        if [[ $funcstack[1] == _testbed ]]; then
            _testbed
        else
            (( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
            compdef _testbed testbed
        fi
        """;

    private const string Fish = """
        function __testbed_complete
            set -l words (commandline -opc)
            set -l current (commandline -ct)
            set -l line (string join ' ' -- testbed $words[2..] "$current")
            set -l all (eval $words[1] "'[suggest:"(string length -- $line)"]'" (string escape -- $line) 2>/dev/null | string match -- "$current*")
            string match -q -- '-*' "$current"; or set all (string match -v -- '-*' $all)
            if test (count $all) -gt 0
                printf '%s\n' $all
            else
                __fish_complete_path "$current"
            end
        end
        complete -c testbed -f -a '(__testbed_complete)'
        """;

    public static Command Create()
    {
        var shell = new Argument<string>("SHELL") { Description = "bash, zsh or fish", DefaultValueFactory = _ => "bash" };
        shell.AcceptOnlyFromAmong("bash", "zsh", "fish");
        var command = new Command("completion", """
            Print a script that completes verbs, options, policies, links and files.

            Examples:
              testbed completion bash > ~/.local/share/bash-completion/completions/testbed
              testbed completion zsh > "${fpath[1]}/_testbed"
              testbed completion fish > ~/.config/fish/completions/testbed.fish
              source <(testbed completion bash)        # for this shell only; zsh alike
              testbed completion fish | source
            """)
        { shell };
        command.SetAction(parsed => Console.WriteLine(parsed.GetRequiredValue(shell) switch { "zsh" => Zsh, "fish" => Fish, _ => Bash }));
        return command;
    }
}
