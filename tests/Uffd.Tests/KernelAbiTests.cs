using System.Diagnostics;
using System.Reflection;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using NUnit.Framework;
using Testbed.Uffd.Interop;

namespace Testbed.Uffd.Tests;

/// <summary>
/// What we believe about the kernel's constants and structs, turned into a C file of static asserts for each header and
/// compiled against the headers of this machine.
/// </summary>
public sealed class KernelAbiTests
{
    private const BindingFlags All = BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.Static | BindingFlags.Instance;

    [Test]
    public void ConstantsAndStructsAreThoseOfTheHeaders()
    {
        Dictionary<string, StringBuilder> files = [];
        int asserts = 0;
        foreach (Type type in typeof(UserFaultFd).Assembly.GetTypes())
        {
            if (type.GetCustomAttribute<KernelConstantsAttribute>() is { } constants)
                asserts += AddConstants(FileFor(files, constants.Header), type, constants.Guard);
            if (type.GetCustomAttribute<KernelStructAttribute>() is { } layout)
                asserts += AddStruct(FileFor(files, layout.Header), type, layout);
        }
        Assert.That(asserts, Is.GreaterThan(250), "the reflection found too little");
        Assert.Multiple(() =>
        {
            foreach ((string header, StringBuilder text) in files)
                Assert.That(Compile(text.ToString()), Is.Empty, header);
        });
    }

    [Test]
    public void AWrongConstantFailsToCompile() =>
        Assert.That(Compile("#include <errno.h>\n_Static_assert(EPERM == 2, \"EPERM\");\n"), Does.Contain("EPERM"));

    private static StringBuilder FileFor(Dictionary<string, StringBuilder> files, string header)
    {
        if (files.TryGetValue(header, out StringBuilder? text))
            return text;
        text = new StringBuilder("#define _GNU_SOURCE\n#include <stddef.h>\n#include <stdint.h>\n");
        // The kernel's own headers leave these to whoever includes them.
        if (header is "linux/elf.h" or "linux/userfaultfd.h" or "linux/fs.h")
            text.Append("#include <sys/ioctl.h>\n");
        foreach (string include in header.Split(';'))
            text.Append($"#include <{include}>\n");
        return files[header] = text;
    }

    private static int AddConstants(StringBuilder text, Type type, string? guard)
    {
        int count = 0;
        Guarded(text, guard, () =>
        {
            foreach (FieldInfo field in type.GetFields(All).Where(f => f.IsLiteral))
            {
                string value = Convert.ToDecimal(field.GetRawConstantValue()).ToString();
                text.Append($"_Static_assert((uint64_t)({field.Name}) == (uint64_t){value}ull, \"{field.Name} is not {value}\");\n");
                count++;
            }
        });
        return count;
    }

    private static int AddStruct(StringBuilder text, Type type, KernelStructAttribute layout)
    {
        int count = 1;
        Guarded(text, layout.Guard, () =>
        {
            int size = (int)typeof(Unsafe).GetMethod(nameof(Unsafe.SizeOf))!.MakeGenericMethod(type).Invoke(null, null)!;
            text.Append($"_Static_assert(sizeof({layout.Type}) == {size}, \"sizeof {layout.Type} is not {size}\");\n");
            foreach (FieldInfo field in type.GetFields(All).Where(f => !f.IsStatic))
            {
                string name = field.GetCustomAttribute<KernelFieldAttribute>()?.Path ?? field.Name;
                long offset = (long)Marshal.OffsetOf(type, field.Name);
                text.Append($"_Static_assert(offsetof({layout.Type}, {name}) == {offset}, \"{layout.Type}.{name} is not at {offset}\");\n");
                count++;
            }
        });
        return count;
    }

    private static void Guarded(StringBuilder text, string? guard, Action body)
    {
        if (guard is not null)
            text.Append($"#ifdef {guard}\n");
        body();
        if (guard is not null)
            text.Append("#endif\n");
    }

    private static string Compile(string source)
    {
        ProcessStartInfo start = new("gcc", ["-std=gnu11", "-fsyntax-only", "-x", "c", "-"])
        {
            RedirectStandardInput = true,
            RedirectStandardError = true,
        };
        using Process gcc = Process.Start(start)!;
        gcc.StandardInput.Write(source);
        gcc.StandardInput.Close();
        string errors = gcc.StandardError.ReadToEnd();
        gcc.WaitForExit();
        return gcc.ExitCode == 0 ? "" : errors;
    }
}
