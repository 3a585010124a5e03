using System.Globalization;
using System.Reflection;
using Testbed.Core;

namespace Testbed.Policies;

/// <summary>An option of a policy.</summary>
/// <param name="Name">What one types.</param>
/// <param name="Type">long, int, double, bool or an enum.</param>
/// <param name="Default">Its value when not given.</param>
/// <param name="Summary">One line.</param>
/// <param name="Range">The values that it takes, as a person says it: <c>1 to 65536</c>, <c>recorded or sorted</c>.</param>
public sealed record PolicyOption(string Name, Type Type, object? Default, string Summary, string Range);

/// <summary>
/// All policies by name: every class here that carries a <see cref="PolicyAttribute"/>, and those of other assemblies that
/// were added. A new policy is a new file. Reads one assembly's attributes when first used, and nothing before.
/// </summary>
public static class PolicyCatalog
{
    /// <param name="About">Name, summary, source.</param>
    /// <param name="Constructor">Makes one.</param>
    /// <param name="Parameters">Its options, and where it wants the environment.</param>
    /// <param name="Origin">The outside file that it came from; null for ours.</param>
    private sealed record Entry(PolicyAttribute About, ConstructorInfo Constructor, ParameterInfo[] Parameters, string? Origin);

    private static SortedDictionary<string, Entry> s_byName = Extended(new SortedDictionary<string, Entry>(), typeof(PolicyCatalog).Assembly, null);

    /// <summary>All names, sorted.</summary>
    public static IReadOnlyCollection<string> Names => s_byName.Keys;

    /// <summary>Name, summary and source of a policy.</summary>
    /// <exception cref="BadInputException">No such policy.</exception>
    public static PolicyAttribute About(string name) => Find(name).About;

    /// <summary>The options of a policy, in order.</summary>
    /// <exception cref="BadInputException">No such policy.</exception>
    public static IReadOnlyList<PolicyOption> Options(string name) =>
        [.. Find(name).Parameters.Where(IsOption).Select(p => new PolicyOption(
            OptionName(p), p.ParameterType, p.DefaultValue, p.GetCustomAttribute<PolicyOptionAttribute>()?.Summary ?? "", RangeOf(p)))];

    /// <summary>
    /// Adds the policies of an outside assembly. Before anything is parsed that names them: the catalog is for the whole program.
    /// </summary>
    /// <param name="assembly">An assembly with public classes that carry <see cref="PolicyAttribute"/>.</param>
    /// <param name="origin">Where it came from, for messages.</param>
    /// <returns>The names that were added.</returns>
    /// <exception cref="BadInputException">No policy in it, a name that is taken, or a class that does not fit.</exception>
    public static IReadOnlyList<string> Add(Assembly assembly, string origin)
    {
        SortedDictionary<string, Entry> before = s_byName;
        SortedDictionary<string, Entry> after = Extended(before, assembly, origin);
        if (after.Count == before.Count)
            throw new BadInputException($"{origin}: no policy in it; expected a public class with [Policy(\"name\", \"summary\")] that implements IPolicy");
        s_byName = after;
        return [.. after.Keys.Except(before.Keys)];
    }

    /// <summary>Understands <c>name:option=value,option=value</c>, and combinations: <c>A + B</c> (prefetch by A, the rest in the
    /// order of B), <c>A then B</c> (B where A has nothing to say), <c>A limit N</c> (N pages on a fault at most).</summary>
    /// <exception cref="BadInputException">No such policy or option, or a value out of its range.</exception>
    public static PolicySpec Parse(string text) => PolicyText.Parse(text);

    /// <summary>One policy of a combination.</summary>
    /// <param name="whole">All that was typed, for messages.</param>
    /// <param name="text">This policy's part of it.</param>
    /// <param name="isLast">If not, it leaves the background to those behind it.</param>
    internal static PolicySpec ParseOne(string whole, string text, bool isLast)
    {
        int colon = text.IndexOf(':', StringComparison.Ordinal);
        string name = colon < 0 ? text : text[..colon];
        Entry entry = Find(name);
        ParameterInfo[] parameters = entry.Parameters;
        object?[] arguments = [.. parameters.Select(p => p.HasDefaultValue ? p.DefaultValue : null)];
        int background = Array.FindIndex(parameters, p => p.Name == "background" && p.ParameterType == typeof(bool));
        if (!isLast && background >= 0)
            arguments[background] = false;
        foreach (string pair in colon < 0 ? [] : text[(colon + 1)..].Split(','))
        {
            int equals = pair.IndexOf('=', StringComparison.Ordinal);
            string option = equals < 0 ? pair : pair[..equals];
            int i = Array.FindIndex(parameters, p => IsOption(p) && OptionName(p) == option);
            if (i < 0 || equals < 0)
                throw new BadInputException($"policy {whole}: no option \"{option}\"; {Expected(entry)}");
            arguments[i] = ParseValue(whole, parameters[i], pair[(equals + 1)..]);
        }
        return new PolicySpec(text, entry.About, environment => Create(entry, arguments, environment));
    }

