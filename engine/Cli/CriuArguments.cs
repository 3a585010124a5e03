using System.CommandLine;
using Mono.Unix.Native;
using Testbed.Core;

namespace Testbed.Cli;

/// <summary>
/// A command line in CRIU's manner for one of the verbs that take the places of CRIU's, and what configuration files
/// add to it, as a command line that this program's own parser takes: what acts, spelled out, and remarks on what
/// does not.
/// </summary>
internal sealed class CriuArguments
{
    /// <summary>The hidden option that carries remarks for the log.</summary>
    public const string Remark = "--remark";

    private const int UsualVerbosity = 2;

    // They act on every verb, and on none by an option of its own.
    private static readonly string[] s_general = ["close", "config", "help", "no-default-config", "restore-detached", "version"];

    private readonly Command _verb;
    private readonly List<(string Name, string? Value)> _acting = [];
    private readonly SortedSet<string> _accepted = [];
    private readonly List<string> _remarks = [];
    private int? _verbosity;
    private bool _help;

    private CriuArguments(Command verb) => _verb = verb;

    /// <summary>Whether the version is asked for, and nothing else.</summary>
    public bool AsksVersion { get; private set; }

    /// <summary>The same as this program's own command line.</summary>
    public string[] Line =>
        _help ? [_verb.Name, "--help"] :
        [
            _verb.Name,
            .. _acting.Select(option => option.Value is null ? $"--{option.Name}" : $"--{option.Name}={option.Value}"),
            .. _verbosity is { } level ? (string[])[$"--verbosity={level}"] : [],
            .. _remarks.Select(remark => $"{Remark}={remark}"),
        ];

    /// <summary>Whether a verb is one of those that take CRIU's places.</summary>
    public static bool IsCriuVerb(Command verb) => verb.Name is "lazy-pages" or "page-server";

    /// <summary>CRIU's options that a verb accepts and makes no use of.</summary>
    public static IEnumerable<string> AcceptedBy(Command verb) => CriuOption.All
        .Where(option => !Array.Exists(s_general, name => name == option.Name) && !Acts(verb, option.Name))
        .Select(option => (option.Short is { } letter ? $"-{letter}|" : "") + "--" + option.Name);

    /// <summary>Reads a command line.</summary>
    /// <returns>Null when it is for another verb.</returns>
    /// <exception cref="BadInputException">An option is not known, or lacks its value.</exception>
    public static CriuArguments? TryRead(RootCommand root, string[] args)
    {
        Command[] verbs = [.. root.Subcommands.Where(IsCriuVerb)];
        if (Array.Find(verbs, v => args.Length > 0 && v.Name == args[0]) is not { } verb)
        {
            // Options may come first, CRIU's alone, for those of other verbs are not for us.
            if (args.Length == 0 || args[0].Length < 2 || args[0][0] != '-' || !Array.Exists(verbs, v => args.Contains(v.Name)))
                return null;
            (_, List<string> words) = new CriuOptionScanner([.. verbs.SelectMany(OwnOptions)]).Scan(args);
            if (words.Count == 0 || Array.Find(verbs, v => v.Name == words[0]) is not { } found)
                return null;
            verb = found;
        }
        var read = new CriuArguments(verb);
        if (args.Intersect(["--help", "-h", "-?"]).Any())
            read._help = true;
        else
            read.Read(args);
        return read;
    }

    private static bool Acts(Command verb, string name) => verb.Options.Any(option => option.Name == "--" + name);

    private static IEnumerable<CriuOption> OwnOptions(Command verb) => verb.Options
        .Where(option => option.Name != Remark && CriuOption.All.All(criu => "--" + criu.Name != option.Name))
        .Select(option => new CriuOption(
            option.Name[2..], option.ValueType == typeof(bool) ? CriuArity.None : CriuArity.Required));

