using Testbed.Core;

namespace Testbed.Cli;

/// <summary>
/// Takes words of a command line apart as getopt_long does for CRIU: options anywhere, short ones in one word, values
/// in the same word or the next one, long names shortened while they are clear, and after -- no options any more.
/// </summary>
/// <param name="own">Options beside CRIU's. They may be shortened where CRIU's have no such beginning.</param>
internal sealed class CriuOptionScanner(IReadOnlyList<CriuOption> own)
{
    /// <summary>An option as it was typed.</summary>
    internal readonly record struct Typed(CriuOption Option, bool IsNegated, string? Value);

    /// <summary>Reads a whole command line.</summary>
    /// <returns>The options in order, and all words that are none.</returns>
    /// <exception cref="BadInputException">An option does not exist, or its value is missing.</exception>
    public (List<Typed> Options, List<string> Words) Scan(IReadOnlyList<string> args)
    {
        var options = new List<Typed>();
        var words = new List<string>();
        for (int i = 0; i < args.Count; i++)
        {
            string arg = args[i];
            if (arg == "--")
            {
                words.AddRange(args.Skip(i + 1));
                break;
            }
            if (arg.StartsWith("--", StringComparison.Ordinal))
                options.Add(Long(arg, args, ref i));
            else if (arg.Length > 1 && arg[0] == '-')
                Short(arg, args, ref i, options);
            else
                words.Add(arg);
        }
        return (options, words);
    }

    /// <summary>The option of this long name, or of the only one that begins so.</summary>
    /// <exception cref="BadInputException">There is none, or several.</exception>
    public (CriuOption Option, bool IsNegated) Find(string name)
    {
        foreach (IReadOnlyList<CriuOption> options in (IReadOnlyList<CriuOption>[])[CriuOption.All, own])
        {
            if (options.SelectMany(Spellings).FirstOrDefault(s => s.Spelling == name) is { Option: not null } exact)
                return (exact.Option, exact.IsNegated);
        }
        foreach (IReadOnlyList<CriuOption> options in (IReadOnlyList<CriuOption>[])[CriuOption.All, own])
        {
            var close = options.SelectMany(Spellings)
                .Where(s => name.Length > 0 && s.Spelling.StartsWith(name, StringComparison.Ordinal)).ToList();
            if (close.Count == 1)
                return (close[0].Option, close[0].IsNegated);
            if (close.Count > 1)
            {
                string all = string.Join(", ", close.Select(s => "--" + s.Spelling));
                throw new BadInputException($"--{name}: could be {all}; expected one of them");
            }
        }
        throw new BadInputException($"--{name}: no such option; expected one of CRIU's, or of ours that --help lists");
    }

    private static IEnumerable<(string Spelling, CriuOption Option, bool IsNegated)> Spellings(CriuOption option) =>
        option.Arity == CriuArity.Switch
            ? [(option.Name, option, false), ("no-" + option.Name, option, true)]
            : [(option.Name, option, false)];

    private Typed Long(string arg, IReadOnlyList<string> args, ref int i)
    {
        int equals = arg.IndexOf('=');
        string name = equals < 0 ? arg[2..] : arg[2..equals];
        string? value = equals < 0 ? null : arg[(equals + 1)..];
        (CriuOption option, bool negated) = Find(name);
        switch (option.Arity)
        {
            case CriuArity.None or CriuArity.Switch when value is not null:
                throw new BadInputException($"--{name}={value}: expected --{name}, without a value");
            case CriuArity.Required when value is null:
                value = Next($"--{name}", args, ref i);
                break;
            // getopt would take the number for a word, of which no verb has a use.
            case CriuArity.Optional when value is null && option.Name == "verbosity" && i + 1 < args.Count && IsNumber(args[i + 1]):
                value = args[++i];
                break;
        }
        return new Typed(option, negated, value);
    }

    private static void Short(string arg, IReadOnlyList<string> args, ref int i, List<Typed> options)
    {
        for (int at = 1; at < arg.Length; at++)
        {
            char letter = arg[at];
            CriuOption option = CriuOption.All.FirstOrDefault(o => o.Short == letter)
                ?? throw new BadInputException($"-{letter} in {arg}: no such option; expected one of CRIU's, or of ours that --help lists");
            if (option.Arity is CriuArity.None or CriuArity.Switch)
            {
                options.Add(new Typed(option, false, null));
                continue;
            }
            string? value = at + 1 < arg.Length ? arg[(at + 1)..] : null;
            if (value is null && option.Arity == CriuArity.Required)
                value = Next($"-{letter}", args, ref i);
            options.Add(new Typed(option, false, value));
            return;
        }
    }

    private static bool IsNumber(string word) => word.Length > 0 && word.All(char.IsAsciiDigit);

    private static string Next(string name, IReadOnlyList<string> args, ref int i) =>
        ++i < args.Count ? args[i] : throw new BadInputException($"{name}: expected a value");
}