    private static IPolicy Create(Entry entry, object?[] arguments, PolicyEnvironment environment)
    {
        object?[] all = [.. entry.Parameters.Select((p, i) => IsOption(p) ? arguments[i] : environment)];
        try
        {
            var policy = (IPolicy)entry.Constructor.Invoke(BindingFlags.DoNotWrapExceptions, null, all, CultureInfo.InvariantCulture);
            return entry.Origin is null ? policy : new OutsidePolicy(policy, entry.About.Name, entry.Origin);
        }
        catch (Exception e) when (entry.Origin is not null)
        {
            throw OutsidePolicy.Blamed(e, entry.Constructor.DeclaringType!.Assembly, entry.About.Name, entry.Origin);
        }
    }

    private static object ParseValue(string policy, ParameterInfo option, string value)
    {
        Type type = option.ParameterType;
        if (type == typeof(bool) && bool.TryParse(value, out bool flag))
            return flag;
        // Names only: Enum.TryParse takes numbers too.
        if (type.IsEnum && Array.Find(Enum.GetNames(type), n => n.Equals(value, StringComparison.OrdinalIgnoreCase)) is { } member)
            return Enum.Parse(type, member);
        if (type == typeof(double) && double.TryParse(value, NumberStyles.Float, CultureInfo.InvariantCulture, out double real)
            && real >= Bounds(option).Min && real <= Bounds(option).Max)
            return real;
        if ((type == typeof(int) || type == typeof(long)) && long.TryParse(value, CultureInfo.InvariantCulture, out long number)
            && number >= Bounds(option).Min && number <= Bounds(option).Max)
        {
            // Boxed one by one: the branches of ?: would both become long.
            return type == typeof(int) ? (object)(int)number : number;
        }
        throw new BadInputException($"policy {policy}: {OptionName(option)}={value}; expected {RangeOf(option)}");
    }

    private static (long Min, long Max) Bounds(ParameterInfo option)
    {
        PolicyOptionAttribute? about = option.GetCustomAttribute<PolicyOptionAttribute>();
        (long min, long max) = (about?.Min ?? long.MinValue, about?.Max ?? long.MaxValue);
        return option.ParameterType == typeof(int) ? (Math.Max(min, int.MinValue), Math.Min(max, int.MaxValue)) : (min, max);
    }

    private static string RangeOf(ParameterInfo option)
    {
        if (option.ParameterType.IsEnum)
            return string.Join(" or ", Enum.GetNames(option.ParameterType)).ToLowerInvariant();
        if (option.ParameterType == typeof(bool))
            return "true or false";
        (long min, long max) = Bounds(option);
        return option.ParameterType == typeof(double) && min == long.MinValue ? "a number" : $"{min} to {max}";
    }

    private static string Expected(Entry entry)
    {
        string[] names = [.. entry.Parameters.Where(IsOption).Select(p => $"{OptionName(p)}=…")];
        return names.Length == 0 ? $"{entry.About.Name} has none" : $"expected {string.Join(", ", names)}";
    }

    private static bool IsOption(ParameterInfo parameter) => parameter.ParameterType != typeof(PolicyEnvironment);

    /// <summary>maxChunk is typed max-chunk.</summary>
    private static string OptionName(ParameterInfo parameter) =>
        string.Concat(parameter.Name!.Select(c => char.IsUpper(c) ? "-" + char.ToLowerInvariant(c) : c.ToString()));

    private static Entry Find(string name) =>
        s_byName.TryGetValue(name, out Entry? entry) ? entry
            : throw new BadInputException($"policy \"{name}\": no such policy; expected one of {string.Join(", ", s_byName.Keys)}");

    private static SortedDictionary<string, Entry> Extended(SortedDictionary<string, Entry> known, Assembly assembly, string? origin)
    {
        var all = new SortedDictionary<string, Entry>(known, StringComparer.Ordinal);
        foreach (Type type in assembly.GetTypes())
        {
            if (type.GetCustomAttribute<PolicyAttribute>() is not { } about)
                continue;
            if (Misfit(type, about) is { } misfit)
                throw new BadInputException($"{origin}: policy class {type.Name}: {misfit}");
            ConstructorInfo constructor = type.GetConstructors()[0];
            if (!all.TryAdd(about.Name, new Entry(about, constructor, constructor.GetParameters(), origin)))
                throw new BadInputException($"{origin}: policy \"{about.Name}\": there is one of this name already; expected another name");
        }
        return all;
    }

    /// <summary>What keeps a class from being a policy; null when nothing does.</summary>
    private static string? Misfit(Type type, PolicyAttribute about)
    {
        if (!typeof(IPolicy).IsAssignableFrom(type) || type.IsAbstract)
            return "does not implement IPolicy; expected OnFault and OnIdle";
        if (about.Name.Length == 0 || !char.IsAsciiLetterLower(about.Name[0]) || about.Name.Any(c => !char.IsAsciiLetterLower(c) && !char.IsAsciiDigit(c) && c != '-'))
            return $"is named \"{about.Name}\"; expected small letters, digits and -";
        if (type.GetConstructors() is not [{ } constructor])
            return $"has {type.GetConstructors().Length} public constructors; expected one";
        foreach (ParameterInfo p in constructor.GetParameters().Where(IsOption))
        {
            if (!p.ParameterType.IsEnum && p.ParameterType != typeof(int) && p.ParameterType != typeof(long) && p.ParameterType != typeof(double) && p.ParameterType != typeof(bool))
                return $"option {p.Name} is of type {p.ParameterType.Name}; expected int, long, double, bool or an enum";
            if (!p.HasDefaultValue)
                return $"option {p.Name} has no default; expected one";
        }
        return null;
    }
}