    private void Read(string[] args)
    {
        var scanner = new CriuOptionScanner([.. OwnOptions(_verb)]);
        (List<CriuOptionScanner.Typed> typed, List<string> words) = scanner.Scan(args);
        string? config = typed.LastOrDefault(option => option.Option.Name == "config").Value;
        bool defaults = config is null && typed.TrueForAll(option => option.Option.Name != "no-default-config");
        foreach (string file in defaults ? CriuConfigFile.Defaults : [])
            ReadFile(file, scanner, isNamed: false);
        if (Environment.GetEnvironmentVariable("CRIU_CONFIG_FILE") is { Length: > 0 } named)
            ReadFile(named, scanner, isNamed: true);
        if (config is not null)
            ReadFile(config, scanner, isNamed: true);
        foreach (CriuOptionScanner.Typed option in typed)
            Take(option);
        if (_accepted.Count > 0)
            _remarks.Add($"of no effect on {_verb.Name}: {string.Join(", ", _accepted)}");
        if (words.Count > 1 && !_help && !AsksVersion)
        {
            throw new BadInputException(
                $"{_verb.Name}: \"{words[1]}\" is no option; expected options only, see testbed {_verb.Name} --help");
        }
    }

    private void ReadFile(string path, CriuOptionScanner scanner, bool isNamed)
    {
        if (CriuConfigFile.Read(path) is not { } entries)
        {
            if (isNamed)
                _remarks.Add($"configuration file {path}: cannot be read, and is passed over");
            return;
        }
        foreach (CriuConfigFile.Entry entry in entries)
        {
            try
            {
                (CriuOption option, bool negated) = scanner.Find(entry.Name);
                if (option.Arity == CriuArity.Required && entry.Value is null)
                    throw new BadInputException($"{entry.Name}: expected a value");
                // What stands behind an option without value is nothing, as with CRIU.
                string? value = option.Arity is CriuArity.None or CriuArity.Switch ? null : entry.Value;
                Take(new CriuOptionScanner.Typed(option, negated, value));
            }
            catch (BadInputException e)
            {
                throw new BadInputException($"{path}: line {entry.Line}: {e.Message.TrimStart('-')}", e);
            }
        }
    }

    private void Take(CriuOptionScanner.Typed typed)
    {
        string name = typed.Option.Name;
        switch (name)
        {
            case "help":
                _help = true;
                return;
            case "version":
                AsksVersion = true;
                return;
            case "config" or "no-default-config":
                return;
            case "close":
                CloseInherited(typed.Value!);
                return;
            case "verbosity":
                CountVerbosity(typed.Value);
                return;
            case "restore-detached":
                name = "daemon";
                break;
        }
        if (!Acts(_verb, name))
        {
            if (!typed.IsNegated)
                _accepted.Add("--" + name);
            return;
        }
        if (typed.Value is { Length: 0 })
            throw new BadInputException($"--{name}: is empty; expected a value");
        if (_verb.Options.First(option => option.Name == "--" + name).Arity.MaximumNumberOfValues <= 1)
            _acting.RemoveAll(option => option.Name == name);
        if (!typed.IsNegated)
            _acting.Add((name, typed.Value));
    }

    /// <summary>-v is one more than usual, -vN and --verbosity=N say how many, -vvv counts its letters.</summary>
    private void CountVerbosity(string? value)
    {
        if (string.IsNullOrEmpty(value))
            _verbosity = (_verbosity ?? UsualVerbosity) + 1;
        else if (value.AsSpan().IndexOfAnyExcept('v') < 0)
            _verbosity = (_verbosity ?? UsualVerbosity) + value.Length + 1;
        else
        {
            _verbosity = int.TryParse(value, out int level) && level >= 0
                ? level
                : throw new BadInputException($"-v{value}: expected -v, -vvv or a number, as in -v4");
        }
    }

    /// <summary>Descriptors that we were given, for which nobody has a use; not the runtime's.</summary>
    private static void CloseInherited(string value)
    {
        if (!int.TryParse(value, out int fd) || fd < 0)
            throw new BadInputException($"--close {value}: expected the number of a descriptor");
        int flags = Syscall.fcntl(fd, FcntlCommand.F_GETFD);
        if (fd > 2 && flags >= 0 && (flags & 1) == 0)
            _ = Syscall.close(fd);
    }
}
