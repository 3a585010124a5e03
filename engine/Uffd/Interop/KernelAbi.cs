namespace Testbed.Uffd.Interop;

/// <summary>The constants of this class are the macros or enumerators of the same names in a kernel or libc header.</summary>
[AttributeUsage(AttributeTargets.Class)]
internal sealed class KernelConstantsAttribute(string header) : Attribute
{
    /// <summary>The header, as in an include directive.</summary>
    public string Header { get; } = header;

    /// <summary>A macro without which the header is older than what is described here, or null.</summary>
    public string? Guard { get; init; }
}

/// <summary>This struct has the size and the field offsets of a C type; fields have the same names.</summary>
[AttributeUsage(AttributeTargets.Struct)]
internal sealed class KernelStructAttribute(string type, string header) : Attribute
{
    /// <summary>The C type.</summary>
    public string Type { get; } = type;

    /// <summary>The header, as in an include directive.</summary>
    public string Header { get; } = header;

    /// <summary>A macro without which the header is older than what is described here, or null.</summary>
    public string? Guard { get; init; }
}

/// <summary>A field whose C name is not an identifier of C# (a member of a union, or a keyword).</summary>
[AttributeUsage(AttributeTargets.Field)]
internal sealed class KernelFieldAttribute(string path) : Attribute
{
    /// <summary>The member as offsetof takes it.</summary>
    public string Path { get; } = path;
}
