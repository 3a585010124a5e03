using System.Globalization;
using System.Reflection;
using Testbed.Core;

namespace Testbed.Policies;

/// <summary>An option of a policy.</summary>
/// <param name="Name">What one types.</param>
/// <param name="Type">long, int, double, bool or an enum.</param>
/// <param name="Default">Its value when not given.</param>
/// <param name="Summary">One line.</param>
public sealed record PolicyOption(string Name, Type Type, object? Default, string Summary);

/// <summary>A policy with all its options set, ready to be made for each address space.</summary>
public sealed class PolicySpec
{
    private readonly ConstructorInfo _constructor;
    private readonly object?[] _arguments;

    internal PolicySpec(string text, PolicyAttribute about, ConstructorInfo constructor, object?[] arguments) =>
        (Text, About, _constructor, _arguments) = (text, about, constructor, arguments);

    /// <summary>As typed: <c>next-n:n=16</c>.</summary>
    public string Text { get; }

    /// <summary>Name, summary, source.</summary>
    public PolicyAttribute About { get; }

    /// <summary>The transfer configuration that belongs to it.</summary>
    public TransferOptions DefaultTransfer => About.CriuTransfer ? TransferOptions.Criu : new TransferOptions();

    /// <summary>A new policy object for one address space.</summary>
    public IPolicy Create(PolicyEnvironment environment)
    {
        object?[] arguments = [.. _arguments];
        ParameterInfo[] parameters = _constructor.GetParameters();
        for (int i = 0; i < parameters.Length; i++)
        {
            if (parameters[i].ParameterType == typeof(PolicyEnvironment))
                arguments[i] = environment;
        }
        return (IPolicy)_constructor.Invoke(arguments);
    }
}

/// <summary>
/// All policies by name: every class here that carries a <see cref="PolicyAttribute"/>. A new policy is a new file.
/// </summary>
public static class PolicyCatalog
{
    private static readonly SortedDictionary<string, Type> ByName = Find();

    /// <summary>All names, sorted.</summary>
    public static IReadOnlyCollection<string> Names => ByName.Keys;

    /// <summary>Name, summary and source of a policy.</summary>
    public static PolicyAttribute About(string name) => TypeOf(name).GetCustomAttribute<PolicyAttribute>()!;

    /// <summary>The options of a policy, in order.</summary>
    public static IReadOnlyList<PolicyOption> Options(string name) =>
        [.. OptionParameters(ConstructorOf(TypeOf(name))).Select(p => new PolicyOption(
            OptionName(p), p.ParameterType, p.DefaultValue, p.GetCustomAttribute<PolicyOptionAttribute>()?.Summary ?? ""))];

    /// <summary>Understands <c>name</c> or <c>name:option=value,option=value</c>.</summary>
    /// <exception cref="BadInputException">No such policy or option, or a value out of its range.</exception>
    public static PolicySpec Parse(string text)
    {
        int colon = text.IndexOf(':', StringComparison.Ordinal);
        string name = colon < 0 ? text : text[..colon];
        Type type = TypeOf(name);
        ConstructorInfo constructor = ConstructorOf(type);
        ParameterInfo[] parameters = constructor.GetParameters();
        object?[] arguments = [.. parameters.Select(p => p.HasDefaultValue ? p.DefaultValue : null)];
        foreach (string pair in colon < 0 ? [] : text[(colon + 1)..].Split(','))
        {
            int equals = pair.IndexOf('=', StringComparison.Ordinal);
            string option = equals < 0 ? pair : pair[..equals];
            int i = Array.FindIndex(parameters, p => OptionName(p) == option && p.ParameterType != typeof(PolicyEnvironment));
            if (i < 0 || equals < 0)
                throw new BadInputException($"policy {text}: no option \"{option}\"; {Expected(constructor, name)}");
            arguments[i] = ParseValue(text, parameters[i], pair[(equals + 1)..]);
        }
        return new PolicySpec(text, type.GetCustomAttribute<PolicyAttribute>()!, constructor, arguments);
    }

    private static object ParseValue(string policy, ParameterInfo option, string value)
    {
        PolicyOptionAttribute? bounds = option.GetCustomAttribute<PolicyOptionAttribute>();
        Type type = option.ParameterType;
        string name = OptionName(option);
        if (type == typeof(bool) && bool.TryParse(value, out bool flag))
            return flag;
        if (type.IsEnum && Enum.TryParse(type, value, ignoreCase: true, out object? member) && Enum.IsDefined(type, member))
            return member;
        if (type == typeof(double) && double.TryParse(value, NumberStyles.Float, CultureInfo.InvariantCulture, out double real))
            return real;
        if ((type == typeof(int) || type == typeof(long)) && long.TryParse(value, CultureInfo.InvariantCulture, out long number))
        {
            long min = Math.Max(bounds?.Min ?? long.MinValue, type == typeof(int) ? int.MinValue : long.MinValue);
            long max = Math.Min(bounds?.Max ?? long.MaxValue, type == typeof(int) ? int.MaxValue : long.MaxValue);
            if (number < min || number > max)
                throw new BadInputException($"policy {policy}: {name}={value}; expected {min} to {max}");
            // Boxed one by one: the branches of ?: would both become long.
            return type == typeof(int) ? (object)(int)number : number;
        }
        string expected = type.IsEnum ? string.Join(" or ", Enum.GetNames(type)).ToLowerInvariant()
            : type == typeof(bool) ? "true or false" : "a number";
        throw new BadInputException($"policy {policy}: {name}={value}; expected {expected}");
    }

    private static string Expected(ConstructorInfo constructor, string name)
    {
        string[] names = [.. OptionParameters(constructor).Select(p => $"{OptionName(p)}=…")];
        return names.Length == 0 ? $"{name} has none" : $"expected {string.Join(", ", names)}";
    }

    private static IEnumerable<ParameterInfo> OptionParameters(ConstructorInfo constructor) =>
        constructor.GetParameters().Where(p => p.ParameterType != typeof(PolicyEnvironment));

    /// <summary>maxChunk is typed max-chunk.</summary>
    private static string OptionName(ParameterInfo parameter) =>
        string.Concat(parameter.Name!.Select(c => char.IsUpper(c) ? "-" + char.ToLowerInvariant(c) : c.ToString()));

    private static ConstructorInfo ConstructorOf(Type type) => type.GetConstructors().Single();

    private static Type TypeOf(string name) =>
        ByName.TryGetValue(name, out Type? type) ? type
            : throw new BadInputException($"policy \"{name}\": no such policy; expected one of {string.Join(", ", ByName.Keys)}");

    private static SortedDictionary<string, Type> Find()
    {
        var found = new SortedDictionary<string, Type>(StringComparer.Ordinal);
        foreach (Type type in typeof(PolicyCatalog).Assembly.GetTypes())
        {
            if (type.GetCustomAttribute<PolicyAttribute>() is { } about)
                found.Add(about.Name, type);
        }
        return found;
    }
}
